//! The normalised description of a network: what a checkpoint says about itself, whatever its family calls things.
//!
//! A [`Spec`] is a list of blocks. Every block is norm → mixer → residual → norm → feed-forward → residual; the mixer
//! (attention, or one of the recurrences of hybrid models) is the only part that mixes positions and the only one that
//! keeps state. Nothing outside `arch/` knows a family by name.

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
    /// Epsilon of every RMS norm.
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
    /// Attention and state-space duality side by side.
    Parallel(ParallelSpec),
}

impl MixerSpec {
    /// The attention in it, if there is any.
    pub fn attention(&self) -> Option<&AttentionSpec> {
        match self {
            MixerSpec::Attention(spec) => Some(spec),
            MixerSpec::Parallel(spec) => Some(&spec.attention),
            _ => None,
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
    /// RMS norms of time steps, `B` and `C` (Jamba).
    pub inner_norms: bool,
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
    /// Biases on the projections into and out of the mixer.
    pub proj_bias: bool,
    /// Least and largest time step.
    pub dt_limits: [f32; 2],
    /// How the output is gated.
    pub gate: Mamba2Gate,
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

    /// Width of what the convolution sees: `x`, `B` and `C`.
    pub fn conv_size(&self) -> usize {
        self.inner_size() + 2 * self.n_groups * self.state_size
    }
}

/// The part of a block that works on each position alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FeedForwardSpec {
    /// The block has none.
    None,
    /// One gated network for all positions.
    Dense(DenseSpec),
    /// A router picks a few of many gated networks for each position.
    Moe(MoeSpec),
}

/// `down(activation(gate x) · up x)`, or `down(activation(up x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseSpec {
    /// There is a gate.
    pub gated: bool,
    /// Width between the projections.
    pub intermediate_size: usize,
    /// The non-linearity, on the gate where there is one.
    pub activation: Activation,
    /// Biases on all three projections.
    pub bias: bool,
    /// RMS norm before the down projection (BitNet).
    pub sub_norm: bool,
    /// Factor on what goes into the non-linearity (Falcon-H1).
    pub gate_scale: f32,
    /// Factor on what comes out.
    pub out_scale: f32,
}

/// Mixture of experts: a router scores all experts, and the best `n_active` are added up by their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct MoeSpec {
    /// Experts there are.
    pub n_experts: usize,
    /// Experts that a position uses.
    pub n_active: usize,
    /// How scores become weights.
    pub routing: Routing,
    /// One expert.
    pub expert: DenseSpec,
    /// A network that every position uses besides.
    pub shared: Option<DenseSpec>,
}

/// How the scores of a router become the weights of the experts that it chose.
#[derive(Debug, Clone, PartialEq)]
pub enum Routing {
    /// Softmax over all experts.
    Softmax {
        /// The weights of the chosen experts are scaled to sum to one.
        renormalize: bool,
    },
    /// Softmax over the chosen experts.
    SoftmaxOfChosen,
    /// The sigmoid of each score. Experts are chosen by it and a bias of their own; of `n_groups` groups only the best
    /// `n_active_groups`, by the sum of their two best, are looked at (DeepSeek-V3, arXiv:2412.19437 §2.1.2).
    Sigmoid {
        /// Groups of experts.
        n_groups: usize,
        /// Groups that a position uses.
        n_active_groups: usize,
        /// The weights of the chosen experts are scaled to sum to one.
        renormalize: bool,
        /// Factor on the weights.
        scale: f32,
    },
}

/// The non-linearity of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU with the error function.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
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

/// The forms in which Hugging Face checkpoints hold ternary weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TernaryStorage {
    /// `uint8`, four weights a byte, with a `weight_scale` tensor that multiplies.
    PackedMultiply,
    /// `uint8`, four weights a byte, with a `weight_scale` tensor that divides (class `BitLinear`).
    PackedDivide,
    /// Float weights, to be rounded to three values by their mean magnitude.
    Online,
}

impl Spec {
    /// The rotary regime of a sequence of `length` tokens.
    pub fn regime(&self, length: usize) -> Regime {
        match self.blocks.iter().filter_map(BlockSpec::rope).any(|rope| rope.regime(length) == Regime::Long) {
            true => Regime::Long,
            false => Regime::Short,
        }
    }
}

impl Activation {
    /// The function itself, of one value.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                const SQRT_2_OVER_PI: f32 = 0.797_884_6;
                0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh())
            }
            Activation::Gelu => (0.5 * f64::from(x) * (1.0 + erf(f64::from(x) / 2f64.sqrt()))) as f32,
            Activation::Relu => x.max(0.0),
            Activation::Relu2 => x.max(0.0) * x.max(0.0),
        }
    }
}

/// The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).
fn erf(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 5] = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
    let t = 1.0 / (1.0 + 0.3275911 * x.abs());
    let series = COEFFICIENTS.iter().fold(0.0, |sum, c| (sum + c) * t);
    (1.0 - series * (-x * x).exp()).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_have_their_known_values() {
        for (activation, at_one, at_minus_one) in [
            (Activation::Silu, 0.731_058_6, -0.268_941_43),
            (Activation::GeluTanh, 0.841_192, -0.158_808),
            (Activation::Gelu, 0.841_344_8, -0.158_655_25),
            (Activation::Relu, 1.0, 0.0),
            (Activation::Relu2, 1.0, 0.0),
        ] {
            assert!((activation.apply(1.0) - at_one).abs() < 1e-6, "{activation:?}");
            assert!((activation.apply(-1.0) - at_minus_one).abs() < 1e-6, "{activation:?}");
            assert_eq!(activation.apply(0.0), 0.0);
        }
    }
}
