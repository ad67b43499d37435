//! Reads a parsed TOML document key by key and notes everything that is wrong with it, not only the first thing.
//!
//! A value that cannot be used reads as `None` after its problem was noted. Callers go on with a default: a document
//! with problems never becomes a configuration.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::problem::{KeyPath, nearest};
use super::units;

/// Problems in the order in which they were found.
#[derive(Default)]
pub(super) struct Notes(RefCell<Vec<(KeyPath, String)>>);

impl Notes {
    pub(super) fn into_inner(self) -> Vec<(KeyPath, String)> {
        self.0.into_inner()
    }

    fn add(&self, path: &KeyPath, message: String) {
        self.0.borrow_mut().push((path.clone(), message));
    }
}

/// A value and the way to it.
pub(super) struct Node<'d> {
    notes: &'d Notes,
    path: KeyPath,
    value: &'d DeValue<'d>,
}

impl<'d> Node<'d> {
    /// Notes that this value cannot be used.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.notes.add(&self.path, message.into());
        None
    }

    fn expected<T>(&self, what: impl Display) -> Option<T> {
        self.refuse(format!("expected {what}, found {}", describe(self.value)))
    }

    pub(super) fn text(&self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.expected("a string"),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub(super) fn is_false(&self) -> bool {
        matches!(self.value, DeValue::Boolean(false))
    }

    /// A string that is not empty.
    pub(super) fn name(&self) -> Option<String> {
        match self.text()? {
            "" => self.refuse("a name has at least one character"),
            name => Some(name.to_owned()),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.expected("true or false"),
        }
    }

    pub(super) fn integer<T: TryFrom<i64> + Into<i64> + Copy>(&self, range: RangeInclusive<T>) -> Option<T> {
        let (low, high) = ((*range.start()).into(), (*range.end()).into());
        let DeValue::Integer(integer) = self.value else {
            return self.expected(format!("an integer from {low} to {high}"));
        };
        let value = i64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|v| (low..=high).contains(v));
        match value.and_then(|value| T::try_from(value).ok()) {
            Some(value) => Some(value),
            None => self.refuse(format!("{integer} is out of range; allowed: {low} to {high}")),
        }
    }

    /// A string in a form of its own; `what` describes the form, with an example.
    pub(super) fn parsed<T>(&self, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        match self.value {
            DeValue::String(text) => match parse(text) {
                Some(value) => Some(value),
                None => self.refuse(format!("\"{text}\" is not {what}")),
            },
            _ => self.expected(what),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let allowed = quoted(words());
        let DeValue::String(text) = self.value else { return self.expected(format!("one of {allowed}")) };
        match choices.iter().find(|(word, _)| word == text) {
            Some((_, choice)) => Some(choice.clone()),
            None => self.refuse(format!("\"{text}\" is not known{}; allowed: {allowed}", hint(text, words()))),
        }
    }

    /// A duration with its unit, such as `"500ms"`.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let limits = || format!("{} to {}", units::format(*range.start()), units::format(*range.end()));
        let value = self.parsed("a duration such as \"500ms\", \"2s\" or \"1m\"", units::parse)?;
        if range.contains(&value) {
            return Some(value);
        }
        self.refuse(format!("{} is out of range; allowed: {}", units::format(value), limits()))
    }

    /// A duration, or `false` for never.
    pub(super) fn duration_or_never(&self, range: RangeInclusive<Duration>) -> Option<Option<Duration>> {
        match self.value {
            DeValue::Boolean(false) => Some(None),
            DeValue::Boolean(true) => self.refuse("expected a duration such as \"500ms\", or false; found true"),
            _ => self.duration(range).map(Some),
        }
    }

    /// A list; elements that cannot be used are left out after they were noted.
    pub(super) fn list<T>(&self, read: impl Fn(Node<'d>) -> Option<T>) -> Option<Vec<T>> {
        let DeValue::Array(array) = self.value else { return self.expected("a list") };
        let node = |(index, value): (usize, &'d toml::Spanned<DeValue<'d>>)| Node {
            notes: self.notes,
            path: self.path.index(index),
            value: value.get_ref(),
        };
        Some(array.iter().enumerate().map(node).filter_map(read).collect())
    }

    pub(super) fn fields(&self) -> Option<Fields<'d>> {
        match self.value {
            DeValue::Table(table) => Some(Fields::new(self.notes, self.path.clone(), table)),
            _ => self.expected("a table"),
        }
    }

    /// The value as JSON, for a plugin.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        use serde_json::Value;
        Some(match self.value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(value) => value.into(),
                Err(_) => return self.refuse(format!("{integer} is out of range; integers have at most 64 bits")),
            },
            DeValue::Float(float) => match float.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
                Some(number) => Value::Number(number),
                None => return self.refuse(format!("{float} has no equal in JSON, which plugins are given")),
            },
            DeValue::Datetime(date) => {
                return self.refuse(format!("{date} has no equal in JSON, which plugins are given; write a string"));
            }
            DeValue::Array(_) => Value::Array(self.list(|element| element.json())?),
            DeValue::Table(table) => {
                let member = |(key, value): (&'d toml::Spanned<_>, &'d toml::Spanned<_>)| {
                    let key: &std::borrow::Cow<'_, str> = key.get_ref();
                    let path = self.path.key(key.as_ref());
                    Some((key.to_string(), Node { notes: self.notes, path, value: value.get_ref() }.json()?))
                };
                Value::Object(table.iter().filter_map(member).collect())
            }
        })
    }
}

