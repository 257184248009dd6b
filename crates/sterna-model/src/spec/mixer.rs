//! The parts of a network that mix positions.

use sterna_tensor::ops::SsdShape;

use super::DenseSpec;
use crate::rope::RopeSpec;

/// The part of a block that mixes positions.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MixerSpec {
    /// The block has none.
    None,
    /// Softmax attention over the positions so far.
    Attention(AttentionSpec),
    /// Selective state spaces.
    Mamba1(Mamba1Spec),
    /// State-space duality.
    Mamba2(Mamba2Spec),
    /// A gated short convolution.
    ShortConv(ShortConvSpec),
    /// The gated delta rule.
    GatedDelta(GatedDeltaSpec),
    /// Attention and state-space duality side by side.
    Parallel(ParallelSpec),
    /// A transformer that several blocks share, and state-space duality after it.
    Shared(SharedSpec),
}

impl MixerSpec {
    /// The attention in it, if there is any.
    pub fn attention(&self) -> Option<&AttentionSpec> {
        match self {
            MixerSpec::Attention(spec) => Some(spec),
            MixerSpec::Parallel(spec) => Some(&spec.attention),
            MixerSpec::Shared(spec) => Some(&spec.attention),
            _ => None,
        }
    }

    /// Floats that a sequence's recurrence takes, however long it is: state, and what the convolution before it remembers.
    pub fn state_len(&self) -> usize {
        let history = |conv_kernel: usize, width: usize| (conv_kernel - 1) * width;
        match self {
            MixerSpec::None | MixerSpec::Attention(_) => 0,
            MixerSpec::Mamba1(spec) => {
                spec.inner_size * spec.state_size + history(spec.conv_kernel, spec.inner_size)
            }
            MixerSpec::Mamba2(spec) => spec.state_len(),
            MixerSpec::Parallel(spec) => spec.mamba.state_len(),
            MixerSpec::Shared(spec) => spec.mamba.state_len(),
            MixerSpec::ShortConv(spec) => history(spec.conv_kernel, spec.width),
            MixerSpec::GatedDelta(spec) => {
                spec.values_size() * spec.key_dim
                    + history(spec.conv_kernel, 2 * spec.keys_size() + spec.values_size())
            }
        }
    }
}

/// Grouped-query softmax attention.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// A query sees this many keys, its own included; `None`: all up to its own.
    pub window: Option<usize>,
    /// `cap · tanh(score / cap)` on the scores.
    pub softcap: Option<f32>,
    /// Rotary positions; `None`: this block knows no positions.
    pub rope: Option<RopeSpec>,
    /// Biases on the q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub o_bias: bool,
    /// RMS norm of every query and key head, before the rotation.
    pub qk_norm: bool,
    /// RMS norm before the output projection (BitNet).
    pub sub_norm: bool,
    /// The output is multiplied by the sigmoid of a gate before it is projected (Qwen3-Next).
    pub output_gate: bool,
}

impl AttentionSpec {
    /// Width of all query heads together.
    pub fn q_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads.
    pub fn kv_size(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }
}

/// Mamba-1 (arXiv:2312.00752): a linear recurrence for every channel, behind a short convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Mamba1Spec {
    /// Channels.
    pub inner_size: usize,
    /// Elements of a channel's state.
    pub state_size: usize,
    /// Width of what time steps are made of.
    pub dt_rank: usize,
    /// Taps of the convolution.
    pub conv_kernel: usize,
    /// Bias of the convolution.
    pub conv_bias: bool,
    /// Biases on the projections into and out of the mixer.
    pub proj_bias: bool,
    /// Norms of time steps, `B` and `C`.
    pub inner_norms: InnerNorms,
}

/// RMS norms of what time steps are made of, of `B` and of `C`, each by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InnerNorms {
    /// There are none.
    None,
    /// With weights, and the epsilon of the other norms (Jamba).
    Weighted,
    /// Without weights (Falcon-Mamba).
    Bare {
        /// Their epsilon.
        eps: f32,
    },
}

/// A convolution of every channel by itself, gated before and after (LFM2).
#[derive(Debug, Clone, PartialEq)]
pub struct ShortConvSpec {
    /// Channels: the width of the residual stream.
    pub width: usize,
    /// Taps of the convolution.
    pub conv_kernel: usize,
    /// Biases on convolution and projections.
    pub bias: bool,
}

