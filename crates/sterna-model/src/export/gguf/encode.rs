//! The data of a tensor in a GGUF file, a band of rows at a time.

use half::f16;
use sterna_formats::ggml::write::{self, Codes};
use sterna_formats::gguf::Writer;
use sterna_formats::{GgmlType, TensorType, mapped};
use sterna_tensor::{DType, PackedFormat, PackedMatrix, UnpackedRows};

use super::layout::{Order, Piece};
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
                Part::Canonical { tensor, piece } if tensor.kind == TensorKind::Vector => {
                    let values = tensor.load()?;
                    let values = multiplied(values[piece.rows.clone()].to_vec(), piece.factor);
                    writer.append(&piece.order.apply(DType::F32.narrow(&values), values.len()))?;
                }
                Part::Canonical { tensor, piece } => {
                    self.write_matrix(tensor, piece, &mut error, writer)?;
                    tensor.release();
                }
            }
        }
        Ok(error)
    }

    fn write_matrix(
        &self,
        tensor: &CanonicalTensor,
        piece: &Piece,
        error: &mut RoundingError,
        writer: &mut Writer,
    ) -> Result<()> {
        let packed = tensor.packed()?;
        let unit = match piece.order {
            Order::Interleaved { head_dim, .. } => head_dim,
            Order::AsIs | Order::Transposed { .. } => PackedMatrix::TILE_ROWS,
        };
        let band = (BAND_WEIGHTS / tensor.cols.max(1)).max(1).next_multiple_of(unit);
        for first in piece.rows.clone().step_by(band) {
            let rows = first..(first + band).min(piece.rows.end);
            let n_rows = rows.len();
            let bytes = match (&packed, self.info.ty) {
                (Some(matrix), TensorType::Ggml(ty)) => {
                    let mut unpacked = matrix.unpack(rows).map_err(|found| unfit(tensor, "codes", found))?;
                    unpacked.scales = multiplied(unpacked.scales, piece.factor);
                    unpacked.minima = multiplied(unpacked.minima, piece.factor);
                    blocks(tensor, matrix.format(), &unpacked, ty, error)?
                }
                (_, TensorType::Dense(dtype)) => {
                    floats(&multiplied(tensor.load_rows(rows)?, piece.factor), dtype, error)
                }
                (_, ty) => return Err(unfit(tensor, &format!("what becomes {ty}"), tensor.ty)),
            };
            writer.append(&piece.order.apply(bytes, n_rows))?;
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

impl Order {
    /// `n_rows` rows, or elements, which `bytes` are, in this order. Heads are whole.
    fn apply(self, bytes: Vec<u8>, n_rows: usize) -> Vec<u8> {
        let row_bytes = bytes.len() / n_rows.max(1);
        let from = |row: usize| match self {
            Order::AsIs => row,
            Order::Interleaved { head_dim, n_dims } => match row % head_dim {
                in_head if in_head < n_dims => row - in_head + in_head / 2 + in_head % 2 * (n_dims / 2),
                _ => row,
            },
            Order::Transposed { rows } => row % rows * (n_rows / rows) + row / rows,
        };
        if self == Order::AsIs {
            return bytes;
        }
        let rows = (0..n_rows).map(|row| &bytes[from(row) * row_bytes..][..row_bytes]);
        rows.collect::<Vec<_>>().concat()
    }
}

fn multiplied(mut values: Vec<f32>, factor: f32) -> Vec<f32> {
    if factor != 1.0 {
        values.iter_mut().for_each(|value| *value *= factor);
    }
    values
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
            if f32::from(d) != rows.scales[group]
                && matches!(ty, GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0)
            {
                let scale = f64::from(rows.scales[group]);
                rounded_level(scale, -scale * f64::from(zero), codes, error);
            }
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
