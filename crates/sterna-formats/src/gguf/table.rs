//! The tensor table of a GGUF file, checked before any tensor is handed out.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sterna_tensor::DType;

use super::MAX_NAME;
use super::metadata::Metadata;
use super::reader::Reader;
use crate::error::{FormatError, Result};
use crate::ggml::GgmlType;
use crate::tensor::{OtherType, Tensor, TensorType};

/// The least bytes of a table entry: name of one byte, one dimension, type, offset.
pub(super) const MIN_BYTES: usize = (8 + 1) + (4 + 8) + 4 + 8;

/// ggml's limit.
pub(super) const MAX_DIMS: u32 = 4;

pub(super) const ALIGNMENT: &str = "general.alignment";
pub(super) const DEFAULT_ALIGNMENT: usize = 32;
/// Far above any page size.
const MAX_ALIGNMENT: usize = 1 << 20;

struct Entry {
    name: String,
    shape: Vec<usize>,
    ty: TensorType,
    /// Where the data are, counted from the beginning of all tensor data.
    range: Range<usize>,
}

/// Reads `n_tensors` entries and cuts their data out of `bytes`, the whole file.
pub(super) fn read(
    reader: &mut Reader,
    n_tensors: usize,
    metadata: &Metadata,
    bytes: &Bytes,
) -> Result<Vec<Tensor>> {
    let alignment = alignment(metadata)?;
    let mut entries = Vec::new();
    for index in 0..n_tensors {
        entries.push(entry(reader, index, alignment)?);
    }
    if let Some(name) = duplicate(entries.iter().map(|entry| entry.name.as_str())) {
        return Err(reader.invalid(&field(name), "one tensor of this name", "a second one"));
    }
    let data_start = reader.position().next_multiple_of(alignment);
    let data = bytes.slice(data_start.min(bytes.len())..);
    refuse_overlaps(reader, &entries)?;
    let file: Arc<str> = metadata.file().into();
    let tensor = |Entry { name, shape, ty, range }: Entry| {
        if range.end > data.len() {
            return Err(reader.invalid(
                &field(&name),
                format!("data up to byte {} of the tensor data", range.end),
                format!("{} bytes of tensor data; the file is truncated", data.len()),
            ));
        }
        Tensor::new(file.clone(), name, shape, ty, data.slice(range))
    };
    entries.into_iter().map(tensor).collect()
}

/// A name that is there more than once.
pub(super) fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

pub(super) fn alignment(metadata: &Metadata) -> Result<usize> {
    let alignment = metadata.get::<usize>(ALIGNMENT)?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(alignment);
    }
    Err(FormatError::invalid(
        metadata.file(),
        format!("key {ALIGNMENT}"),
        format!("a power of two up to {MAX_ALIGNMENT}"),
        alignment.to_string(),
    ))
}

fn entry(reader: &mut Reader, index: usize, alignment: usize) -> Result<Entry> {
    let name = reader.name(&format!("name of tensor {index}"), MAX_NAME)?;
    let field = field(&name);
    let n_dims = reader.u32(&field)?;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        return Err(reader.invalid(&field, format!("1 to {MAX_DIMS} dimensions"), n_dims));
    }
    let mut shape = Vec::new();
    for _ in 0..n_dims {
        let dim = reader.u64(&field)?;
        let usable = usize::try_from(dim).ok().filter(|&dim| dim > 0);
        shape.push(usable.ok_or_else(|| reader.invalid(&field, "dimensions from 1 on", dim))?);
    }
    shape.reverse(); // The file has the innermost first.
    let ty = tensor_type(reader, &field)?;
    let n_bytes = ty.n_bytes(&shape).ok_or_else(|| {
        let expected = format!(
            "rows that are a multiple of {} elements, and a size that can be counted",
            ty.block_len()
        );
        reader.invalid(&field, expected, format!("{ty} {shape:?}"))
    })?;
    let offset = reader.u64(&field)?;
    let start = usize::try_from(offset).ok().filter(|start| start.is_multiple_of(alignment));
    let start =
        start.ok_or_else(|| reader.invalid(&field, format!("an offset aligned to {alignment}"), offset))?;
    let end = start
        .checked_add(n_bytes)
        .ok_or_else(|| reader.invalid(&field, format!("an offset with {n_bytes} bytes after it"), offset))?;
    Ok(Entry { name, shape, ty, range: start..end })
}

