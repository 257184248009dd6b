//! The reference's predictions on disk, so that the second model of a comparison costs half.
//!
//! A file is named by its [`CacheKey`], which is made of everything that the predictions depend on. It is 8 bytes
//! `STERNAKL`, the 32 bytes of the key, and for each window its records (`record.rs` says how they lie) and the SHA-256 of
//! key, window number (u64) and records; numbers are little-endian. Its length is known from the windows and the
//! vocabulary, so a file of another length is damaged, and nothing in it decides how much is read.
//!
//! Files are written beside their place and renamed when they are whole and on the medium. All of them together stay
//! under a limit: those not used for longest make room.

mod file;
mod key;
mod room;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use file::{Damage, Reader, Writer};
pub use key::{CacheKey, ModelIdentity};

use super::Windows;
use super::record::Record;

/// Bytes of all files of a cache together, when nothing else is said: 16 GiB. One window of 512 tokens takes 25 MB with
/// a vocabulary of 49,152 tokens and 134 MB with one of 262,144.
pub const DEFAULT_LIMIT: u64 = 16 << 30;

/// A directory of cache files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    directory: PathBuf,
    limit: u64,
}

impl Cache {
    /// The files in `directory`, which is created when one is written; together at most `limit` bytes.
    pub fn new(directory: impl Into<PathBuf>, limit: u64) -> Cache {
        Cache { directory: directory.into(), limit }
    }

    /// The file of `key`; `None` where there is none.
    ///
    /// # Errors
    /// It is not the file that it should be.
    pub(crate) fn open(
        &self,
        key: &CacheKey,
        windows: &Windows,
        vocab_size: usize,
    ) -> Result<Option<Reader>, Damage> {
        Reader::open(&self.path(key), *key, Layout::new(windows, vocab_size))
    }

    /// A new file for `key`, after making room for it.
    pub(crate) fn create(&self, key: &CacheKey, windows: &Windows, vocab_size: usize) -> io::Result<Writer> {
        let layout = Layout::new(windows, vocab_size);
        std::fs::create_dir_all(&self.directory)?;
        room::make(&self.directory, self.limit, layout.file_bytes())?;
        Writer::create(&self.path(key), *key, layout)
    }

    /// Removes the file of `key`. One that cannot be removed is found damaged again next time.
    pub(crate) fn remove(&self, key: &CacheKey) {
        let _ = std::fs::remove_file(self.path(key));
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.directory.join(key.to_string()).with_extension(EXTENSION)
    }
}

const EXTENSION: &str = "logits";
const PART_EXTENSION: &str = "part";

/// How large everything in a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    record_bytes: usize,
    records_per_window: usize,
    n_windows: usize,
}

impl Layout {
    fn new(windows: &Windows, vocab_size: usize) -> Layout {
        Layout {
            record_bytes: Record::n_bytes(vocab_size),
            records_per_window: windows.scored_per_window(),
            n_windows: windows.n_windows(),
        }
    }

    fn window_bytes(&self) -> usize {
        self.record_bytes * self.records_per_window
    }

    fn file_bytes(&self) -> u64 {
        let window_bytes = (self.window_bytes() + file::DIGEST) as u64;
        file::HEAD as u64 + window_bytes * self.n_windows as u64
    }
}

/// Whether `path` is a file of a cache, whole or in the making.
fn is_ours(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let extension = path.extension().and_then(|extension| extension.to_str());
    CacheKey::is_text(stem) && matches!(extension, Some(EXTENSION | PART_EXTENSION))
}
