//! MLX's affine quantization: 2, 3, 4, 5, 6 or 8 bits, a scale and a minimum (which it calls bias) for each group of inputs.
//!
//! | part | shape |
//! |---|---|
//! | `weight` | `[out, in bits / 32]`, u32: a stream of bits along the inputs |
//! | `scales`, `biases` | `[out, groups]`, floats of the model's type |
//!
//! The experts of a layer are one tensor of three dimensions for each projection, `switch_mlp.up_proj` for instance; they
//! become a matrix each, under the names of other checkpoints. Source: `mlx/backend/cpu/quantized.cpp` of
//! github.com/ml-explore/mlx and `mlx_lm/utils.py` of github.com/ml-explore/mlx-lm.

use std::collections::HashMap;

use serde_json::Value;

use super::integers::{Along, Integers, Layout};
use super::matrix::{Groups, QuantizedMatrix, Zeros};
use super::parts::Parts;
use super::tables::{Floats, two_dimensions, wrong};
use super::{Format, Tool, suffix};
use crate::error::Result;
use crate::hf::ConfigView;
use crate::tensor::{Tensor, TensorType};

const CODES: Layout = Layout { along: Along::Cols, transposed: false, interleaved: false };

/// What the configuration says.
pub(super) struct Mlx {
    scheme: Scheme,
    /// Layers of their own scheme, by name.
    exceptions: HashMap<String, Scheme>,
}

#[derive(Debug, Clone, Copy)]
struct Scheme {
    bits: usize,
    group_size: usize,
}

impl Mlx {
    pub(super) fn new(section: &ConfigView) -> Result<Mlx> {
        let mut exceptions = HashMap::new();
        for layer in section.keys().filter(|key| matches!(section.get(key), Some(Value::Object(_)))) {
            exceptions.insert(layer.to_owned(), Scheme::new(&section.sub(layer)?)?);
        }
        Ok(Mlx { scheme: Scheme::new(section)?, exceptions })
    }

    fn matrix(
        &self,
        scheme: Scheme,
        weight: &Tensor,
        scales: &Tensor,
        biases: &Tensor,
    ) -> Result<QuantizedMatrix> {
        let Scheme { bits, group_size } = scheme;
        let [rows, n_words] = two_dimensions(weight)?;
        let cols = n_words.saturating_mul(32) / bits;
        if !cols.is_multiple_of(group_size) {
            let found = format!("{n_words} words for each output");
            return Err(wrong(weight, format!("groups of {group_size} codes of {bits} bits"), found));
        }
        let n_groups = cols / group_size;
        Ok(QuantizedMatrix {
            tool: Tool::Mlx,
            bits,
            rows,
            cols,
            codes: Integers::new(weight, rows, cols, bits, CODES)?,
            scales: Floats::new(scales, rows, n_groups, false)?,
            zeros: Zeros::Minima(Floats::new(biases, rows, n_groups, false)?),
            groups: Groups::Of(group_size),
        })
    }
}

impl Scheme {
    fn new(section: &ConfigView) -> Result<Scheme> {
        if !matches!(section.opt_str("mode")?, None | Some("affine")) {
            return Err(section.wrong("mode", "affine"));
        }
        let (bits, group_size) = (section.usize("bits")?, section.usize("group_size")?);
        if ![2, 3, 4, 5, 6, 8].contains(&bits) {
            return Err(section.wrong("bits", "2, 3, 4, 5, 6 or 8"));
        }
        if group_size == 0 || !group_size.is_multiple_of(32) {
            return Err(section.wrong("group_size", "a multiple of 32"));
        }
        Ok(Scheme { bits, group_size })
    }
}

impl Format for Mlx {
    fn anchor(&self) -> &'static str {
        "scales"
    }

    fn others(&self) -> &'static [&'static str] {
        &["biases", "weight"]
    }

    fn is_part(&self, tensor: &Tensor) -> bool {
        match suffix(tensor) {
            "weight" => !matches!(tensor.ty, TensorType::Dense(_)),
            suffix => ["scales", "biases"].contains(&suffix),
        }
    }

    fn read(&self, parts: &Parts) -> Result<Vec<(String, QuantizedMatrix)>> {
        let (weight, scales, biases) =
            (parts.require("weight")?, parts.require("scales")?, parts.require("biases")?);
        let scheme = self.exceptions.get(parts.stem()).copied().unwrap_or(self.scheme);
        let &[n_experts, _, _] = weight.shape.as_slice() else {
            return Ok(vec![(parts.name(), self.matrix(scheme, weight, scales, biases)?)]);
        };
        let Some((block, projection)) = parts.stem().split_once(".switch_mlp.") else {
            return Err(wrong(weight, "two dimensions", format!("shape {:?}", weight.shape)));
        };
        let expert = |e| {
            let matrix = self.matrix(scheme, &weight.at(e)?, &scales.at(e)?, &biases.at(e)?)?;
            Ok((format!("{block}.experts.{e}.{projection}.weight"), matrix))
        };
        (0..n_experts).map(expert).collect()
    }
}
