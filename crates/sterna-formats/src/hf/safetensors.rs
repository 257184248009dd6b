//! One safetensors file: `u64` header length, a JSON header, then the tensors back to back.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. The header's entries are those of the
//! `safetensors` crate; they are checked here one by one, so that an error can name the tensor. Values are not
//! looked at: a NaN among the weights is the network's business.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use sterna_tensor::DType;

use crate::error::{FormatError, Result};
use crate::tensor::{OtherType, Tensor, TensorType};

/// Bytes of the header's length, in front of the header.
const LENGTH_BYTES: usize = 8;
/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The header's one entry that is not a tensor.
const METADATA_KEY: &str = "__metadata__";

/// The tensors of the safetensors file that `bytes` holds, in the order of their data; each shares `bytes`.
///
/// `path` is for errors only. Tensors must cover the data without a gap or an overlap, as the format demands.
pub fn read(path: &Path, bytes: &Bytes) -> Result<Vec<Tensor>> {
    let file: Arc<str> = path.display().to_string().into();
    let header_len = header_len(&file, bytes)?;
    let header: Header =
        serde_json::from_slice(&bytes[LENGTH_BYTES..LENGTH_BYTES + header_len]).map_err(|error| {
            FormatError::invalid(&*file, "header", "a JSON table of tensors", error.to_string())
        })?;
    let data = bytes.slice(LENGTH_BYTES + header_len..);

    let mut entries = header.0;
    entries.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, info) in entries {
        let range = info.data_offsets.0..info.data_offsets.1;
        let invalid = |expected, found| FormatError::invalid(&*file, field(&name), expected, found);
        if range.start != end {
            let what = if range.start < end { "an overlap" } else { "a gap" };
            return Err(invalid(
                format!("data from byte {end}"),
                format!("{what}: from byte {}", range.start),
            ));
        }
        if range.end < range.start || range.end > data.len() {
            let expected = format!("an end of its data in {}..={}", range.start, data.len());
            return Err(invalid(expected, range.end.to_string()));
        }
        let Some(ty) = tensor_type(info.dtype) else {
            return Err(FormatError::unsupported(&*file, field(&name), format!("type {}", info.dtype)));
        };
        // Nothing to compute with, and beside a zero the other dimensions could be of any size. Networks are written with
        // matrices of no rows where a part of them is left out.
        if info.shape.contains(&0) {
            if range.is_empty() {
                continue;
            }
            return Err(invalid("dimensions from 1 on".to_owned(), format!("{:?}", info.shape)));
        }
        end = range.end;
        tensors.push(Tensor::new(file.clone(), name, info.shape, ty, data.slice(range))?);
    }
    if end != data.len() {
        let expected = format!("{} bytes of tensor data, as the file has", data.len());
        return Err(FormatError::invalid(&*file, "header", expected, format!("{end} bytes in its table")));
    }
    Ok(tensors)
}

