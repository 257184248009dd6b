//! What a forward pass runs on.

use crate::{Isa, Pool};

/// How inputs meet packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Inputs are rounded to int8 in groups of 32, each with its own scale: the fast path.
    #[default]
    Int8,
    /// Inputs stay `f32` and weights are exactly what the file says: the accurate path.
    Float,
}

/// Instruction set, threads and precision, passed to every operation.
pub struct Compute {
    /// Vector instructions in use.
    pub isa: Isa,
    /// Worker threads.
    pub pool: Pool,
    /// How inputs meet packed weights.
    pub precision: Precision,
}

impl Compute {
    /// `n_threads` threads with the best instruction set of this machine ([`Isa::best`]).
    pub fn new(n_threads: usize, precision: Precision) -> Compute {
        Compute { isa: Isa::best(), pool: Pool::new(n_threads), precision }
    }
}
