//! Ternary weights of BitNet b1.58 (arXiv:2402.17764) in the forms that Hugging Face checkpoints hold.

use sterna_formats::{OtherType, TensorType};

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
        };
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
    match codes.iter().find(|code| **code > 2) {
        None => Ok(codes),
        Some(code) => Err(wrong(tensors, "codes 0, 1 and 2", format!("{code}"))),
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
    use super::*;

    #[test]
    fn rounding_is_by_the_mean_magnitude_with_ties_to_even() {
        let (codes, mean) = round(&[1.0, -1.0, 0.5, -0.5, 2.0, 0.0, -1.0, 2.0]);
        assert_eq!(mean, 1.0);
        assert_eq!(codes, [2, 0, 1, 1, 2, 1, 0, 2]);
    }
}
