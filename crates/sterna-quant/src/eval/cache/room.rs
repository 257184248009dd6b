//! Keeping a cache under its limit.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{PART_EXTENSION, is_ours};

/// Removes files from `directory`, the one used longest ago first, until `needed` more bytes stay under `limit`.
///
/// # Errors
/// `needed` alone is over the limit; the directory cannot be read.
pub(super) fn make(directory: &Path, limit: u64, needed: u64) -> io::Result<()> {
    if needed > limit {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let (needed, limit) = (gib(needed), gib(limit));
        return Err(io::Error::other(format!("they take {needed:.2} GiB, the limit is {limit:.2} GiB")));
    }
    let mut files = files(directory)?;
    files.sort();
    let mut total: u64 = files.iter().map(|(_, n_bytes, _)| n_bytes).sum();
    for (_, n_bytes, path) in files {
        if total + needed <= limit {
            break;
        }
        std::fs::remove_file(path)?;
        total -= n_bytes;
    }
    Ok(())
}

/// When each was used last, and how large it is.
fn files(directory: &Path) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.is_file() && is_ours(&path) && !is_being_written(&path) {
            files.push((metadata.modified()?, metadata.len(), path));
        }
    }
    Ok(files)
}

/// Whether `path` is a part that another process is still writing.
fn is_being_written(path: &Path) -> bool {
    let is_part = path.extension().is_some_and(|extension| extension == PART_EXTENSION);
    let lock = || File::open(path).map(|file| file.try_lock());
    is_part && matches!(lock(), Ok(Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn the_oldest_makes_room_and_strangers_stay() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, age: u64| {
            let path = directory.path().join(name);
            std::fs::write(&path, [0; 100]).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let old = put(&format!("{}.logits", "a".repeat(64)), 300);
        let part = put(&format!("{}.part", "b".repeat(64)), 200);
        let new = put(&format!("{}.logits", "c".repeat(64)), 100);
        let stranger = put("holiday.logits", 900);

        make(directory.path(), 350, 50).unwrap();
        assert!(old.exists() && part.exists() && new.exists());
        make(directory.path(), 350, 150).unwrap();
        assert!(!old.exists() && part.exists() && new.exists());
        let writer = File::options().write(true).open(&part).unwrap();
        writer.lock().unwrap();
        make(directory.path(), 350, 300).unwrap();
        assert!(part.exists() && !new.exists());
        drop(writer);
        make(directory.path(), 350, 350).unwrap();
        assert!(!part.exists() && stranger.exists());
        assert!(make(directory.path(), 350, 351).is_err());
    }
}
