//! Compiled code kept between runs. What is loaded runs as native code, so an entry is authenticated before it is used:
//! a changed byte, another wasmtime, other settings or another processor make it a miss.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const TAG: usize = 32;

/// A folder of compiled code that only its owner can read or write, and the key that authenticates what is in it.
#[derive(Clone)]
pub struct Cache {
    folder: PathBuf,
    key: [u8; 32],
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or looked at.
    #[error("the cache folder {folder}: {error}")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others could put code there.
    #[error("the cache folder {folder} is open to others (mode {mode:o}); make it yours alone: chmod 700 {folder}")]
    Open {
        /// The folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Cache {
    /// Uses `folder`, made with mode 700 where it does not exist. `key` is a secret of 32 random bytes that stays the
    /// same from run to run; entries made under another key are misses.
    pub fn open(folder: impl Into<PathBuf>, key: [u8; 32]) -> Result<Self, CacheError> {
        let folder = folder.into();
        let io = |error| CacheError::Io { folder: folder.clone(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(io)?;
        let metadata = fs::metadata(&folder).map_err(io)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 || metadata.uid() != owner(&folder).map_err(io)? {
            return Err(CacheError::Open { folder, mode });
        }
        Ok(Self { folder, key })
    }

    /// The compiled code under `name`, if it is there and authentic.
    pub(crate) fn load(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.folder.join(name)).ok()?;
        let code = bytes.len().checked_sub(TAG)?;
        self.mac(name, &bytes[..code]).verify_slice(&bytes[code..]).ok()?;
        bytes.truncate(code);
        Some(bytes)
    }

    /// Keeps compiled code under `name`: written aside and renamed, so that a reader sees all of it or nothing.
    pub(crate) fn store(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(code)?;
        file.write_all(&self.mac(name, code).finalize().into_bytes())?;
        file.persist(self.folder.join(name))?;
        Ok(())
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        // HMAC pads a short key with zeroes to the hash's block (RFC 2104, 2).
        let mut key = [0; 64];
        key[..self.key.len()].copy_from_slice(&self.key);
        let mut mac = Hmac::<Sha256>::new(&key.into());
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(code);
        mac
    }
}

/// Who this process writes as, learned by writing: files that it makes are its own.
fn owner(folder: &Path) -> io::Result<u32> {
    Ok(tempfile::tempfile_in(folder)?.metadata()?.uid())
}
