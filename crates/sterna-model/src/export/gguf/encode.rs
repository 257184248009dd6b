//! The data of a tensor in a GGUF file, a band of rows at a time.

use half::f16;
use sterna_formats::ggml::write::{self, Codes};
use sterna_formats::gguf::Writer;
use sterna_formats::{GgmlType, TensorType, mapped};
use sterna_tensor::{DType, PackedFormat, PackedMatrix, UnpackedRows};

use super::plan::{Part, Planned};
use crate::error::{ModelError, Result};
use crate::export::RoundingError;
use crate::native::{CanonicalTensor, TensorKind};

/// Weights that are in memory at a time, about.
const BAND_WEIGHTS: usize = 1 << 22;

/// Relative error of a tensor of floats with which it is still the same: some more than that of rounding to f16.
const MAX_FLOAT_ERROR: f64 = 1e-3;

/// Weights of a block.
const BLOCK: usize = 32;

impl Planned {
    /// Writes the tensor; what rounding changed.
    pub(super) fn write(&self, writer: &mut Writer) -> Result<RoundingError> {
        let mut error = RoundingError::default();
        for part in &self.parts {
            match part {
                Part::Stored(tensor) => {
                    writer.append(&tensor.data)?;
                    mapped::release(&tensor.data);
                }
                Part::Values(values) => writer.append(&DType::F32.narrow(values))?,
                Part::Canonical { tensor, interleaved } if tensor.kind == TensorKind::Vector => {
                    let values = DType::F32.narrow(&tensor.load()?);
                    writer.append(&interleave(values, tensor.cols, *interleaved))?;
                }
                Part::Canonical { tensor, interleaved } => {
                    self.write_matrix(tensor, *interleaved, &mut error, writer)?;
                    tensor.release();
                }
            }
        }
        Ok(error)
    }

    fn write_matrix(
        &self,
        tensor: &CanonicalTensor,
        interleaved: Option<usize>,
        error: &mut RoundingError,
        writer: &mut Writer,
    ) -> Result<()> {
        let packed = tensor.packed()?;
        let unit = interleaved.unwrap_or(PackedMatrix::TILE_ROWS);
        let band = (BAND_WEIGHTS / tensor.cols.max(1)).max(1).next_multiple_of(unit);
        for first in (0..tensor.rows).step_by(band) {
            let rows = first..(first + band).min(tensor.rows);
            let n_rows = rows.len();
            let bytes = match (&packed, self.info.ty) {
                (Some(matrix), TensorType::Ggml(ty)) => {
                    let unpacked = matrix.unpack(rows).map_err(|found| unfit(tensor, "codes", found))?;
                    blocks(tensor, matrix.format(), &unpacked, ty, error)?
                }
                (_, TensorType::Dense(dtype)) => floats(&tensor.load_rows(rows)?, dtype, error),
                (_, ty) => return Err(unfit(tensor, &format!("what becomes {ty}"), tensor.ty)),
            };
            writer.append(&interleave(bytes, n_rows, interleaved))?;
        }
        // Values below the range of f16 are lost, and with them what the network has learnt.
        if matches!(self.info.ty, TensorType::Dense(_)) && error.relative() > MAX_FLOAT_ERROR {
            let expected =
                format!("weights in the range of {}; in an exact export they stay F32", self.info.ty);
            return Err(unfit(tensor, &expected, format!("a relative error of {:.1e}", error.relative())));
        }
        Ok(())
    }
}

/// Rows, or elements, in the order of a file for interleaved rotation: `bytes` are `n_rows` of them in whole heads, and
/// rows `i` and `i + head_dim / 2` of each head come to lie side by side.
fn interleave(bytes: Vec<u8>, n_rows: usize, head_dim: Option<usize>) -> Vec<u8> {
    let Some(head_dim) = head_dim else { return bytes };
    let row_bytes = bytes.len() / n_rows.max(1);
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(head_dim * row_bytes) {
        let (first, second) = head.split_at(head.len() / 2);
        for (a, b) in first.chunks_exact(row_bytes).zip(second.chunks_exact(row_bytes)) {
            out.extend_from_slice(a);
            out.extend_from_slice(b);
        }
    }
    out
}

