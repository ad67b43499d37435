//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a configuration cannot be used: an operator's mistake, never a plugin's.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {source}", file = file.display())]
    Read {
        /// The file that was asked for.
        file: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Its contents are wrong. All that is wrong is listed, in the file's order, so that one round mends it.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One mistake: where it is, which key it concerns, and what is allowed there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, where the configuration came from one.
    pub file: Option<String>,
    /// Line and column, from 1; the column counts characters.
    pub position: Option<(usize, usize)>,
    /// The key, such as `routes[0].publisher.listen`.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if self.file.is_some() || self.position.is_some() {
            write!(f, " ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.message)
    }
}

/// The way to a value: keys and places in lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The document itself.
    pub const ROOT: Self = Self(Vec::new());

    /// The value under `key` in the table at this path.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Key(key.into()));
        path
    }

    /// The value at `index`, from 0, in the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if place == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// The text that a configuration was read from, to find a key's place in it again.
#[derive(Clone, Debug)]
pub struct Origin {
    /// As the operator named it.
    pub file: PathBuf,
    /// All of it.
    pub text: String,
}

impl Origin {
    /// The problem with the value at `path`, or with what is missing there.
    pub(crate) fn problem(&self, path: &KeyPath, message: impl Into<String>) -> Problem {
        let offset = DeTable::parse(&self.text).ok().and_then(|document| locate(document.get_ref(), path));
        self.problem_at(offset, path, message)
    }

    /// The problem at a byte of the text.
    pub(crate) fn problem_at(&self, offset: Option<usize>, path: &KeyPath, message: impl Into<String>) -> Problem {
        Problem {
            file: Some(self.file.display().to_string()),
            position: offset.map(|offset| position(&self.text, offset)),
            key: path.to_string(),
            message: message.into(),
        }
    }
}

/// Where a value stands; where it does not, the innermost value on the way to it that does. A key's own place is
/// preferred to its value's, because a table that is spread over several headers has no single place.
fn locate(document: &DeTable<'_>, path: &KeyPath) -> Option<usize> {
    let mut found = None;
    let mut table = Some(document);
    let mut list: Option<&[Spanned<DeValue<'_>>]> = None;
    for segment in &path.0 {
        let step = match segment {
            Segment::Key(name) => table
                .and_then(|table| table.iter().find(|(key, _)| key.get_ref() == name.as_str()))
                .map(|(key, value)| (key.span().start, value)),
            Segment::Index(index) => list.and_then(|list| list.get(*index)).map(|value| (value.span().start, value)),
        };
        let Some((at, value)) = step else { break };
        found = Some(at);
        table = value.get_ref().as_table();
        list = value.get_ref().as_array().map(|array| &**array);
    }
    found
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The nearest of the words that are allowed, for a word that is not.
pub(crate) fn nearest<'w>(word: &str, allowed: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    allowed
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
