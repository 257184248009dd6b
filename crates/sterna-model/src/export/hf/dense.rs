//! Tensors as floats of 16 bits.

use half::{bf16, f16};
use sterna_formats::TensorType;
use sterna_formats::hf::{FolderWriter, PlannedTensor};
use sterna_tensor::DType;

use super::tensors::HfTensor;
use crate::error::{ModelError, Result};
use crate::export::RoundingError;
use crate::native::TensorKind;

/// Values that are in memory at a time.
const CHUNK: usize = 1 << 22;

/// What `tensor` is in the output.
pub(super) fn plan(tensor: &HfTensor, dtype: DType) -> Vec<PlannedTensor> {
    let (name, ty) = (tensor.name(), TensorType::Dense(dtype));
    vec![PlannedTensor { name, ty, shape: tensor.shape(tensor.cols()) }]
}

/// Writes `tensor`, rounded to `dtype`.
///
/// # Errors
/// When a value is beyond the range of `dtype`.
pub(super) fn write(tensor: &HfTensor, dtype: DType, writer: &mut FolderWriter) -> Result<RoundingError> {
    let name = tensor.name();
    let mut error = RoundingError::default();
    let mut bytes = Vec::new();
    for part in &tensor.parts {
        let rows_at_a_time = (CHUNK / part.cols).max(1);
        for first in (0..part.rows).step_by(rows_at_a_time) {
            let mut values = part.load_rows(first..part.rows.min(first + rows_at_a_time))?;
            if tensor.kind == TensorKind::Vector {
                values.iter_mut().for_each(|value| *value -= tensor.offset);
            }
            bytes.clear();
            for &value in &values {
                let (rounded, encoded) = round(value, dtype);
                if !rounded.is_finite() {
                    let expected = format!("values in the range of {dtype}");
                    return Err(ModelError::field(
                        part.file(),
                        format!("tensor {}", part.name),
                        expected,
                        value,
                    ));
                }
                error.squared_error += (f64::from(rounded) - f64::from(value)).powi(2);
                error.squares += f64::from(value).powi(2);
                bytes.extend_from_slice(&encoded);
            }
            writer.write(&name, &bytes)?;
        }
    }
    Ok(error)
}

/// `value` as a 16-bit float, and its little-endian bytes.
fn round(value: f32, dtype: DType) -> (f32, [u8; 2]) {
    match dtype {
        DType::BF16 => {
            let rounded = bf16::from_f32(value);
            (rounded.to_f32(), rounded.to_le_bytes())
        }
        DType::F16 | DType::F32 => {
            let rounded = f16::from_f32(value);
            (rounded.to_f32(), rounded.to_le_bytes())
        }
    }
}
