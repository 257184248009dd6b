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

/// Relative error of floats with which they are still the same: some more than that of rounding to f16.
const MAX_FLOAT_ERROR: f64 = 1e-3;

/// The same of blocks with rounded scales and minima, which may be some times as large as the weights.
const MAX_BLOCK_ERROR: f64 = 1e-2;

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
        // Values below the range of f16 are lost, and with them what the network has learnt; those above are infinite.
        let limit = if let TensorType::Dense(_) = self.info.ty { MAX_FLOAT_ERROR } else { MAX_BLOCK_ERROR };
        if error.relative() <= limit {
            return Ok(());
        }
        let expected = format!("weights in the range of {}; an exact export keeps them", self.info.ty);
        Err(unfit(tensor, &expected, format!("a relative error of {:.1e}", error.relative())))
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
            let zero = rows.zero_points.get(group).copied().unwrap_or(format.zero());
            let d = f16::from_f32(rows.scales[group]);
            let mut level = || {
                let d = f64::from(rows.scales[group]);
                let minimum = rows.minima.get(group).map(|&minimum| f64::from(minimum));
                rounded_level(d, minimum.unwrap_or(-d * f64::from(zero)), codes, error)
            };
            match ty {
                GgmlType::Q4_0 => out.extend(write::q4_0(d, &recentred::<4>(tensor, codes, zero)?)),
                GgmlType::Q4_1 => {
                    let (d, m) = level();
                    out.extend(write::q4_1(d, m, codes));
                }
                GgmlType::Q5_0 => out.extend(write::q5_0(d, &recentred::<5>(tensor, codes, zero)?)),
                GgmlType::Q5_1 => {
                    let (d, m) = level();
                    out.extend(write::q5_1(d, m, codes));
                }
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

/// `d` and `m` of the weights `d code + m`, rounded.
fn rounded_level(d: f64, m: f64, codes: &Codes, error: &mut RoundingError) -> (f16, f16) {
    let rounded = (f16::from_f64(d), f16::from_f64(m));
    let (off_d, off_m) = (rounded.0.to_f64() - d, rounded.1.to_f64() - m);
    for code in codes.map(f64::from) {
        error.squared_error += (off_d * code + off_m).powi(2);
        error.squares += (d * code + m).powi(2);
    }
    rounded
}

fn unfit(tensor: &CanonicalTensor, expected: &str, found: impl ToString) -> ModelError {
    ModelError::TensorValue {
        file: tensor.file().into(),
        tensor: tensor.name.clone(),
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}
