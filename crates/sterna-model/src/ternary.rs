//! Ternary weights of BitNet b1.58 (arXiv:2402.17764) in the forms that checkpoints hold.

use sterna_formats::{OtherType, RowOrder, TensorType, ggml};

use crate::error::{ModelError, Result};
use crate::spec::TernaryStorage;
use crate::weights::LinearTensors;

/// A matrix of weights -1, 0 and 1, times one factor.
pub(crate) struct TernaryMatrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Weight plus one, `[rows, cols]`.
    pub(crate) codes: Vec<u8>,
    /// What a product with the weights is multiplied by.
    pub(crate) scale: f32,
}

impl TernaryMatrix {
    /// Reads `tensors`, stored as `storage`.
    ///
    /// # Errors
    /// When the tensor types are not those of the storage, a code is none of the three, or the scale is not a
    /// positive number.
    pub(crate) fn read(tensors: &LinearTensors, storage: TernaryStorage) -> Result<TernaryMatrix> {
        let (rows, cols) = (tensors.rows, tensors.cols);
        let (codes, scale) = match storage {
            TernaryStorage::Online => round(&tensors.weight.to_f32()?),
            TernaryStorage::PackedMultiply => (unpack(tensors)?, scale_of(tensors)?),
            TernaryStorage::PackedDivide => (unpack(tensors)?, 1.0 / scale_of(tensors)?),
            TernaryStorage::ByType => (i2_s(tensors)?, ggml::i2_s::scale(&tensors.weight.data)),
        };
        if let Some(code) = codes.iter().find(|code| **code > 2) {
            return Err(wrong(tensors, "codes 0, 1 and 2", format!("{code}")));
        }
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(wrong(tensors, "a scale that is finite and above zero", format!("{scale}")));
        }
        Ok(TernaryMatrix { rows, cols, codes, scale })
    }
}

/// Divides by the mean magnitude and rounds (ties to even): codes and the mean.
fn round(weights: &[f32]) -> (Vec<u8>, f32) {
    let sum: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
    let mean = ((sum / weights.len() as f64) as f32).max(1e-5);
    let per_unit = 1.0 / mean;
    let code = |w: &f32| ((w * per_unit).round_ties_even().clamp(-1.0, 1.0) + 1.0) as u8;
    (weights.iter().map(code).collect(), mean)
}

/// Bits 2i and 2i + 1 of stored row r are the codes of row i · stored_rows + r.
fn unpack(tensors: &LinearTensors) -> Result<Vec<u8>> {
    let weight = &tensors.weight;
    if weight.ty != TensorType::Other(OtherType::U8) {
        return Err(wrong(tensors, "type U8, four ternary weights a byte", weight.ty.to_string()));
    }
    let stored_rows = tensors.rows.div_ceil(4);
    let mut codes = Vec::with_capacity(tensors.rows * tensors.cols);
    for row in 0..tensors.rows {
        let stored = &weight.data[row % stored_rows * tensors.cols..][..tensors.cols];
        let shift = 2 * (row / stored_rows);
        codes.extend(stored.iter().map(|byte| byte >> shift & 3));
    }
    Ok(codes)
}

/// The codes of a tensor of I2_S, its rows in the order in which they are computed.
fn i2_s(tensors: &LinearTensors) -> Result<Vec<u8>> {
    let LinearTensors { weight, rows, cols, order, scale, .. } = tensors;
    if weight.ty != TensorType::I2S || scale.is_some() {
        return Err(wrong(tensors, "type I2_S, with its scale in itself", weight.ty.to_string()));
    }
    let stored = ggml::i2_s::codes(&weight.data);
    match order {
        RowOrder::AsStored => Ok(stored),
        order => {
            Ok((0..*rows).flat_map(|row| &stored[order.stored_row(row) * cols..][..*cols]).copied().collect())
        }
    }
}

fn scale_of(tensors: &LinearTensors) -> Result<f32> {
    let scale = tensors.scale.as_ref().map(|scale| scale.to_f32()).transpose()?;
    Ok(scale.and_then(|values| values.first().copied()).unwrap_or(1.0))
}

fn wrong(tensors: &LinearTensors, expected: &str, found: String) -> ModelError {
    ModelError::TensorValue {
        file: tensors.weight.file.to_string().into(),
        tensor: tensors.weight.name.clone(),
        expected: expected.to_owned(),
        found,
    }
}

#[cfg(test)]
mod tests {
    use sterna_formats::Tensor;

    use super::*;

    #[test]
    fn rounding_is_by_the_mean_magnitude_with_ties_to_even() {
        let (codes, mean) = round(&[1.0, -1.0, 0.5, -0.5, 2.0, 0.0, -1.0, 2.0]);
        assert_eq!(mean, 1.0);
        assert_eq!(codes, [2, 0, 1, 1, 2, 1, 0, 2]);
    }

    /// Four rows of 32 weights as I2_S: row `r` is all `codes[r]`.
    fn rows_of(codes: [u8; 4], scale: f32, order: RowOrder) -> LinearTensors {
        let byte = codes.iter().fold(0, |byte, code| byte << 2 | code);
        let tail = [&scale.to_le_bytes()[..], &[0; 28]].concat();
        let data = [vec![byte; 32], tail].concat();
        let weight = Tensor::new("file", "w", vec![4, 32], TensorType::I2S, data.into()).unwrap();
        let (rows, cols, ternary) = (4, 32, Some(TernaryStorage::ByType));
        LinearTensors { weight, rows, cols, order, bias: None, scale: None, ternary, rounds_per_token: true }
    }

    #[test]
    fn i2_s_is_read_in_the_order_of_its_rows() {
        let read = |order| {
            let matrix = TernaryMatrix::read(&rows_of([0, 1, 2, 1], 0.25, order), TernaryStorage::ByType);
            let TernaryMatrix { codes, scale, .. } = matrix.unwrap();
            assert_eq!((codes.len(), scale), (128, 0.25));
            codes.chunks_exact(32).map(|row| row[7]).collect::<Vec<_>>()
        };
        assert_eq!(read(RowOrder::AsStored), [0, 1, 2, 1]);
        assert_eq!(read(RowOrder::HalfRotated { n_heads: 1, head_dim: 4, n_dims: 4 }), [0, 2, 1, 1]);
    }

    #[test]
    fn broken_i2_s_is_refused() {
        let error = |codes, scale| {
            let tensors = rows_of(codes, scale, RowOrder::AsStored);
            TernaryMatrix::read(&tensors, TernaryStorage::ByType).err().unwrap().to_string()
        };
        assert!(error([0, 3, 2, 1], 1.0).contains("expected codes 0, 1 and 2, found 3"));
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(error([0, 1, 2, 1], scale).contains("a scale that is finite and above zero"), "{scale}");
        }
    }
}
