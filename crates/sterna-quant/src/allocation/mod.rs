//! Bits where they count: a format for each matrix, such that all of them fit a number of bytes and the model's
//! predictions change least.
//!
//! What a format would cost is measured, not guessed ([`Measurement`]): how far rounding a matrix moves the residual stream
//! behind its block, and how far such a move at that depth changes the predictions, as divergence in nats. Both are
//! quadratic in small errors, so costs scale with the squared error of the weights, and those of different matrices add
//! up. [`allocate`] then buys the bytes that save the most, one step after the other.

mod budget;
mod curve;
mod measure;

pub use budget::{allocate, smallest};
pub use measure::{Measurement, pattern};

use serde::{Deserialize, Serialize};

use crate::recipe::Grid;

/// Matrices that get the same format: one layer, or the same layer of all experts of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Their name; of experts, with a star in place of the number.
    pub pattern: String,
    /// What they could be rounded to.
    pub choices: Vec<Choice>,
}

/// One of the things that a [`Unit`] could be rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Bits and groups.
    pub grid: Grid,
    /// Bytes of the packed matrices.
    pub n_bytes: u64,
    /// Expected divergence of the predictions, in nats a token.
    pub cost: f64,
}

/// What matrices are rounded to unless something narrower is asked for: from 2 to 8 bits, a quarter of a bit apart or less
/// where it counts. Scales of a byte make small groups cheap; with more bits, they cost more than they save in some matrices
/// (there is no sign to turn the one code more below zero to the other side), so there are both.
pub fn usual_grids() -> Vec<Grid> {
    let affine = [(2, 64), (2, 32), (3, 128), (3, 64), (3, 32), (4, 128), (4, 64), (4, 32)];
    let symmetric = [(5, 128), (5, 64), (5, 32), (6, 128), (6, 64), (6, 32), (8, 128), (8, 32)];
    let affine = affine.iter().filter_map(|&(bits, size)| Grid::new(bits, size, false)?.with_byte_scales());
    let symmetric = symmetric.iter().filter_map(|&(bits, size)| Grid::new(bits, size, true));
    let with_byte_scales = symmetric.clone().filter_map(Grid::with_byte_scales);
    affine.chain(symmetric.clone()).chain(with_byte_scales).collect()
}