fn refuse_overlaps(reader: &Reader, entries: &[Entry]) -> Result<()> {
    let mut by_offset: Vec<&Entry> = entries.iter().collect();
    by_offset.sort_by_key(|entry| entry.range.start);
    match by_offset.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        None => Ok(()),
        Some(pair) => Err(reader.invalid(
            &field(&pair[1].name),
            format!("data after those of {}, which end at {}", pair[0].name, pair[0].range.end),
            format!("offset {}; they overlap", pair[1].range.start),
        )),
    }
}

/// The tensor as errors name it.
pub(super) fn field(name: &str) -> String {
    format!("tensor {name}")
}

/// The type whose id comes next. Ids are those of `enum ggml_type`.
fn tensor_type(reader: &mut Reader, field: &str) -> Result<TensorType> {
    let id = reader.u32(field)?;
    let found = match known_type(id) {
        Ok(ty) => return Ok(ty),
        Err(Some(name)) => format!("tensor type {name}"),
        Err(None) => format!("tensor type {id}"),
    };
    Err(FormatError::unsupported(reader.file(), field, found))
}

/// The ids of the types that Sterna knows.
const IDS: [(u32, TensorType); 26] = {
    use TensorType::{Dense, Ggml, Other};
    [
        (0, Dense(DType::F32)),
        (1, Dense(DType::F16)),
        (2, Ggml(GgmlType::Q4_0)),
        (3, Ggml(GgmlType::Q4_1)),
        (6, Ggml(GgmlType::Q5_0)),
        (7, Ggml(GgmlType::Q5_1)),
        (8, Ggml(GgmlType::Q8_0)),
        (10, Ggml(GgmlType::Q2_K)),
        (11, Ggml(GgmlType::Q3_K)),
        (12, Ggml(GgmlType::Q4_K)),
        (13, Ggml(GgmlType::Q5_K)),
        (14, Ggml(GgmlType::Q6_K)),
        (20, Ggml(GgmlType::IQ4_NL)),
        (23, Ggml(GgmlType::IQ4_XS)),
        (24, Other(OtherType::I8)),
        (25, Other(OtherType::I16)),
        (26, Other(OtherType::I32)),
        (27, Other(OtherType::I64)),
        (28, Other(OtherType::F64)),
        (30, Dense(DType::BF16)),
        (34, Ggml(GgmlType::TQ1_0)),
        (35, Ggml(GgmlType::TQ2_0)),
        // Of bitnet.cpp; ggml itself has no type of this id any more.
        (36, TensorType::I2S),
        (39, Ggml(GgmlType::MXFP4)),
        (41, Ggml(GgmlType::Q1_0)),
        (42, Ggml(GgmlType::Q2_0)),
    ]
};

/// The id of a type, if GGUF files can have it.
pub(super) fn id(ty: TensorType) -> Option<u32> {
    IDS.iter().find(|(_, known)| *known == ty).map(|(id, _)| *id)
}

/// The type of an id; an error with its name for those that ggml has and Sterna has not.
fn known_type(id: u32) -> std::result::Result<TensorType, Option<&'static str>> {
    if let Some((_, ty)) = IDS.iter().find(|(known, _)| *known == id) {
        return Ok(*ty);
    }
    Err(match id {
        16 => Some("IQ2_XXS"),
        17 => Some("IQ2_XS"),
        18 => Some("IQ3_XXS"),
        19 => Some("IQ1_S"),
        21 => Some("IQ3_S"),
        22 => Some("IQ2_S"),
        29 => Some("IQ1_M"),
        40 => Some("NVFP4"),
        _ => None,
    })
}