/// A table that is being read. `finish` refuses what was not asked for.
pub(super) struct Fields<'d> {
    notes: &'d Notes,
    path: KeyPath,
    table: &'d DeTable<'d>,
    asked: Vec<&'static str>,
}

impl<'d> Fields<'d> {
    pub(super) fn new(notes: &'d Notes, path: KeyPath, table: &'d DeTable<'d>) -> Self {
        Self { notes, path, table, asked: Vec::new() }
    }

    /// The value of a key that may be absent. `None` also where it is there and cannot be used.
    pub(super) fn get<T>(&mut self, key: &'static str, read: impl FnOnce(Node<'d>) -> Option<T>) -> Option<T> {
        self.asked.push(key);
        let value = self.table.get(key)?;
        read(Node { notes: self.notes, path: self.path.key(key), value: value.get_ref() })
    }

    /// The value of a key that has to be there; `what` says what it is, with an example.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        what: &str,
        read: impl FnOnce(Node<'d>) -> Option<T>,
    ) -> Option<T> {
        if self.table.get(key).is_none() {
            self.asked.push(key);
            self.notes.add(&self.path, format!("`{key}` is missing: {what}"));
            return None;
        }
        self.get(key, read)
    }

    /// Every key of a table whose keys are names the operator chose, in the document's order.
    pub(super) fn named<T>(&self, read: impl Fn(&str, Node<'d>) -> Option<T>) -> Vec<(String, T)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&'d toml::Spanned<std::borrow::Cow<'d, str>>, &'d toml::Spanned<DeValue<'d>>)| {
            let name = key.get_ref().to_string();
            let node = Node { notes: self.notes, path: self.path.key(&*name), value: value.get_ref() };
            read(&name, node).map(|value| (name, value))
        };
        entries.into_iter().filter_map(entry).collect()
    }

    /// Notes what is wrong with the table as a whole.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.notes.add(&self.path, message.into());
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Refuses keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.iter() {
            let key = key.get_ref().as_ref();
            if !self.asked.contains(&key) {
                let hint = hint(key, self.asked.iter().copied());
                let allowed = self.asked.join(", ");
                self.notes.add(&self.path.key(key), format!("unknown key{hint}; allowed: {allowed}"));
            }
        }
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{text}\""),
        DeValue::Integer(integer) => format!("the integer {integer}"),
        DeValue::Float(float) => format!("the number {float}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn hint<'w>(word: &str, allowed: impl IntoIterator<Item = &'w str>) -> String {
    nearest(word, allowed).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default()
}

/// `"a", "b", "c"`.
pub(super) fn quoted<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