/// Mamba-2 (arXiv:2405.21060): a gated linear recurrence with a matrix of state per head, behind a short convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Mamba2Spec {
    /// Heads, a multiple of `n_groups`.
    pub n_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Groups of heads that share `B` and `C`.
    pub n_groups: usize,
    /// Rows of a head's state.
    pub state_size: usize,
    /// Taps of the convolution.
    pub conv_kernel: usize,
    /// Bias of the convolution.
    pub conv_bias: bool,
    /// Bias on the projection into the mixer.
    pub in_bias: bool,
    /// Bias on the projection out of it.
    pub out_bias: bool,
    /// Least and largest time step.
    pub dt_limits: [f32; 2],
    /// How the output is gated.
    pub gate: Mamba2Gate,
    /// Epsilon of the norm, if it is not that of the others (Zamba2).
    pub norm_eps: Option<f32>,
    /// Factors on the parts of what goes in (Falcon-H1).
    pub scales: Option<Mamba2Scales>,
}

/// Constant factors on the parts of what goes into Mamba-2.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // The parts go by their names in the paper.
pub struct Mamba2Scales {
    pub z: f32,
    pub x: f32,
    pub b: f32,
    pub c: f32,
    pub dt: f32,
}

/// The gated delta rule (arXiv:2412.06464): a linear recurrence that corrects what its state holds for a key, behind a
/// short convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct GatedDeltaSpec {
    /// Heads of queries and keys.
    pub n_key_heads: usize,
    /// Heads of values, a multiple of `n_key_heads`.
    pub n_value_heads: usize,
    /// Width of a query and of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Taps of the convolution.
    pub conv_kernel: usize,
}

impl GatedDeltaSpec {
    /// Width of all heads of keys together, and of queries.
    pub fn keys_size(&self) -> usize {
        self.n_key_heads * self.key_dim
    }

    /// Width of all heads of values together.
    pub fn values_size(&self) -> usize {
        self.n_value_heads * self.value_dim
    }
}

/// Attention and Mamba-2 over the same input, their outputs added up.
#[derive(Debug, Clone, PartialEq)]
pub struct ParallelSpec {
    /// The one.
    pub attention: AttentionSpec,
    /// The other.
    pub mamba: Mamba2Spec,
    /// Factor on what attention reads.
    pub attention_in: f32,
    /// Factor on what it gives.
    pub attention_out: f32,
    /// Factor on what Mamba reads.
    pub mamba_in: f32,
    /// Factor on what it gives.
    pub mamba_out: f32,
}

/// A transformer over the residual stream and the embedding side by side, whose weights several blocks share and each adapts
/// by matrices of low rank; what it gives is added to what Mamba-2 reads (Zamba2, arXiv:2411.15242).
#[derive(Debug, Clone, PartialEq)]
pub struct SharedSpec {
    /// The block that has the weights of the transformer: this one, or one before it.
    pub owner: usize,
    /// Attention, which reads twice the width of the stream.
    pub attention: AttentionSpec,
    /// The network after it.
    pub feed_forward: DenseSpec,
    /// Rank of the adapters.
    pub adapter_rank: usize,
    /// Queries, keys and values are adapted, not the network alone.
    pub adapts_attention: bool,
    /// The recurrence.
    pub mamba: Mamba2Spec,
}

/// What happens to the output `y` of the recurrence and its gate `z`; norms are over each group's share of the width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mamba2Gate {
    /// `norm(y · silu(z))`
    ThenNorm,
    /// `norm(y) · silu(z)`
    AfterNorm,
    /// `y · silu(z)`
    Alone,
}

impl Mamba2Spec {
    /// Width of all heads together.
    pub fn inner_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    fn state_len(&self) -> usize {
        self.scan().state_len() + (self.conv_kernel - 1) * self.conv_size()
    }

    /// The sizes of its scan.
    pub(crate) fn scan(&self) -> SsdShape {
        let &Mamba2Spec { n_heads, head_dim, n_groups, state_size, .. } = self;
        SsdShape { n_heads, head_dim, n_groups, state_size }
    }

    /// Width of what the convolution sees: `x`, `B` and `C`.
    pub fn conv_size(&self) -> usize {
        self.inner_size() + 2 * self.n_groups * self.state_size
    }
}
