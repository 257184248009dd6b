//! AutoAWQ's format, version `gemm`: 4 bits and a zero point, eight outputs to a word in an order of its own.
//!
//! Layout: `awq/modules/linear/gemm.py` of AutoAWQ. With `n` inputs, `m` outputs and groups of `g` inputs there are
//! `qweight` `[n, m/8]`, `qzeros` `[n/g, m/8]` and `scales` `[n/g, m]`; a weight is `scale (code - zero point)`, which
//! is what ours are.

use half::f16;
use serde_json::{Value, json};
use sterna_formats::hf::{FolderWriter, PlannedTensor};
use sterna_formats::{OtherType, TensorType};
use sterna_tensor::DType;

use super::codes::{self, scale_bytes, word_bytes};
use super::tensors::HfTensor;
use crate::error::Result;
use crate::native::TensorKind;

const BITS: usize = 4;

/// The outputs of a word, from the lowest bits on.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Whether `tensor` can be in this format.
pub(super) fn fits(tensor: &HfTensor) -> bool {
    tensor.kind == TensorKind::Projection
        && codes::bits(tensor) == Some(BITS)
        && !codes::has_minima(tensor)
        && tensor.rows().is_multiple_of(ORDER.len())
}

/// `quantization_config`. `dense` are the modules that are not in this format.
pub(super) fn config(group_size: usize, dense: &[String]) -> Value {
    json!({
        "quant_method": "awq",
        "version": "gemm",
        "bits": BITS,
        "group_size": group_size,
        "zero_point": true,
        "modules_to_not_convert": dense,
    })
}

/// What `tensor` is in the output.
pub(super) fn plan(tensor: &HfTensor, group_size: usize) -> Vec<PlannedTensor> {
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let planned = |leaf: &str, ty, shape: [usize; 2]| PlannedTensor {
        name: format!("{}.{leaf}", tensor.module),
        ty,
        shape: shape.to_vec(),
    };
    let words = TensorType::Other(OtherType::I32);
    vec![
        planned("qweight", words, [cols, rows / ORDER.len()]),
        planned("qzeros", words, [cols / group_size, rows / ORDER.len()]),
        planned("scales", TensorType::Dense(DType::F16), [cols / group_size, rows]),
    ]
}

/// Writes `tensor`: its codes, zero points and scales as they are.
pub(super) fn write(tensor: &HfTensor, group_size: usize, writer: &mut FolderWriter) -> Result<()> {
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let codes = codes::of(tensor, group_size)?;
    let n_groups = cols / group_size;
    let name = |leaf: &str| format!("{}.{leaf}", tensor.module);
    writer.write(&name("qweight"), &word_bytes(&interleave(&codes.codes, rows, cols)))?;
    writer.write(&name("qzeros"), &word_bytes(&interleave(&codes.zero_points, rows, n_groups)))?;
    writer.write(&name("scales"), &scale_bytes(transpose(&codes.scales, rows, n_groups)))?;
    Ok(())
}

/// Values `[rows, cols]` of four bits as words `[cols, rows / 8]`.
fn interleave(values: &[u8], rows: usize, cols: usize) -> Vec<u32> {
    let n_words = rows / ORDER.len();
    let mut words = vec![0; cols * n_words];
    for (index, eight) in values.chunks_exact(ORDER.len() * cols).enumerate() {
        for (place, &row) in ORDER.iter().enumerate() {
            for (col, &value) in eight[row * cols..][..cols].iter().enumerate() {
                words[col * n_words + index] |= u32::from(value) << (BITS * place);
            }
        }
    }
    words
}

/// Values `[rows, cols]` as `[cols, rows]`.
pub(super) fn transpose(values: &[f16], rows: usize, cols: usize) -> Vec<f16> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_interleaved_as_autoawq_does() {
        // Row r has the codes r and 15 - r.
        let values: Vec<u8> = (0..8).flat_map(|row| [row, 15 - row]).collect();
        assert_eq!(interleave(&values, 8, 2), [0x7531_6420, 0x8ace_9bdf]);
        let two: Vec<u8> = (0..16).map(|row| row / 8).collect();
        assert_eq!(interleave(&two, 16, 1), [0, 0x1111_1111]);
    }
}
