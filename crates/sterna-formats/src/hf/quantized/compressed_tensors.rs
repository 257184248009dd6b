//! The format `pack-quantized` of compressed-tensors, which llm-compressor writes: 1 to 8 bits, a scale for each group of
//! inputs or for each output, and maybe a zero point.
//!
//! | part | shape | |
//! |---|---|---|
//! | `weight_packed` | `[out, in bits / 32]` | packed along the inputs, plus half of the range |
//! | `weight_scale` | `[out, groups]` | |
//! | `weight_zero_point` | `[out bits / 32, groups]` | packed along the outputs, plus half of the range; only if asymmetric |
//! | `weight_shape` | `[2]` | `[out, in]` |
//! | `weight_g_idx` | `[in]` | the group of each input; -1 or absent: in order |
//!
//! A configuration may have several schemes, for layers that it lists by name, pattern or class. Which one a layer has is told
//! by its shapes. Source: `compressed_tensors/compressors/pack_quantized` of github.com/vllm-project/compressed-tensors.

use super::integers::{Along, Integers, Layout};
use super::matrix::{Groups, QuantizedMatrix, Zeros};
use super::parts::Parts;
use super::tables::{Floats, list, listed_groups, two_dimensions, wrong};
use super::{Format, Tool};
use crate::error::Result;
use crate::hf::ConfigView;
use crate::tensor::Tensor;

const CODES: Layout = Layout { along: Along::Cols, transposed: false, interleaved: false };
const ZEROS: Layout = Layout { along: Along::Rows, transposed: false, interleaved: false };

/// The schemes of the configuration.
pub(super) struct CompressedTensors {
    schemes: Vec<Scheme>,
}

#[derive(Debug, Clone, Copy)]
struct Scheme {
    bits: usize,
    /// `None`: a group is a whole row.
    group_size: Option<usize>,
    is_symmetric: bool,
}

impl CompressedTensors {
    pub(super) fn new(section: &ConfigView) -> Result<CompressedTensors> {
        const FORMAT: &str = "pack-quantized";
        let groups = section.sub("config_groups")?;
        let mut schemes = Vec::new();
        for name in groups.keys() {
            let group = groups.sub(name)?;
            if group.opt_str("format")?.is_some_and(|format| format != FORMAT) {
                return Err(group.wrong("format", FORMAT));
            }
            if group.has("input_activations") {
                return Err(group.wrong("input_activations", "null: only weights are quantized"));
            }
            schemes.push(Scheme::new(&group.sub("weights")?)?);
        }
        match section.str("format")? {
            FORMAT | "mixed-precision" => Ok(CompressedTensors { schemes }),
            _ => Err(section.wrong("format", FORMAT)),
        }
    }
}

impl Scheme {
    fn new(weights: &ConfigView) -> Result<Scheme> {
        let bits = weights.usize("num_bits")?;
        if !(1..=8).contains(&bits) {
            return Err(weights.wrong("num_bits", "1 to 8"));
        }
        if weights.opt_str("type")?.is_some_and(|kind| kind != "int") {
            return Err(weights.wrong("type", "int"));
        }
        let group_size = match weights.opt_str("strategy")? {
            Some("channel") => None,
            Some("group") | None => Some(weights.usize("group_size")?),
            Some(_) => return Err(weights.wrong("strategy", "group or channel")),
        };
        if group_size == Some(0) {
            return Err(weights.wrong("group_size", "a whole number above 0"));
        }
        Ok(Scheme { bits, group_size, is_symmetric: weights.opt_bool("symmetric")?.unwrap_or(true) })
    }

    /// Whether a matrix of `cols` inputs, of which each output has `n_words` words and `n_groups` scales, may be of this
    /// scheme.
    fn fits(&self, cols: usize, n_words: usize, n_groups: usize, has_zeros: bool) -> bool {
        let expected =
            (cols.saturating_mul(self.bits).div_ceil(32), cols.div_ceil(self.group_size.unwrap_or(cols)));
        (n_words, n_groups) == expected && has_zeros != self.is_symmetric
    }
}

impl Format for CompressedTensors {
    fn anchor(&self) -> &'static str {
        "weight_packed"
    }

    fn others(&self) -> &'static [&'static str] {
        &["weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"]
    }

    fn read(&self, parts: &Parts) -> Result<Vec<(String, QuantizedMatrix)>> {
        let (packed, scale, shape) =
            (parts.require("weight_packed")?, parts.require("weight_scale")?, parts.require("weight_shape")?);
        let zero_point = parts.get("weight_zero_point");
        let ([_, n_words], [_, n_groups]) = (two_dimensions(packed)?, two_dimensions(scale)?);
        let [rows, cols] = original_shape(shape)?;
        let fits = |scheme: &&Scheme| scheme.fits(cols, n_words, n_groups, zero_point.is_some());
        let Some(&Scheme { bits, group_size, .. }) = self.schemes.iter().find(fits) else {
            let zeros = if zero_point.is_some() { "" } else { "no " };
            let found =
                format!("{n_words} words and {n_groups} scales for {cols} inputs, {zeros}zero points");
            return Err(wrong(packed, "one of the schemes in config_groups", found));
        };
        let size = group_size.unwrap_or(cols);
        let groups = match parts.get("weight_g_idx") {
            Some(g_idx) if list(g_idx)?.iter().any(|&group| group != -1) => {
                match listed_groups(g_idx, cols, n_groups)? {
                    Groups::Of(found) if found != size => {
                        return Err(wrong(g_idx, format!("groups of {size}"), format!("of {found}")));
                    }
                    groups => groups,
                }
            }
            _ => Groups::Of(size),
        };
        let zeros = match zero_point {
            None => Zeros::Middle,
            Some(tensor) => {
                Zeros::Points { stored: Integers::new(tensor, rows, n_groups, bits, ZEROS)?, plus: 0 }
            }
        };
        let matrix = QuantizedMatrix {
            tool: Tool::CompressedTensors,
            bits,
            rows,
            cols,
            codes: Integers::new(packed, rows, cols, bits, CODES)?,
            scales: Floats::new(scale, rows, n_groups, false)?,
            zeros,
            groups,
        };
        Ok(vec![(parts.name(), matrix)])
    }
}

/// Outputs and inputs of the matrix.
fn original_shape(tensor: &Tensor) -> Result<[usize; 2]> {
    let found = list(tensor)?;
    let sizes: Option<Vec<usize>> =
        found.iter().map(|&size| usize::try_from(size).ok().filter(|&size| size > 0)).collect();
    let shape = sizes.and_then(|sizes| <[usize; 2]>::try_from(sizes).ok());
    shape.ok_or_else(|| wrong(tensor, "two sizes", format!("{:?}", &found[..found.len().min(4)])))
}
