//! What a forward pass runs on.

use crate::tuning::Kernels;
use crate::{Isa, PackedFormat, Pool, Tuning};

/// How inputs meet packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Inputs are rounded to int8 in groups of 32, each with its own scale: the fast path.
    #[default]
    Int8,
    /// Inputs stay `f32` and weights are exactly what the file says: the accurate path.
    Float,
}

/// Tokens that make a pass one of a prompt: with fewer, reading the weights takes longer than multiplying with them.
const PROMPT_TOKENS: usize = 8;

/// Instruction set, threads and precision, passed to every operation.
pub struct Compute {
    /// Vector instructions in use.
    pub isa: Isa,
    /// Worker threads.
    pub pool: Pool,
    /// How inputs meet packed weights.
    pub precision: Precision,
    /// Where other kernels or fewer threads are faster.
    pub tuning: Tuning,
}

impl Compute {
    /// `n_threads` threads with the best instruction set of this machine ([`Isa::best`]).
    pub fn new(n_threads: usize, precision: Precision) -> Compute {
        Compute { isa: Isa::best(), pool: Pool::new(n_threads), precision, tuning: Tuning::default() }
    }

    /// Which kernel multiplies with packed weights of `format`, in a few words for people.
    pub fn kernel(&self, format: PackedFormat) -> String {
        let bits = format.code_bits();
        if self.precision == Precision::Float {
            return format!("{bits}-bit x f32, {}, 16x4 tiles", self.isa);
        }
        let kernels = self.tuning.kernels(format, self.isa);
        let family = kernels.family(format, 1);
        let Kernels { few, many, .. } = kernels;
        let prompts = if few == many { String::new() } else { format!(", prompts by {many}") };
        format!("{bits}-bit x int8 {family}, {few}, 16x4 tiles{prompts}")
    }

    /// Threads of a pass of `n_tokens` tokens.
    pub fn threads(&self, n_tokens: usize) -> usize {
        let threads = match n_tokens < PROMPT_TOKENS {
            true => self.tuning.decode_threads,
            false => self.tuning.prefill_threads,
        };
        threads.unwrap_or(usize::MAX).clamp(1, self.pool.n_threads())
    }

    /// Gives a pass of `n_tokens` tokens its threads.
    pub fn begin_pass(&self, n_tokens: usize) {
        self.pool.limit(self.threads(n_tokens));
    }
}
