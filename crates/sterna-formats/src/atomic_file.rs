//! A file that is there whole or not at all: written aside, flushed to the medium, then renamed.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{FormatError, Result};

/// A file that is being written, as `NAME.part` beside the place where it will be. Dropped before
/// [`AtomicFile::finish`], it leaves nothing unless it was told to [`keep`](AtomicFile::keep) what there is, and what had
/// the name before still has it.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    target: PathBuf,
    part: PathBuf,
    /// `None` once the file is complete.
    file: Option<File>,
    /// Bytes appended.
    len: u64,
    /// Whether it may be dropped unfinished and gone on with later.
    keep: bool,
}

impl AtomicFile {
    /// Begins the file that will be at `path`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn create(path: &Path) -> Result<AtomicFile> {
        let part = part_of(path);
        let file = File::create(&part).map_err(FormatError::io(&part))?;
        Ok(AtomicFile { target: path.to_owned(), part, file: Some(file), len: 0, keep: false })
    }

    /// Goes on with a file that was kept, after its first `len` bytes; `None` where it has not as many.
    ///
    /// # Errors
    /// When it cannot be opened or cut.
    pub(crate) fn resume(path: &Path, len: u64) -> Result<Option<AtomicFile>> {
        let part = part_of(path);
        let wrong = FormatError::io(&part);
        let mut file = match File::options().write(true).open(&part) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error)),
        };
        let position = file.metadata().and_then(|metadata| match metadata.len() >= len {
            true => file.set_len(len).and_then(|()| file.seek(SeekFrom::End(0))).map(Some),
            false => Ok(None),
        });
        let kept =
            AtomicFile { target: path.to_owned(), part: part.clone(), file: Some(file), len, keep: true };
        Ok(position.map_err(wrong)?.map(|_| kept))
    }

    /// Waits until all that was appended is on the medium, and leaves the file there when it is dropped unfinished.
    ///
    /// # Errors
    /// When the medium says no.
    pub(crate) fn keep(&mut self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_data().map_err(FormatError::io(&self.part))?;
        self.keep = true;
        Ok(())
    }

    /// Where the file is until it is finished.
    pub(crate) fn part_path(&self) -> &Path {
        &self.part
    }

    /// Where the file will be.
    pub(crate) fn path(&self) -> &Path {
        &self.target
    }

    /// Bytes appended so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(FormatError::io(&self.part))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Appends zeros up to a multiple of `alignment`.
    ///
    /// # Errors
    /// As [`AtomicFile::append`].
    pub(crate) fn align(&mut self, alignment: u64) -> Result<()> {
        let zeros = self.len.next_multiple_of(alignment) - self.len;
        self.append(&vec![0; zeros as usize])
    }

    /// Writes `beginning` over the first bytes of the file, waits until all is on the medium, and gives the file its
    /// name in place of what may have had it.
    ///
    /// # Errors
    /// When the file cannot be written or renamed; then it is as if it was dropped, and what was there before still is.
    pub(crate) fn finish(mut self, beginning: &[u8]) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(beginning));
        let synced = written.and_then(|()| file.sync_all());
        // Closed first: Windows does not rename a file that is open.
        drop(file);
        let renamed = synced.and_then(|()| fs::rename(&self.part, &self.target));
        match renamed.and_then(|()| sync_directory(&self.target)) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.remove();
                Err(FormatError::io(&self.target)(error))
            }
        }
    }

    fn remove(&self) {
        if !self.keep {
            // Nothing can be done about a file that cannot be removed.
            let _ = fs::remove_file(&self.part);
        }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file);
            self.remove();
        }
    }
}

/// Where the file that will be at `path` is until then.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// The new name is on the medium too.
fn sync_directory(path: &Path) -> io::Result<()> {
    // Windows has no such call: NTFS journals its directory entries.
    if cfg!(unix) {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
