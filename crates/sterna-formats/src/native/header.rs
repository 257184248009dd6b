//! The first 64 bytes of a native file: what it is, which version, and where its directory lies.

use std::ops::Range;

use super::{VERSION, directory};
use crate::error::{FormatError, Result};

/// Not text, and broken by programs that change line ends.
pub(super) const MAGIC: [u8; 8] = *b"\x89STERNA\n";

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 64;

/// A directory of a million tensors; no honest file comes near it.
const MAX_DIRECTORY_BYTES: usize = 256 << 20;

/// The header of a file of [`VERSION`] whose directory is `directory`, from byte `offset` on.
pub(super) fn write(offset: u64, directory: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(8, &VERSION.0.to_le_bytes());
    put(10, &VERSION.1.to_le_bytes());
    put(16, &offset.to_le_bytes());
    put(24, &(directory.len() as u64).to_le_bytes());
    put(32, &directory::sha256(directory));
    header
}

/// The version of the file, and where in `bytes`, all of it, the directory is.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<((u16, u16), Range<usize>)> {
    let invalid = |field: &str, expected: String, found: String| {
        Err(FormatError::invalid(file, field, expected, found))
    };
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        let expected = format!("{HEADER_BYTES} bytes at least");
        return invalid("header", expected, format!("{} bytes", bytes.len()));
    };
    if !header.starts_with(&MAGIC) {
        let found = format!("\"{}\"", header[..MAGIC.len()].escape_ascii());
        return invalid("magic", format!("\"{}\"", MAGIC.escape_ascii()), found);
    }
    let version = (u16::from_le_bytes(array(header, 8)), u16::from_le_bytes(array(header, 10)));
    if version.0 != VERSION.0 {
        let found = format!(
            "version {}.{} of the native format (this program reads version {}; a later one may read it)",
            version.0, version.1, VERSION.0
        );
        return Err(FormatError::unsupported(file, "version", found));
    }
    let (offset, len) = (u64::from_le_bytes(array(header, 16)), u64::from_le_bytes(array(header, 24)));
    let (Ok(start), Ok(n_bytes)) = (usize::try_from(offset), usize::try_from(len)) else {
        return invalid("directory", "a place in the file".to_owned(), format!("offset {offset}"));
    };
    // The directory comes last, so a file that was cut off is noticed at once.
    if start < HEADER_BYTES || start.checked_add(n_bytes) != Some(bytes.len()) {
        let expected = format!("one that ends with the file, at byte {}", bytes.len());
        return invalid(
            "directory",
            expected,
            format!("offset {offset}, {len} bytes; is the file truncated?"),
        );
    }
    if n_bytes > MAX_DIRECTORY_BYTES {
        return invalid("directory", format!("at most {MAX_DIRECTORY_BYTES} bytes"), format!("{len} bytes"));
    }
    let range = start..bytes.len();
    if directory::sha256(&bytes[range.clone()]) != header[32..] {
        return invalid("directory", "the checksum in the header".to_owned(), "another".to_owned());
    }
    Ok((version, range))
}

/// The `N` bytes from `at` on.
fn array<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| header[at + i])
}
