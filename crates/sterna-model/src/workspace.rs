//! All memory that a forward pass computes in. It grows to the largest chunk and is used again.

use crate::block::BlockScratch;
use crate::rope::RopeTables;

/// Scratch memory of forward passes; `n` is the number of tokens in a chunk. One serves any model and any sequence,
/// one at a time.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The residual stream, `[n, hidden_size]`.
    pub(crate) x: Vec<f32>,
    /// Where it began, for networks that read that again, `[n, hidden_size]`.
    pub(crate) embedding: Vec<f32>,
    pub(crate) block: BlockScratch,
    pub(crate) ropes: RopeTables,
    /// `[n_logits, vocab_size]`.
    pub(crate) logits: Vec<f32>,
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Workspace {
        Workspace::default()
    }

    /// The logits of the last forward pass, `[n_logits, vocab_size]`.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
}

/// The first `len` elements of `buffer`, which grows when it is shorter and keeps its memory.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
