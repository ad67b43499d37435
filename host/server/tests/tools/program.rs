//! Running the program, and what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// What came of a run.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {}\n{}", self.out, self.err))
    }

    /// The same, of a run that went well.
    #[track_caller]
    pub(crate) fn fine(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }

    /// Asserts that it failed as a program should: with these words, and without a panic.
    #[track_caller]
    pub(crate) fn fails_with(&self, words: &[&str]) {
        let said = format!("{}{}", self.out, self.err);
        assert!([1, 2].contains(&self.code), "exit {}: {said}", self.code);
        assert!(!said.contains("panicked"), "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }
}

/// Runs the program in a folder.
pub(crate) fn sandbar(folder: &Path, arguments: &[&str]) -> Said {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_sandbar"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("SANDBAR_LOG")
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    Said { code: status.code().expect("it ends by itself"), out: text(stdout), err: text(stderr) }
}

/// A folder of a test's own.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Writes a file.
pub(crate) fn file(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, bytes).expect("a file");
    file
}
