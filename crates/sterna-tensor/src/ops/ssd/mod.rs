//! The recurrence of Mamba-2 (state-space duality, arXiv:2405.21060 §6), head by head.
//!
//! ```text
//! S_t = exp(Δ_t A) S_{t-1} + B_t ⊗ (Δ_t x_t)
//! y_t = C_tᵀ S_t + D x_t
//! ```
//!
//! `S` is `[state_size, head_dim]`, so that lanes run over the head and no sum crosses them. It is computed in chunks of
//! eight tokens, as products of matrices (the dual form). With `S` as it was before the chunk, and `a(j, i)` what decay leaves
//! at token `i` of what came with token `j`:
//!
//! ```text
//! y_i = a(0, i) C_iᵀ S + Σ_{j ≤ i} a(j, i) (C_i · B_j) Δ_j x_j + D x_i
//! S   = a(0, 8) S + Σ_j a(j, 8) B_j ⊗ Δ_j x_j
//! ```
//!
//! Chunks begin where the position in the sequence is a multiple of eight, wherever a prompt is cut; the tokens since
//! then, the open chunk, are kept beside the states. So any way of cutting gives the same bits, and of eight tokens that
//! are decoded one by one seven only read the states, which is what they take their time for.

mod chunk;
mod head;
mod scores;
#[cfg(test)]
mod tests;

use super::heads::for_heads;
use crate::Compute;
use chunk::Tokens;
use head::Head;
use scores::Scores;

/// Tokens of a chunk: as many as a product of matrices takes at once on the widest registers.
const CHUNK: usize = 8;

/// The sizes of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SsdShape {
    /// Heads, a multiple of `n_groups`.
    pub n_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Groups of heads that share `B` and `C`.
    pub n_groups: usize,
    /// Rows of a head's state.
    pub state_size: usize,
}

/// What a scan reads; `n` is the number of tokens.
#[derive(Debug, Clone, Copy)]
pub struct SsdInput<'a> {
    /// Position of the first token in its sequence.
    pub first: usize,
    /// `x`, `B` and `C` side by side, `[n, n_heads * head_dim + 2 * n_groups * state_size]`.
    pub xbc: &'a [f32],
    /// `Δ`, `[n, n_heads]`.
    pub dt: &'a [f32],
    /// `exp(Δ A)`, `[n, n_heads]`.
    pub decay: &'a [f32],
    /// `D`, `[n_heads]`.
    pub d: &'a [f32],
}

impl SsdShape {
    /// Width of `x`, all heads together.
    pub fn inner_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of `x`, `B` and `C` together.
    pub fn xbc_size(&self) -> usize {
        self.inner_size() + 2 * self.n_groups * self.state_size
    }

    /// Elements of what is kept of a sequence: the states of all heads, and the open chunk.
    pub fn state_len(&self) -> usize {
        self.heads_len() + (CHUNK - 1) * self.open_size()
    }

    /// Elements that a scan of `n` tokens computes in.
    pub fn scores_len(&self, n: usize) -> usize {
        n * self.n_groups * CHUNK
    }

    /// Elements of the states of all heads.
    fn heads_len(&self) -> usize {
        self.inner_size() * self.state_size
    }

    /// Width of `x` and `B` together.
    fn xb_size(&self) -> usize {
        self.inner_size() + self.n_groups * self.state_size
    }

    /// Elements that are kept of a token of the open chunk: `x`, `B`, and for each head `Δ` and what decay leaves.
    fn open_size(&self) -> usize {
        self.xb_size() + 2 * self.n_heads
    }
}

/// Runs `state`, at first all zeros, over the tokens of `input`, and writes `y` `[n, n_heads * head_dim]`. What the state
/// holds follows from the tokens so far: the states of all heads `[n_heads, state_size, head_dim]` before the open chunk, and its
/// tokens.
///
/// `scores` is [`SsdShape::scores_len`] long; what it holds before and after means nothing.
///
/// # Panics
/// When the lengths do not go together.
pub fn ssd_scan(
    c: &Compute,
    shape: SsdShape,
    input: SsdInput<'_>,
    state: &mut [f32],
    scores: &mut [f32],
    y: &mut [f32],
) {
    let n = y.len() / shape.inner_size().max(1);
    assert!(shape.n_groups > 0 && shape.n_heads.is_multiple_of(shape.n_groups), "{shape:?}");
    assert_eq!(y.len(), n * shape.inner_size(), "outputs");
    assert_eq!(state.len(), shape.state_len(), "states");
    assert_eq!(scores.len(), shape.scores_len(n), "memory for scores");
    assert_eq!(input.xbc.len(), n * shape.xbc_size(), "inputs");
    assert!(input.dt.len() == n * shape.n_heads && input.decay.len() == input.dt.len(), "time steps");
    assert_eq!(input.d.len(), shape.n_heads, "factors of inputs");
    let (heads, open) = state.split_at_mut(shape.heads_len());
    let tokens = Tokens { shape, input, open, n };
    c.isa.run(Scores { tokens, scores });
    for_heads(c, shape.n_heads, n, heads, y, |head, state, y| {
        c.isa.run(Head { tokens, scores, head, state, y });
    });
    chunk::keep_open(shape, input, open, n);
}
