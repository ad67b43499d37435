//! The secret that authenticates compiled code in the cache.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The secret of a cache: drawn when the cache is first used, and kept beside what it protects, in a folder that only its
/// owner can enter.
pub(super) fn kept_in(folder: &Path) -> io::Result<[u8; 32]> {
    let file = folder.join("key");
    let mut key = [0; 32];
    let kept = match File::open(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // Put in place whole and once: nobody reads half a key, and of several that draw one the first one's stays.
            let mut aside = tempfile::NamedTempFile::new_in(folder)?;
            aside.write_all(&key)?;
            match aside.persist_noclobber(&file) {
                Ok(_) => return Ok(key),
                Err(late) if late.error.kind() == io::ErrorKind::AlreadyExists => File::open(&file),
                Err(other) => Err(other.error),
            }
        }
        kept => kept,
    };
    kept?.read_exact(&mut key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    #[test]
    fn all_that_begin_with_a_new_folder_at_once_share_one_key() {
        for _ in 0..50 {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("cache");
            let together = Barrier::new(8);
            let keys: BTreeSet<_> = std::thread::scope(|scope| {
                let kept = || {
                    together.wait();
                    super::kept_in(&folder).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(kept)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(keys.len(), 1);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside the key");
        }
    }
}
