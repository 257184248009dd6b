//! Files of a sequence's state: what a model has computed of a text, so that it need not be read again.
//!
//! The container knows no networks: it holds sections of bytes, each with a kind and a checksum, for one model
//! ([`ModelIdentity`]). `docs/state-files.md` in the repository has the bytes.
//!
//! ```text
//! | header, 64 bytes | sections, each on a cache line | directory, 24 bytes a section |
//! ```

mod writer;

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

pub use writer::StateWriter;

use crate::error::{FormatError, Result};
use crate::identity::ModelIdentity;
use crate::mapped;

/// Not text, and broken by programs that change line ends.
const MAGIC: [u8; 8] = *b"\x89STSTAT\n";
/// Version of the format. Files of another version are refused: states are made again in minutes.
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;

/// What a section is, by its number in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// The tokens, and how they were computed.
    Sequence = 0,
    /// What one mixer keeps.
    Mixer = 1,
    /// The recurrences as they were earlier.
    Snapshot = 2,
    /// What the program that saved the state adds to it.
    Application = 3,
}

const N_KINDS: usize = SectionKind::Application as usize + 1;

/// A file of a state.
#[derive(Debug, Clone)]
pub struct StateFile {
    file: String,
    identity: ModelIdentity,
    /// Those of each kind.
    sections: [Vec<Section>; N_KINDS],
    bytes: Bytes,
}

/// Where a section lies.
#[derive(Debug, Clone)]
struct Section {
    checksum: u32,
    range: Range<usize>,
}

impl StateFile {
    /// Whether the file at `path` begins as one of these.
    pub fn is_one(path: &Path) -> bool {
        use std::io::Read;
        let mut magic = [0; MAGIC.len()];
        std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC
    }

    /// Maps the file at `path` and checks its structure; sections are checked when they are read.
    ///
    /// # Errors
    /// It cannot be opened, is no such file, was cut short, or is damaged.
    pub fn open(path: &Path) -> Result<StateFile> {
        StateFile::parse(&path.display().to_string(), mapped::open(path)?)
    }

    /// As [`StateFile::open`], of `bytes`; `file` is what errors name.
    ///
    /// # Errors
    /// As [`StateFile::open`].
    pub fn parse(file: &str, bytes: Bytes) -> Result<StateFile> {
        let invalid =
            |field: &str, expected: String, found: String| FormatError::invalid(file, field, expected, found);
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            let expected = format!("{HEADER_BYTES} bytes at least");
            return Err(invalid("header", expected, format!("{} bytes", bytes.len())));
        };
        if !header.starts_with(&MAGIC) {
            let found = format!("\"{}\"", header[..MAGIC.len()].escape_ascii());
            return Err(invalid("magic", format!("\"{}\", a saved state", MAGIC.escape_ascii()), found));
        }
        let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(array(bytes, at));
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(FormatError::unsupported(
                file,
                "version",
                format!("version {version} of saved states"),
            ));
        }
        let found = crc32fast::hash(&header[..60]);
        if u32_at(header, 60) != found {
            return Err(invalid(
                "header",
                format!("checksum {:08x}", u32_at(header, 60)),
                format!("{found:08x}"),
            ));
        }
        let n_sections = u32_at(header, 12) as usize;
        let offset = u64::from_le_bytes(array(header, 48));
        // The directory comes last, so a file that was cut off is noticed at once.
        let end = u128::from(offset) + n_sections as u128 * ENTRY_BYTES as u128;
        if end != bytes.len() as u128 {
            return Err(invalid("size", format!("{end} bytes"), format!("{} bytes", bytes.len())));
        }
        let offset = offset as usize;
        let directory = &bytes[offset..];
        let found = crc32fast::hash(directory);
        if u32_at(header, 56) != found {
            return Err(invalid(
                "directory",
                format!("checksum {:08x}", u32_at(header, 56)),
                format!("{found:08x}"),
            ));
        }
        let mut sections: [Vec<Section>; N_KINDS] = Default::default();
        // One behind the other, so that reading them all is reading the file once.
        let mut least = HEADER_BYTES as u64;
        for (i, entry) in directory.chunks_exact(ENTRY_BYTES).enumerate() {
            let kind = u32_at(entry, 0);
            let (start, len) = (u64::from_le_bytes(array(entry, 8)), u64::from_le_bytes(array(entry, 16)));
            let end = start.checked_add(len).filter(|end| start >= least && *end <= offset as u64);
            let (Some(of_kind), Some(end)) = (sections.get_mut(kind as usize), end) else {
                let expected = format!("a known kind, in the bytes from {least} to {offset}");
                let found = format!("kind {kind}, {len} bytes from {start} on");
                return Err(invalid(&format!("sections[{i}]"), expected, found));
            };
            of_kind.push(Section { checksum: u32_at(entry, 4), range: start as usize..end as usize });
            least = end;
        }
        Ok(StateFile { file: file.to_owned(), identity: ModelIdentity(array(header, 16)), sections, bytes })
    }

    /// Refuses the state of another model.
    ///
    /// # Errors
    /// [`FormatError::Invalid`].
    pub fn check_model(&self, model: &ModelIdentity) -> Result<()> {
        if self.identity != *model {
            let (expected, found) = (format!("that of this model, {model}"), self.identity.to_string());
            return Err(self.invalid("model", expected, found));
        }
        Ok(())
    }

    /// How many sections of `kind` there are.
    pub fn count(&self, kind: SectionKind) -> usize {
        self.sections[kind as usize].len()
    }

    /// Section `index` among those of `kind`, after checking it.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn section(&self, kind: SectionKind, index: usize) -> Result<Bytes> {
        let name = || format!("{kind:?} section {index}");
        let Some(section) = self.sections[kind as usize].get(index) else {
            return Err(FormatError::missing(&self.file, name()));
        };
        let bytes = self.bytes.slice(section.range.clone());
        let (expected, found) = (section.checksum, crc32fast::hash(&bytes));
        if found != expected {
            let expected = format!("checksum {expected:08x}");
            return Err(self.invalid(&name(), expected, format!("{found:08x}: the file is damaged")));
        }
        Ok(bytes)
    }

    /// An error about `field` of this file.
    pub fn invalid(&self, field: &str, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
        FormatError::invalid(&self.file, field, expected, found)
    }
}

/// The `N` bytes of `bytes` from `at` on, which are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}
