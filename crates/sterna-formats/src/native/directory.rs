//! The directory of a native file: a JSON object that says what lies where. It is checked as a whole before anything
//! is handed out.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use sterna_tensor::{DType, PackedFormat};

use super::documents::is_file_name;
use super::{ALIGNMENT, DATA_START, Kind, MAX_NAME, header};
use crate::error::{FormatError, Result};
use crate::mapped;
use crate::tensor::{Tensor, TensorType};

/// As many dimensions as any tensor has.
const MAX_DIMS: usize = 4;

/// Fields that are not known here are overlooked: later minor versions may have them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Directory {
    pub(super) made_by: String,
    pub(super) origin: String,
    pub(super) license: Option<String>,
    /// What the documents are.
    pub(super) kind: Kind,
    pub(super) documents: Vec<Named>,
    pub(super) recipe: Option<Part>,
    pub(super) quality: Option<Part>,
    pub(super) tensors: Vec<Entry>,
}

/// A piece of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// First byte, counted from the beginning of the file.
    pub(super) offset: usize,
    pub(super) length: usize,
    #[serde(serialize_with = "write_hex", deserialize_with = "read_hex")]
    pub(super) sha256: [u8; 32],
}

/// A tensor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    pub(super) data: Part,
}

/// A document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) data: Part,
}

impl Part {
    /// Where in the file it is; that it is inside was checked.
    pub(super) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.length
    }
}

impl Directory {
    /// The version and the directory of the file that `bytes` is.
    pub(super) fn read(file: &str, bytes: &Bytes) -> Result<((u16, u16), Directory)> {
        let (version, range) = header::read(file, bytes)?;
        let end = range.start;
        let directory: Directory = serde_json::from_slice(&bytes[range]).map_err(|error| {
            FormatError::invalid(file, "directory", "a JSON object as the format says", error.to_string())
        })?;
        directory.check(file, end)?;
        Ok((version, directory))
    }

    /// Everything that has a checksum, with its name for messages.
    fn parts(&self) -> impl Iterator<Item = (String, &Part)> {
        let documents = self.documents.iter().map(|it| (format!("document {}", it.name), &it.data));
        let reports = [("recipe", &self.recipe), ("quality", &self.quality)];
        let reports = reports.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part.as_ref()?)));
        let tensors = self.tensors.iter().map(|entry| (field(&entry.name), &entry.data));
        documents.chain(reports).chain(tensors)
    }

    /// Compares every part of `bytes` with its checksum; how many bytes that were.
    pub(super) fn verify(&self, file: &str, bytes: &Bytes) -> Result<u64> {
        let mut n_bytes = 0;
        for (name, part) in self.parts() {
            let contents = bytes.slice(part.range());
            let found = sha256(&contents);
            mapped::release(&contents);
            if found != part.sha256 {
                let (expected, found) = (hex(&part.sha256), hex(&found));
                let expected = format!("contents with the SHA-256 {expected}");
                return Err(FormatError::invalid(file, name, expected, found));
            }
            n_bytes += contents.len() as u64;
        }
        Ok(n_bytes)
    }

    /// The tensors, each a slice of `bytes`.
    pub(super) fn tensors(&self, file: &str, bytes: &Bytes) -> Result<Vec<Tensor>> {
        let shared: Arc<str> = file.into();
        let tensor = |entry: &Entry| {
            let ty = type_of(&entry.ty).ok_or_else(|| {
                FormatError::unsupported(file, field(&entry.name), format!("type {}", entry.ty))
            })?;
            // Beside a zero the other dimensions could be of any size.
            if entry.shape.len() > MAX_DIMS || entry.shape.contains(&0) {
                let expected = format!("at most {MAX_DIMS} dimensions, from 1 on");
                return Err(FormatError::invalid(
                    file,
                    field(&entry.name),
                    expected,
                    format!("{:?}", entry.shape),
                ));
            }
            let data = bytes.slice(entry.data.range());
            Tensor::new(shared.clone(), entry.name.clone(), entry.shape.clone(), ty, data)
        };
        self.tensors.iter().map(tensor).collect()
    }

    /// Parts are aligned, lie between header and directory, and do not overlap; names are names, each given once.
    pub(super) fn check(&self, file: &str, end: usize) -> Result<()> {
        let mut parts: Vec<_> = self.parts().collect();
        parts.sort_by_key(|(_, part)| part.offset);
        let mut free = DATA_START;
        for (name, part) in parts {
            let invalid = |expected: String| {
                let found = format!("offset {}, {} bytes", part.offset, part.length);
                Err(FormatError::invalid(file, name.clone(), expected, found))
            };
            if !part.offset.is_multiple_of(ALIGNMENT) {
                return invalid(format!("an offset that is a multiple of {ALIGNMENT}"));
            }
            match part.offset.checked_add(part.length) {
                Some(stop) if part.offset >= free && stop <= end => free = stop,
                _ => return invalid(format!("bytes of its own between {free} and {end}")),
            }
        }
        let tensors: Vec<&str> = self.tensors.iter().map(|entry| entry.name.as_str()).collect();
        let documents: Vec<&str> = self.documents.iter().map(|document| document.name.as_str()).collect();
        for (what, names) in [("tensor", tensors), ("document", documents)] {
            check_names(file, what, names)?;
        }
        match self.documents.iter().find(|document| !is_file_name(&document.name)) {
            Some(Named { name, .. }) => {
                Err(FormatError::invalid(file, "documents", "plain file names", format!("{name:?}")))
            }
            None => Ok(()),
        }
    }
}

fn check_names(file: &str, what: &str, mut names: Vec<&str>) -> Result<()> {
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let field = format!("{what} {}", pair[0]);
        return Err(FormatError::invalid(file, field, "one of this name", "a second one"));
    }
    match names.iter().find(|name| name.is_empty() || name.len() > MAX_NAME) {
        Some(name) => {
            let expected = format!("1 to {MAX_NAME} bytes");
            Err(FormatError::invalid(
                file,
                format!("name of a {what}"),
                expected,
                format!("{} bytes", name.len()),
            ))
        }
        None => Ok(()),
    }
}

/// The type that a directory calls `name`. How the blocks of formats with scales of scales lie is no matter of files.
fn type_of(name: &str) -> Option<TensorType> {
    if let Some(format) = name.strip_suffix("a8").filter(|format| format.starts_with('t')) {
        return format.parse().ok().map(TensorType::Ternary);
    }
    let dense = [DType::F32, DType::F16, DType::BF16].into_iter().find(|dtype| dtype.to_string() == name);
    let packed = || name.parse().ok().filter(|format: &PackedFormat| format.scale_group().is_some());
    dense.map(TensorType::Dense).or_else(|| packed().map(TensorType::Packed))
}

/// Whether native files hold tensors of this type.
pub(super) fn is_known(ty: TensorType) -> bool {
    type_of(&ty.to_string()) == Some(ty)
}

pub(super) fn field(tensor: &str) -> String {
    format!("tensor {tensor}")
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

fn read_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let invalid = || serde::de::Error::custom("a SHA-256 is 64 digits from 0 to 9 and a to f");
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(invalid()) };
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return Err(invalid());
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(invalid()) };
        *byte = (16 * high + low) as u8;
    }
    Ok(bytes)
}
