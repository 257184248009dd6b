//! A file on its way in: `NAME.part` beside `NAME.state`, which says what the bytes are a beginning of.
//!
//! The state is written after the bytes that it counts are on the medium, so a resumed pull, even after a power cut,
//! goes on from bytes that are really there.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::disk::Disk;

/// How much work an interruption may cost.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// What the bytes so far are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The address or packages that they came from.
    origin: String,
    /// The server's strong `ETag`, when it gave one.
    etag: Option<String>,
    /// Packages fully taken in.
    parts_done: usize,
    /// Bytes that are on the medium.
    bytes: u64,
}

pub(crate) struct PartFile<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    state_path: PathBuf,
    file: File,
    len: u64,
    state: State,
    checkpointed: Instant,
}

impl<'a> PartFile<'a> {
    /// Opens `directory/name.part`; what it holds is kept only when it began as `origin`.
    pub(crate) fn open(
        disk: &'a dyn Disk,
        directory: &Path,
        name: &str,
        origin: &str,
    ) -> Result<Self, StoreError> {
        let path = directory.join(format!("{name}.part"));
        let state_path = directory.join(format!("{name}.state"));
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = open.map_err(StoreError::io("open", &path))?;
        let on_disk = file.metadata().map_err(StoreError::io("read", &path))?.len();
        let state = read_state(&state_path)
            .filter(|state| state.origin == origin && state.bytes <= on_disk)
            .unwrap_or_else(|| State { origin: origin.to_owned(), ..State::default() });
        let len = state.bytes;
        let mut part = Self { disk, path, state_path, file, len, state, checkpointed: Instant::now() };
        part.truncate(len)?;
        Ok(part)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn etag(&self) -> Option<&str> {
        self.state.etag.as_deref()
    }

    pub(crate) fn parts_done(&self) -> usize {
        self.state.parts_done
    }

    /// Forgets everything, to begin anew with what the server calls `etag`.
    pub(crate) fn restart(&mut self, etag: Option<String>) -> Result<(), StoreError> {
        self.state = State { origin: std::mem::take(&mut self.state.origin), etag, ..State::default() };
        self.truncate(0)?;
        self.checkpoint()
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// A checkpoint, unless the last one was a moment ago.
    pub(crate) fn checkpoint_now_and_then(&mut self) -> Result<(), StoreError> {
        if self.checkpointed.elapsed() >= CHECKPOINT_EVERY { self.checkpoint() } else { Ok(()) }
    }

    /// One more package is fully in.
    pub(crate) fn part_done(&mut self) -> Result<(), StoreError> {
        self.state.parts_done += 1;
        self.checkpoint()
    }

    /// Back to the last checkpoint, dropping what was written of an unfinished package.
    pub(crate) fn rewind(&mut self) -> Result<(), StoreError> {
        self.truncate(self.state.bytes)
    }

    /// What is here so far survives whatever happens next.
    pub(crate) fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.disk.sync_file(&self.path)?;
        self.state.bytes = self.len;
        let text = serde_json::to_vec(&self.state).unwrap_or_default();
        let beside = self.state_path.with_extension("state-new");
        std::fs::write(&beside, text).map_err(StoreError::io("write", &beside))?;
        self.disk.rename(&beside, &self.state_path)?;
        self.checkpointed = Instant::now();
        Ok(())
    }

    /// Deletes the file and its state: these bytes are wrong.
    pub(crate) fn discard(self) -> Result<(), StoreError> {
        std::fs::remove_file(&self.state_path).map_err(StoreError::io("remove", &self.state_path))?;
        std::fs::remove_file(&self.path).map_err(StoreError::io("remove", &self.path))
    }

    /// Moves the finished file to `target`, where it stays.
    pub(crate) fn finish(self, target: &Path) -> Result<(), StoreError> {
        self.disk.sync_file(&self.path)?;
        // Closed first: Windows does not rename a file that is open.
        drop(self.file);
        self.disk.rename(&self.path, target)?;
        std::fs::remove_file(&self.state_path).map_err(StoreError::io("remove", &self.state_path))
    }

    fn truncate(&mut self, len: u64) -> Result<(), StoreError> {
        self.len = len;
        let cut = self.file.set_len(len).and_then(|()| self.file.seek(SeekFrom::Start(len)));
        cut.map(drop).map_err(StoreError::io("write", &self.path))
    }
}

fn read_state(path: &Path) -> Option<State> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn open<'a>(dir: &Path, origin: &str) -> PartFile<'a> {
        PartFile::open(&RealDisk, dir, "a", origin).unwrap()
    }

    #[test]
    fn goes_on_from_the_last_checkpoint_of_the_same_origin() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = open(dir.path(), "here");
        part.restart(Some("\"v1\"".into())).unwrap();
        part.append(b"durable").unwrap();
        part.part_done().unwrap();
        part.append(b" and lost").unwrap();
        drop(part);

        let part = open(dir.path(), "here");
        assert_eq!((part.len(), part.parts_done(), part.etag()), (7, 1, Some("\"v1\"")));
        assert_eq!(std::fs::read(part.path()).unwrap(), b"durable");
        drop(part);

        let part = open(dir.path(), "elsewhere");
        assert_eq!((part.len(), part.parts_done(), part.etag()), (0, 0, None));
    }

    #[test]
    fn a_state_that_promises_more_than_there_is_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = open(dir.path(), "here");
        part.append(b"0123456789").unwrap();
        part.checkpoint().unwrap();
        std::fs::write(part.path(), b"0123").unwrap();
        drop(part);
        assert_eq!(open(dir.path(), "here").len(), 0);
    }
}