/// The header's length, after checking that the file is that long.
fn header_len(file: &str, bytes: &Bytes) -> Result<usize> {
    let invalid = |expected: String, found| FormatError::invalid(file, "header length", expected, found);
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(invalid(format!("{LENGTH_BYTES} bytes"), format!("a file of {} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let limit = MAX_HEADER_BYTES.min((bytes.len() - LENGTH_BYTES) as u64);
    if length > limit {
        return Err(invalid(
            format!("at most {limit}, in a file of {} bytes", bytes.len()),
            length.to_string(),
        ));
    }
    Ok(length as usize)
}

fn tensor_type(dtype: Dtype) -> Option<TensorType> {
    Some(match dtype {
        Dtype::F32 => TensorType::Dense(DType::F32),
        Dtype::F16 => TensorType::Dense(DType::F16),
        Dtype::BF16 => TensorType::Dense(DType::BF16),
        Dtype::BOOL => TensorType::Other(OtherType::Bool),
        Dtype::U8 => TensorType::Other(OtherType::U8),
        Dtype::I8 => TensorType::Other(OtherType::I8),
        Dtype::U16 => TensorType::Other(OtherType::U16),
        Dtype::I16 => TensorType::Other(OtherType::I16),
        Dtype::U32 => TensorType::Other(OtherType::U32),
        Dtype::I32 => TensorType::Other(OtherType::I32),
        Dtype::U64 => TensorType::Other(OtherType::U64),
        Dtype::I64 => TensorType::Other(OtherType::I64),
        Dtype::F64 => TensorType::Other(OtherType::F64),
        Dtype::F8_E4M3 => TensorType::Other(OtherType::F8E4M3),
        Dtype::F8_E5M2 => TensorType::Other(OtherType::F8E5M2),
        _ => return None,
    })
}

fn field(name: &str) -> String {
    format!("tensor {name}")
}

/// The header's tensors, each named once.
struct Header(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor).map(Header)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Vec<(String, TensorInfo)>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("tensor {name} is given twice")));
            }
            let info =
                map.next_value().map_err(|error| A::Error::custom(format!("tensor {name}: {error}")))?;
            tensors.push((name, info));
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, n_data: usize) -> Bytes {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend((0..n_data).map(|i| i as u8));
        bytes.into()
    }

    fn read_header(header: &str, n_data: usize) -> Result<Vec<Tensor>> {
        read(Path::new("model.safetensors"), &file(header, n_data))
    }

    #[test]
    fn tensors_are_slices_of_the_file_in_data_order() {
        let header = r#"{"__metadata__": {"format": "pt"},
            "b": {"dtype": "U8", "shape": [2, 2], "data_offsets": [12, 16]},
            "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}"#;
        let bytes = file(header, 16);
        let tensors = read(Path::new("x"), &bytes).unwrap();
        let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((tensors[0].ty, &tensors[0].shape[..]), (TensorType::Dense(DType::BF16), &[2, 3][..]));
        assert_eq!(tensors[1].data[..], [12, 13, 14, 15]);
        assert_eq!(tensors[1].data.as_ptr(), bytes[bytes.len() - 4..].as_ptr());
    }

    #[test]
    fn errors_name_the_tensor_and_what_is_wrong_with_it() {
        let cases = [
            (r#"{"w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}"#, "a gap"),
            (
                r#"{"v": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
                 "w": {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]}}"#,
                "an overlap",
            ),
            (r#"{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]}}"#, "8 bytes for F32"),
            (
                r#"{"w": {"dtype": "F32", "shape": [1152921504606846976, 16], "data_offsets": [0, 12]}}"#,
                "can be counted",
            ),
            (
                r#"{"w": {"dtype": "F32", "shape": [1152921504606846976, 0], "data_offsets": [0, 12]}}"#,
                "dimensions from 1 on",
            ),
            (r#"{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 12]}}"#, "-1"),
            (r#"{"w": {"dtype": "Q9", "shape": [3], "data_offsets": [0, 12]}}"#, "Q9"),
            (r#"{"w": {"dtype": "U8", "shape": [12], "data_offsets": [12, 0]}}"#, "from byte 12"),
            (r#"{"w": {"dtype": "U8", "shape": [16], "data_offsets": [0, 16]}}"#, "16"),
            (r#"{"w": {"dtype": "F4", "shape": [3], "data_offsets": [0, 12]}}"#, "F4"),
            (r#"{"w": {"dtype": "U8", "shape": "12", "data_offsets": [0, 12]}}"#, "12"),
            (
                r#"{"w": {"dtype": "U8", "shape": [12], "data_offsets": [0, 12]},
                 "w": {"dtype": "U8", "shape": [12], "data_offsets": [0, 12]}}"#,
                "twice",
            ),
            (r#"{"w": 3}"#, "TensorInfo"),
        ];
        for (header, part) in cases {
            let message = read_header(header, 12).unwrap_err().to_string();
            for part in ["model.safetensors", "tensor w", part] {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        }
        let short = read_header(r#"{"w": {"dtype": "U8", "shape": [12], "data_offsets": [0, 12]}}"#, 13);
        assert!(short.unwrap_err().to_string().contains("12 bytes in its table"));
    }

    #[test]
    fn tensors_of_nothing_are_not_there() {
        let header = r#"{"v": {"dtype": "F32", "shape": [1152921504606846976, 0], "data_offsets": [0, 0]},
             "w": {"dtype": "U8", "shape": [12], "data_offsets": [0, 12]}}"#;
        let names: Vec<_> = read_header(header, 12).unwrap().into_iter().map(|tensor| tensor.name).collect();
        assert_eq!(names, ["w"]);
    }

    #[test]
    fn a_header_that_claims_more_than_the_file_is_refused() {
        for length in [9u64, 1 << 40, u64::MAX, u64::MAX - 7] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend_from_slice(b"{}      ");
            assert!(read(Path::new("x"), &bytes.into()).unwrap_err().to_string().contains("header length"));
        }
        assert!(read(Path::new("x"), &Bytes::from_static(b"short")).is_err());
        assert!(read_header(&"[".repeat(10_000), 0).is_err());
        assert!(read_header(&format!("{{\"__metadata__\": {}", "{\"a\":".repeat(100_000)), 0).is_err());
    }
}
