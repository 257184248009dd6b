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
const MAX_DIMS: u32 = 4;

const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: usize = 32;
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

fn alignment(metadata: &Metadata) -> Result<usize> {
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

fn field(name: &str) -> String {
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

/// The type of an id; an error with its name for those that ggml has and Sterna has not.
fn known_type(id: u32) -> std::result::Result<TensorType, Option<&'static str>> {
    let ggml = match id {
        0 => return Ok(TensorType::Dense(DType::F32)),
        1 => return Ok(TensorType::Dense(DType::F16)),
        30 => return Ok(TensorType::Dense(DType::BF16)),
        24 => return Ok(TensorType::Other(OtherType::I8)),
        25 => return Ok(TensorType::Other(OtherType::I16)),
        26 => return Ok(TensorType::Other(OtherType::I32)),
        27 => return Ok(TensorType::Other(OtherType::I64)),
        28 => return Ok(TensorType::Other(OtherType::F64)),
        2 => GgmlType::Q4_0,
        3 => GgmlType::Q4_1,
        6 => GgmlType::Q5_0,
        7 => GgmlType::Q5_1,
        8 => GgmlType::Q8_0,
        10 => GgmlType::Q2_K,
        11 => GgmlType::Q3_K,
        12 => GgmlType::Q4_K,
        13 => GgmlType::Q5_K,
        14 => GgmlType::Q6_K,
        20 => GgmlType::IQ4_NL,
        23 => GgmlType::IQ4_XS,
        34 => GgmlType::TQ1_0,
        35 => GgmlType::TQ2_0,
        39 => GgmlType::MXFP4,
        16 => return Err(Some("IQ2_XXS")),
        17 => return Err(Some("IQ2_XS")),
        18 => return Err(Some("IQ3_XXS")),
        19 => return Err(Some("IQ1_S")),
        21 => return Err(Some("IQ3_S")),
        22 => return Err(Some("IQ2_S")),
        29 => return Err(Some("IQ1_M")),
        40 => return Err(Some("NVFP4")),
        41 => return Err(Some("Q1_0")),
        _ => return Err(None),
    };
    Ok(TensorType::Ggml(ggml))
}
