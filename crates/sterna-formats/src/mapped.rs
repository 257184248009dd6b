//! Files as shared bytes: mapped, never read into memory.
//!
//! [`open`] gives [`Bytes`] whose slices keep the mapping alive. The kernel pages the file in on first touch;
//! [`prefetch`] asks for a range ahead of time, [`prefer_huge_pages`] for larger pages, and [`release`] gives a range's pages back once
//! they have been repacked. All are hints: on systems without them they do nothing.
#![allow(unsafe_code)] // The one module of this crate that maps memory.

use std::fs::{self, File, Metadata};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::{FormatError, Result};

/// Maps the file at `path` for reading.
///
/// # Errors
/// When the file cannot be opened, is not a regular file, is empty, or changes its size while being opened. What
/// happens to a mapped file later is up to the system: one that is truncated in place by another program can
/// still end this process (`SIGBUS`), so models should be replaced by renaming, as `sterna pull` does.
pub fn open(path: &Path) -> Result<Bytes> {
    let io = || FormatError::io(path);
    // Before opening: opening a pipe would wait for its writer.
    let before = checked_size(path, &fs::metadata(path).map_err(io())?)?;
    let file = File::open(path).map_err(io())?;
    // SAFETY: the mapping is read-only and of a regular file, whose size is compared below. That nobody truncates
    // it in place while it is mapped is the documented condition of this function.
    let map = unsafe { Mmap::map(&file) }.map_err(io())?;
    let after = checked_size(path, &file.metadata().map_err(io())?)?;
    if before != after || map.len() as u64 != after {
        return Err(FormatError::invalid(
            path.display().to_string(),
            "size",
            format!("{before} bytes"),
            format!("{after} bytes; the file changed while it was opened"),
        ));
    }
    Ok(Mapping::share(map))
}

/// Asks the system to read the pages of `bytes` soon.
pub fn prefetch(bytes: &Bytes) {
    #[cfg(unix)]
    if let Some((mapping, offset)) = Mapping::of(bytes) {
        // A hint: nothing depends on its success.
        let _ = mapping.0.advise_range(memmap2::Advice::WillNeed, offset, bytes.len());
    }
    #[cfg(not(unix))]
    let _ = bytes;
}

/// Asks for huge pages for `bytes`, which will be read as a whole, again and again: a system that keeps files in them reads them
/// from the medium in larger pieces, and looks up fewer addresses from then on.
pub fn prefer_huge_pages(bytes: &Bytes) {
    #[cfg(target_os = "linux")]
    if let Some((mapping, offset)) = Mapping::of(bytes) {
        // A hint, as above.
        let _ = mapping.0.advise_range(memmap2::Advice::HugePage, offset, bytes.len());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Gives the memory behind `bytes` back to the system, when `bytes` is part of a mapped file. Reading the bytes
/// again is allowed and reads the file again.
pub fn release(bytes: &Bytes) {
    #[cfg(unix)]
    if let Some((mapping, offset)) = Mapping::of(bytes) {
        // SAFETY: the range lies inside a shared, read-only mapping of a file, so dropped pages come back with the
        // same contents.
        let _ = unsafe {
            mapping.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, bytes.len())
        };
    }
    #[cfg(not(unix))]
    let _ = bytes;
}

/// As [`release`], with all of the file that `bytes` is part of: headers, and what the system mapped around pages that were read.
pub fn release_file(bytes: &Bytes) {
    #[cfg(unix)]
    if let Some((mapping, _)) = Mapping::of(bytes) {
        // SAFETY: as in `release`.
        let _ = unsafe { mapping.0.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
    #[cfg(not(unix))]
    let _ = bytes;
}

fn checked_size(path: &Path, metadata: &Metadata) -> Result<u64> {
    let found = match metadata.len() {
        _ if metadata.is_dir() => "a directory",
        _ if !metadata.is_file() => "something that is not a regular file",
        0 => "an empty file",
        size => return Ok(size),
    };
    Err(FormatError::invalid(path.display().to_string(), "file", "a file with contents", found))
}

/// A mapped file, alive as long as a slice of it is.
struct Mapping(Mmap);

/// What [`Bytes`] owns: the last one to go takes the mapping with it.
struct Owner(Arc<Mapping>);

/// The mappings alive, so that [`release`] can tell mapped bytes (whose pages come back from the file) from bytes
/// on the heap (whose pages would be lost). A handful at most: one per shard.
static MAPPINGS: Mutex<Vec<Weak<Mapping>>> = Mutex::new(Vec::new());

impl Mapping {
    fn share(map: Mmap) -> Bytes {
        let mapping = Arc::new(Mapping(map));
        let mut mappings = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
        mappings.retain(|mapping| mapping.strong_count() > 0);
        mappings.push(Arc::downgrade(&mapping));
        Bytes::from_owner(Owner(mapping))
    }

    /// The mapping that `bytes` is a slice of, and where in it the slice begins.
    #[cfg(unix)]
    fn of(bytes: &Bytes) -> Option<(Arc<Mapping>, usize)> {
        let mappings = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
        mappings.iter().filter_map(Weak::upgrade).find_map(|mapping| {
            let offset = (bytes.as_ptr() as usize).checked_sub(mapping.0.as_ptr() as usize)?;
            (bytes.len() <= mapping.0.len().checked_sub(offset)?).then_some((mapping, offset))
        })
    }
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_come_back_with_the_same_contents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let contents: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        fs::write(&path, &contents).unwrap();
        let bytes = open(&path).unwrap();
        prefer_huge_pages(&bytes.slice(20_000..30_000));
        prefetch(&bytes);
        assert_eq!(bytes, contents);
        release(&bytes.slice(10_000..90_000));
        assert_eq!(bytes, contents);
        release_file(&bytes.slice(50_000..50_001));
        assert_eq!(bytes, contents);
    }

    #[test]
    fn release_leaves_the_heap_alone() {
        let bytes = Bytes::from(vec![7u8; 1 << 16]);
        release(&bytes);
        assert!(bytes.iter().all(|&b| b == 7));
    }

    #[test]
    fn refuses_directories_empty_and_absent_files() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path| open(path).unwrap_err().to_string();
        assert!(message(dir.path()).contains("a directory"));
        let empty = dir.path().join("empty.gguf");
        File::create(&empty).unwrap();
        assert!(
            message(&empty).contains("empty.gguf: file: expected a file with contents, found an empty file")
        );
        assert!(message(&dir.path().join("absent")).contains("absent"));
    }
}
