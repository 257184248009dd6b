//! One cache file: written once, read window by window, believed only where its checksums agree.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::{CacheKey, Layout, PART_EXTENSION};
use crate::eval::record::Record;

const MAGIC: [u8; 8] = *b"STERNAKL";
/// Magic and key.
pub(super) const HEAD: usize = 40;
/// SHA-256 after each window.
pub(super) const DIGEST: usize = 32;

/// A cache file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub(crate) struct Damage {
    file: PathBuf,
    problem: String,
}

/// A cache file with all windows.
pub(crate) struct Reader {
    file: File,
    path: PathBuf,
    key: CacheKey,
    layout: Layout,
    buffer: Vec<u8>,
}

impl Reader {
    /// Opens `path` if there is such a file; its length and head are checked, its windows when they are read.
    pub(super) fn open(path: &Path, key: CacheKey, layout: Layout) -> Result<Option<Reader>, Damage> {
        let damage = |problem: String| Damage { file: path.to_owned(), problem };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damage(error.to_string())),
        };
        let n_bytes = file.metadata().map_err(|error| damage(error.to_string()))?.len();
        if n_bytes != layout.file_bytes() {
            return Err(damage(format!("expected {} bytes, found {n_bytes}", layout.file_bytes())));
        }
        let mut head = [0; HEAD];
        file.read_exact(&mut head).map_err(|error| damage(error.to_string()))?;
        if head[..MAGIC.len()] != MAGIC || head[MAGIC.len()..] != key.0 {
            return Err(damage("expected the logits of another run".to_owned()));
        }
        // What was used last goes last. A file that cannot be touched is only forgotten sooner.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(Reader { file, path: path.to_owned(), key, layout, buffer: Vec::new() }))
    }

    /// The records of window `i`.
    pub(crate) fn window(&mut self, i: usize) -> Result<Vec<Record>, Damage> {
        let Layout { record_bytes, .. } = self.layout;
        let window_bytes = self.layout.window_bytes();
        self.buffer.resize(window_bytes + DIGEST, 0);
        let start = HEAD as u64 + (window_bytes + DIGEST) as u64 * i as u64;
        let read =
            self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(&mut self.buffer));
        read.map_err(|error| self.damage(error.to_string()))?;
        let (bytes, expected) = self.buffer.split_at(window_bytes);
        if digest(&self.key, i, bytes) != expected {
            return Err(self.damage(format!("window {i}: its checksum is another")));
        }
        let records: Option<Vec<Record>> = bytes.chunks_exact(record_bytes).map(Record::read).collect();
        records.ok_or_else(|| self.damage(format!("window {i}: expected records of predictions")))
    }

    fn damage(&self, problem: String) -> Damage {
        Damage { file: self.path.clone(), problem }
    }
}

/// A cache file in the making. Dropped before [`Writer::finish`], it leaves nothing.
pub(crate) struct Writer {
    /// `None` when finished.
    file: Option<File>,
    part: PathBuf,
    path: PathBuf,
    key: CacheKey,
    layout: Layout,
    n_written: usize,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins what will be the file at `path`.
    ///
    /// # Errors
    /// Another process is writing the same.
    pub(super) fn create(path: &Path, key: CacheKey, layout: Layout) -> io::Result<Writer> {
        let part = path.with_extension(PART_EXTENSION);
        let mut file = File::options().create(true).truncate(false).write(true).open(&part)?;
        // A process that was killed leaves its part, but not its lock.
        file.try_lock().map_err(|error| io::Error::other(format!("{}: {error}", part.display())))?;
        file.set_len(0)?;
        file.write_all(&MAGIC)?;
        file.write_all(&key.0)?;
        let path = path.to_owned();
        Ok(Writer { file: Some(file), part, path, key, layout, n_written: 0, buffer: Vec::new() })
    }

    /// Appends the records of window `i`. Windows come in order.
    pub(crate) fn window(&mut self, i: usize, records: &[Record]) -> io::Result<()> {
        if i != self.n_written {
            return Err(io::Error::other(format!("window {i} after {} windows", self.n_written)));
        }
        self.buffer.clear();
        records.iter().for_each(|record| record.write(&mut self.buffer));
        self.buffer.extend(digest(&self.key, i, &self.buffer));
        self.n_written += 1;
        match &mut self.file {
            Some(file) => file.write_all(&self.buffer),
            None => Ok(()),
        }
    }

    /// Puts the whole file in its place.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.n_written != self.layout.n_windows {
            return Err(io::Error::other(format!("{} of {} windows", self.n_written, self.layout.n_windows)));
        }
        if let Some(file) = &self.file {
            file.sync_all()?;
            std::fs::rename(&self.part, &self.path)?;
        }
        self.file = None;
        // Windows has no such call: NTFS journals its directory entries.
        if let Some(directory) = self.path.parent().filter(|_| cfg!(unix)) {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn digest(key: &CacheKey, window: usize, records: &[u8]) -> [u8; DIGEST] {
    let mut hasher = Sha256::new();
    hasher.update(key.0);
    hasher.update((window as u64).to_le_bytes());
    hasher.update(records);
    hasher.finalize().into()
}
