//! What is to become of a model: method, bits, groups.

use serde::{Deserialize, Serialize};
use sterna_tensor::PackedFormat;

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// To nearest, group by group.
    Rtn,
    /// Activation-aware scaling (arXiv:2306.00978), then to nearest with the best clipping.
    Awq,
    /// With each column's error made up for by the columns after it (arXiv:2210.17323).
    Gptq,
    /// Activation-aware scaling, then whichever of the others leaves the least error, with scales fitted afterwards.
    Auto,
}

/// How a model is quantized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// How weights are rounded.
    pub method: Method,
    /// Of the linear layers of all blocks.
    pub body: Grid,
    /// Of the embedding.
    pub embedding: Grid,
    /// Of the head, where it is not the embedding.
    pub head: Grid,
}

/// Bits and groups of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Bits of a code.
    pub bits: usize,
    /// Columns that share a scale.
    pub group_size: usize,
    /// No zero points: the middle code is zero.
    pub symmetric: bool,
}

impl Grid {
    /// The format that holds such a matrix, if there is one.
    pub fn format(self) -> Option<PackedFormat> {
        match self.symmetric {
            true => PackedFormat::symmetric(self.bits, self.group_size),
            false => PackedFormat::affine(self.bits, self.group_size),
        }
    }
}
