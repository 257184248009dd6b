//! MLX's affine format: 2 to 8 bits, words along the inputs, and for every group a scale and a bias.
//!
//! Of a matrix with `n` inputs, `m` outputs, groups of `g` inputs and codes of `b` bits the folder has `weight`
//! `[m, n b/32]`, `scales` and `biases`, both `[m, n/g]`; a weight is `scale code + bias`. Ours are `scale (code - zero
//! point)`, so the bias is `-scale zero point`: rounded to f16 it is exact where the zero point is a power of two, as in
//! all symmetric formats, and else off by at most 2^-11 of itself.

use half::f16;
use serde_json::{Map, Value, json};
use sterna_formats::hf::{FolderWriter, PlannedTensor};
use sterna_formats::{OtherType, TensorType};
use sterna_tensor::DType;

use super::codes::{self, Codes, pack_bits, scale_bytes, word_bytes};
use super::tensors::HfTensor;
use crate::error::{ModelError, Result};
use crate::export::RoundingError;
use crate::native::TensorKind;

/// Values that are in memory at a time.
const CHUNK: usize = 1 << 22;

/// How a matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) bits: usize,
    pub(super) group_size: usize,
}

impl Grid {
    /// How `tensor` can be stored, if it can.
    pub(super) fn of(tensor: &HfTensor) -> Option<Grid> {
        let may_be = matches!(tensor.kind, TensorKind::Embedding | TensorKind::Projection | TensorKind::Head);
        let bits = codes::bits(tensor).filter(|_| may_be)?;
        Some(Grid { bits, group_size: codes::group_size(std::iter::once(tensor)) })
    }

    fn json(self) -> Value {
        json!({"group_size": self.group_size, "bits": self.bits, "mode": "affine"})
    }
}

/// The field `quantization`: what most modules have, and what others have instead.
pub(super) fn config(grids: &[(String, Grid)]) -> Value {
    let count = |grid: &Grid| grids.iter().filter(|(_, other)| other == grid).count();
    let Some((_, usual)) = grids.iter().max_by_key(|(_, grid)| count(grid)) else { return Value::Null };
    let others = grids.iter().filter(|(_, grid)| grid != usual);
    let others: Map<String, Value> = others.map(|(module, grid)| (module.clone(), grid.json())).collect();
    let mut config = usual.json();
    if let Value::Object(config) = &mut config {
        config.extend(others);
    }
    config
}

/// What `tensor` is in the output.
pub(super) fn plan(tensor: &HfTensor, grid: Grid) -> Vec<PlannedTensor> {
    let cols = tensor.cols();
    let planned = |leaf: &str, ty, row_len| PlannedTensor {
        name: format!("{}.{leaf}", tensor.module),
        ty,
        shape: tensor.shape(row_len),
    };
    let (words, floats) = (TensorType::Other(OtherType::U32), TensorType::Dense(DType::F16));
    vec![
        planned("weight", words, cols * grid.bits / 32),
        planned("scales", floats, cols / grid.group_size),
        planned("biases", floats, cols / grid.group_size),
    ]
}

/// Writes `tensor`: its codes and scales as they are, its biases rounded.
///
/// # Errors
/// When a bias is beyond the range of f16.
pub(super) fn write(tensor: &HfTensor, grid: Grid, writer: &mut FolderWriter) -> Result<RoundingError> {
    let name = |leaf: &str| format!("{}.{leaf}", tensor.module);
    let mut error = RoundingError::default();
    let (mut scales, mut biases) = (Vec::new(), Vec::new());
    codes::for_each(tensor, grid.group_size, CHUNK, |codes| {
        let mut words = Vec::with_capacity(codes.codes.len() * grid.bits / 32);
        pack_bits(codes.codes.iter().copied(), grid.bits, &mut words);
        writer.write(&name("weight"), &word_bytes(&words))?;
        scales.extend_from_slice(&codes.scales);
        if !codes.minima.is_empty() {
            biases.extend_from_slice(&codes.minima);
            return Ok(());
        }
        let first = biases.len();
        biases.extend(codes.scales.iter().zip(&codes.zero_points).map(|(scale, zero)| bias(*scale, *zero)));
        add_error(codes, grid.group_size, &biases[first..], &mut error);
        Ok(())
    })?;
    if let (Some(bias), Some(part)) = (biases.iter().find(|bias| !bias.is_finite()), tensor.parts.first()) {
        let field = format!("tensor {}", part.name);
        return Err(ModelError::field(part.file(), field, "biases in the range of f16", *bias));
    }
    writer.write(&name("scales"), &scale_bytes(scales))?;
    writer.write(&name("biases"), &scale_bytes(biases))?;
    Ok(error)
}

fn bias(scale: f16, zero: u8) -> f16 {
    f16::from_f32(-scale.to_f32() * f32::from(zero))
}

/// Adds what rounding the biases does to the weights.
fn add_error(codes: &Codes, group_size: usize, biases: &[f16], error: &mut RoundingError) {
    let groups = codes.codes.chunks_exact(group_size).zip(&codes.scales).zip(&codes.zero_points).zip(biases);
    for (((codes, scale), &zero), bias) in groups {
        let scale = f64::from(scale.to_f32());
        let off = f64::from(bias.to_f32()) + scale * f64::from(zero);
        error.squared_error += codes.len() as f64 * off * off;
        let squares: i64 = codes.iter().map(|&code| (i64::from(code) - i64::from(zero)).pow(2)).sum();
        error.squares += scale * scale * squares as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_are_exact_for_powers_of_two_and_near_for_others() {
        let scale = f16::from_f32(0.123);
        for zero in 0..=128u8 {
            let exact = -scale.to_f32() * f32::from(zero);
            let off = (bias(scale, zero).to_f32() - exact).abs();
            assert!(off <= exact.abs() / 2048.0, "{zero}");
            assert!(off == 0.0 || !zero.is_power_of_two(), "{zero}");
        }
    }

    #[test]
    fn modules_with_another_grid_are_named() {
        let grid = |bits, group_size| Grid { bits, group_size };
        let grids = [("a", grid(4, 64)), ("embed", grid(6, 32)), ("b", grid(4, 64))];
        let config = config(&grids.map(|(name, grid)| (name.to_owned(), grid)));
        let expected = json!({"group_size": 64, "bits": 4, "mode": "affine",
            "embed": {"group_size": 32, "bits": 6, "mode": "affine"}});
        assert_eq!(config, expected);
    }
}
