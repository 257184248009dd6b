//! The normalised description of a network: what a checkpoint says about itself, whatever its family calls things.
//!
//! A [`Spec`] is a list of blocks. Every block is norm → mixer → residual → norm → feed-forward → residual; the mixer
//! (attention, or one of the recurrences of hybrid models) is the only part that mixes positions and the only one that
//! keeps state. Nothing outside `arch/` knows a family by name.

mod feed_forward;
mod memory;
mod mixer;

pub use feed_forward::{Activation, DenseSpec, FeedForwardSpec, LatentSpec, MoeSpec, Routing};
pub use mixer::{
    AttentionSpec, GatedDeltaSpec, InnerNorms, Mamba1Spec, Mamba2Gate, Mamba2Scales, Mamba2Spec, MixerSpec,
    ParallelSpec, SharedSpec, ShortConvSpec,
};

use crate::rope::{Regime, RopeSpec};

/// A whole network.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Name of the table row that this was derived by, such as `qwen3_moe`.
    pub architecture: &'static str,
    /// Rows of the embedding, and number of logits.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Longest sequence, in tokens.
    pub context_length: usize,
    /// Epsilon of every RMS norm that has none of its own.
    pub norm_eps: f32,
    /// Factor on the embedding (Gemma: √hidden_size).
    pub embedding_scale: f32,
    /// Factor on the logits, before the soft cap.
    pub logit_scale: f32,
    /// `cap · tanh(logit / cap)` on the logits.
    pub logit_softcap: Option<f32>,
    /// The head is the embedding itself.
    pub tied_embeddings: bool,
    /// How the weights of the projections (not of embedding, head, routers) are to be understood.
    pub projections: Projections,
    /// The blocks, first to last.
    pub blocks: Vec<BlockSpec>,
}

/// One residual block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// The part that mixes positions.
    pub mixer: MixerSpec,
    /// The part that works on each position alone.
    pub feed_forward: FeedForwardSpec,
    /// Where the norms are.
    pub norms: NormPlacement,
    /// Factor on what is added to the residual stream.
    pub residual_scale: f32,
}

impl BlockSpec {
    /// The window of its attention.
    pub fn window(&self) -> Option<usize> {
        self.mixer.attention()?.window
    }

    /// The rotation of its attention.
    pub fn rope(&self) -> Option<&RopeSpec> {
        self.mixer.attention()?.rope.as_ref()
    }
}

/// Where a block normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before mixer and feed-forward: `x += mixer(norm(x))`.
    Pre,
    /// Before and after: `x += norm(mixer(norm(x)))` (Gemma 3).
    Sandwich,
}

/// How the weights of the projections are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// As the tensors say.
    Stored,
    /// BitNet b1.58: weights in {-1, 0, 1} times one scale per matrix, and inputs rounded to 8 bits per token.
    Ternary {
        /// Where the three values come from.
        storage: TernaryStorage,
    },
}

/// The forms in which checkpoints hold ternary weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TernaryStorage {
    /// `uint8`, four weights a byte, with a `weight_scale` tensor that multiplies.
    PackedMultiply,
    /// `uint8`, four weights a byte, with a `weight_scale` tensor that divides (class `BitLinear`).
    PackedDivide,
    /// Float weights, to be rounded to three values by their mean magnitude.
    Online,
    /// GGUF files: tensors of the types I2_S, TQ1_0 and TQ2_0; native files: those of types such as `t2g2560a8`. Others are as
    /// they are stored, and so are their inputs.
    ByType,
}

impl Spec {
    /// Whether blocks read the embedding beside the residual stream.
    pub(crate) fn reads_embedding(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.mixer, MixerSpec::Shared(_)))
    }

    /// The rotary regime of a sequence of `length` tokens.
    pub fn regime(&self, length: usize) -> Regime {
        match self.blocks.iter().filter_map(BlockSpec::rope).any(|rope| rope.regime(length) == Regime::Long) {
            true => Regime::Long,
            false => Regime::Short,
        }
    }
}