/// `values` as elements of type `dtype`.
fn floats(values: &[f32], dtype: DType, error: &mut RoundingError) -> Vec<u8> {
    let bytes = dtype.narrow(values);
    if dtype != DType::F32 {
        let mut rounded = vec![0.0; values.len()];
        dtype.widen(&bytes, &mut rounded);
        let pairs = values.iter().zip(&rounded).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        for (value, rounded) in pairs {
            error.squared_error += (value - rounded).powi(2);
            error.squares += value.powi(2);
        }
    }
    bytes
}

/// Blocks of type `ty` with the codes and scales of `rows`, which are of `tensor` and in `format`.
fn blocks(
    tensor: &CanonicalTensor,
    format: PackedFormat,
    rows: &UnpackedRows,
    ty: GgmlType,
    error: &mut RoundingError,
) -> Result<Vec<u8>> {
    let cols = tensor.cols;
    let group_size = format.scale_group().unwrap_or(cols);
    let n_groups = cols.div_ceil(group_size);
    let mut out = Vec::with_capacity(rows.codes.len() / BLOCK * ty.block_bytes());
    for (row, codes) in rows.codes.chunks_exact(cols).enumerate() {
        for (block, codes) in codes.as_chunks::<BLOCK>().0.iter().enumerate() {
            let group = row * n_groups + block * BLOCK / group_size;
            let d = rows.scales[group];
            let zero = rows.zero_points.get(group).copied().unwrap_or(format.zero());
            let minimum = rows.minima.get(group).copied();
            let mut minimum = || minimum.unwrap_or_else(|| rounded_minimum(d, zero, codes, error));
            match ty {
                GgmlType::Q4_0 => out.extend(write::q4_0(d, &recentred::<4>(tensor, codes, zero)?)),
                GgmlType::Q4_1 => out.extend(write::q4_1(d, minimum(), codes)),
                GgmlType::Q5_0 => out.extend(write::q5_0(d, &recentred::<5>(tensor, codes, zero)?)),
                GgmlType::Q5_1 => out.extend(write::q5_1(d, minimum(), codes)),
                GgmlType::Q8_0 => out.extend(write::q8_0(d, &recentred::<8>(tensor, codes, zero)?)),
                _ => return Err(unfit(tensor, &format!("what becomes {ty}"), tensor.ty)),
            }
        }
    }
    Ok(out)
}

/// `codes`, of which `zero` means zero, as codes of `BITS` bits of which the middle one does.
fn recentred<const BITS: u32>(tensor: &CanonicalTensor, codes: &Codes, zero: u8) -> Result<Codes> {
    let middle = 1 << (BITS - 1);
    let mut out = *codes;
    for code in &mut out {
        let moved = i16::from(*code) - i16::from(zero) + middle;
        *code = u8::try_from(moved)
            .ok()
            .filter(|&code| i16::from(code) < 2 * middle)
            .ok_or_else(|| unfit(tensor, &format!("codes less zero point in {BITS} bits"), moved - middle))?;
    }
    Ok(out)
}

/// `-d zero`, rounded.
fn rounded_minimum(d: f16, zero: u8, codes: &Codes, error: &mut RoundingError) -> f16 {
    let (d, zero) = (d.to_f64(), f64::from(zero));
    let minimum = -d * zero;
    let m = f16::from_f64(minimum);
    error.squared_error += BLOCK as f64 * (m.to_f64() - minimum).powi(2);
    error.squares += codes.iter().map(|&code| (d * (f64::from(code) - zero)).powi(2)).sum::<f64>();
    m
}

fn unfit(tensor: &CanonicalTensor, expected: &str, found: impl ToString) -> ModelError {
    ModelError::TensorValue {
        file: tensor.file().into(),
        tensor: tensor.name.clone(),
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}
