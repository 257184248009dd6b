//! The weights of a network in the shape of its [`Spec`](crate::Spec), whatever they are made of.
//!
//! `L` is a linear layer, `V` a vector. Each part of a network is a struct with a field for each tensor; what is done to
//! all of them alike is done by one `walk`, so that a new part is a struct here and nothing else.

mod assemble;
mod vector;
mod walk;

use walk::weights;

pub(crate) use assemble::{Leaves, LinearTensors, assemble, bias_of, check, embedding, scale_of, single};
pub(crate) use vector::{VectorForm, finite};
pub(crate) use walk::{Part, Seat};

/// All weights of a network.
#[derive(Debug)]
pub(crate) struct Weights<L, V> {
    pub(crate) blocks: Vec<BlockWeights<L, V>>,
    /// `[hidden_size]`.
    pub(crate) final_norm: V,
    /// `[vocab_size, hidden_size]`; the embedding where the two are tied.
    pub(crate) head: L,
}

/// Weights of a block; the norms are `[hidden_size]`.
#[derive(Debug)]
pub struct BlockWeights<L, V> {
    /// Before the mixer; none where the block has no mixer.
    pub mixer_norm: Option<V>,
    /// The part that mixes positions.
    pub mixer: MixerWeights<L, V>,
    /// After the mixer, where there is one.
    pub mixer_post_norm: Option<V>,
    /// Before the feed-forward network; none where the block has no such network.
    pub feed_forward_norm: Option<V>,
    /// The part that works on each position alone.
    pub feed_forward: FeedForwardWeights<L, V>,
    /// After the feed-forward network, where there is one.
    pub feed_forward_post_norm: Option<V>,
}

/// Weights of a mixer.
#[derive(Debug)]
pub enum MixerWeights<L, V> {
    /// There is none.
    None,
    /// Of attention.
    Attention(AttentionWeights<L, V>),
    /// Of Mamba-1.
    Mamba1(Mamba1Weights<L, V>),
    /// Of Mamba-2.
    Mamba2(Mamba2Weights<L, V>),
    /// Of a gated short convolution.
    ShortConv(ShortConvWeights<L, V>),
    /// Of the gated delta rule.
    GatedDelta(GatedDeltaWeights<L, V>),
    /// Of attention and Mamba-2 side by side.
    Parallel(ParallelWeights<L, V>),
    /// Of a transformer that several blocks share, and Mamba-2 after it.
    Shared(SharedWeights<L, V>),
}

/// Weights of a transformer that several blocks share, and of Mamba-2 after it.
#[derive(Debug)]
pub struct SharedWeights<L, V> {
    /// Of the transformer, in the block that has them.
    pub transformer: Option<TransformerWeights<L, V>>,
    /// Of what adapts it to this block.
    pub adapters: AdapterWeights<L>,
    /// Of the recurrence.
    pub mamba: Mamba2Weights<L, V>,
}

/// Weights of a transformer that reads the residual stream and the embedding side by side.
#[derive(Debug)]
pub struct TransformerWeights<L, V> {
    /// `[2 * hidden_size]`.
    pub norm: V,
    /// Its inputs are `2 * hidden_size` wide.
    pub attention: AttentionWeights<L, V>,
    /// `[hidden_size]`.
    pub feed_forward_norm: V,
    /// The network after attention.
    pub feed_forward: DenseWeights<L, V>,
}

/// Weights of attention and Mamba-2 side by side.
#[derive(Debug)]
pub struct ParallelWeights<L, V> {
    /// Of the one.
    pub attention: AttentionWeights<L, V>,
    /// Of the other.
    pub mamba: Mamba2Weights<L, V>,
}

weights! {
    /// Weights of attention.
    AttentionWeights {
        /// `[n_heads * head_dim, hidden_size]`.
        q: L as linear Q,
        /// `[n_kv_heads * head_dim, hidden_size]`.
        k: L as linear K,
        /// `[n_kv_heads * head_dim, hidden_size]`.
        v: L as linear V,
        /// Of the output, `[n_heads * head_dim, hidden_size]`.
        gate: Option<L> as optional_linear QGate,
        /// `[hidden_size, n_heads * head_dim]`.
        o: L as linear O,
        /// `[head_dim]`.
        q_norm: Option<V> as optional_vector QNorm,
        /// `[head_dim]`.
        k_norm: Option<V> as optional_vector KNorm,
        /// `[n_heads * head_dim]`.
        sub_norm: Option<V> as optional_vector AttentionSubNorm,
    }
}

weights! {
    /// Weights of Mamba-1.
    Mamba1Weights {
        /// `[inner_size, hidden_size]`.
        in_x: L as linear SsmInX,
        /// Makes the gate, `[inner_size, hidden_size]`.
        in_z: L as linear SsmInZ,
        /// Taps of the convolution, `[conv_kernel, inner_size]`.
        conv: V as vector SsmConv,
        /// `[inner_size]`.
        conv_bias: Option<V> as optional_vector SsmConvBias,
        /// Makes what time steps are made of, `B` and `C`, `[dt_rank + 2 * state_size, inner_size]`.
        select: L as linear SsmSelect,
        /// `[dt_rank]`.
        dt_norm: Option<V> as optional_vector SsmDtNorm,
        /// `[state_size]`.
        b_norm: Option<V> as optional_vector SsmBNorm,
        /// `[state_size]`.
        c_norm: Option<V> as optional_vector SsmCNorm,
        /// Makes the time steps, `[inner_size, dt_rank]`.
        dt: L as linear SsmDt,
        /// `[inner_size]`.
        dt_bias: V as vector SsmDtBias,
        /// Rates, below zero, `[state_size, inner_size]`.
        a: V as vector SsmA,
        /// What of the input goes past the recurrence, `[inner_size]`.
        d: V as vector SsmD,
        /// `[hidden_size, inner_size]`.
        out: L as linear SsmOut,
    }
}

weights! {
    /// Weights of a gated short convolution; `width` is that of the residual stream.
    ShortConvWeights {
        /// Makes the gate before, `[width, width]`.
        in_b: L as linear ConvInB,
        /// Makes the gate after, `[width, width]`.
        in_c: L as linear ConvInC,
        /// `[width, width]`.
        in_v: L as linear ConvInV,
        /// `[conv_kernel, width]`.
        conv: V as vector ConvTaps,
        /// `[width]`.
        conv_bias: Option<V> as optional_vector ConvBias,
        /// `[width, width]`.
        out: L as linear ConvOut,
    }
}

weights! {
    /// Weights of Mamba-2. What goes in is three matrices, so that each may have a format of its own.
    Mamba2Weights {
        /// Makes the gate, `[inner_size, hidden_size]`.
        in_z: L as linear SsmInZ,
        /// Makes what the convolution sees: `x`, `B` and `C`, `[conv_size, hidden_size]`.
        in_xbc: L as linear SsmInXbc,
        /// Makes the time steps, `[n_heads, hidden_size]`.
        in_dt: L as linear SsmInDt,
        /// Taps of the convolution, `[conv_kernel, conv_size]`.
        conv: V as vector SsmConv,
        /// `[conv_size]`.
        conv_bias: Option<V> as optional_vector SsmConvBias,
        /// `[n_heads]`.
        dt_bias: V as vector SsmDtBias,
        /// Rates, below zero, `[n_heads]`.
        a: V as vector SsmA,
        /// What of the input goes past the recurrence, `[n_heads]`.
        d: V as vector SsmD,
        /// `[inner_size]`.
        norm: Option<V> as optional_vector SsmNorm,
        /// `[hidden_size, inner_size]`.
        out: L as linear SsmOut,
    }
}

weights! {
    /// Weights of the gated delta rule.
    GatedDeltaWeights {
        /// `[keys_size, hidden_size]`.
        in_q: L as linear DeltaInQ,
        /// `[keys_size, hidden_size]`.
        in_k: L as linear DeltaInK,
        /// `[values_size, hidden_size]`.
        in_v: L as linear DeltaInV,
        /// Makes the gate of the output, `[values_size, hidden_size]`.
        in_z: L as linear DeltaInZ,
        /// Makes what is learned, `[n_value_heads, hidden_size]`.
        in_b: L as linear DeltaInB,
        /// Makes what is kept, `[n_value_heads, hidden_size]`.
        in_a: L as linear DeltaInA,
        /// Taps of the convolution, `[conv_kernel, 2 * keys_size + values_size]`.
        conv: V as vector SsmConv,
        /// `[n_value_heads]`.
        dt_bias: V as vector SsmDtBias,
        /// Rates, below zero, `[n_value_heads]`.
        a: V as vector SsmA,
        /// `[value_dim]`.
        norm: V as vector SsmNorm,
        /// `[hidden_size, values_size]`.
        out: L as linear SsmOut,
    }
}

/// Weights of what adapts a shared transformer to a block.
#[derive(Debug)]
pub struct AdapterWeights<L> {
    /// Of queries, keys and values.
    pub qkv: Option<[Adapter<L>; 3]>,
    /// `[rank, hidden_size]`.
    pub network_in: L,
    /// `[intermediate_size, rank]`.
    pub gate_out: L,
    /// `[intermediate_size, rank]`.
    pub up_out: L,
    /// Takes what the transformer gives back to the stream, `[hidden_size, hidden_size]`.
    pub out: L,
}

/// A matrix of low rank, added to another.
#[derive(Debug)]
pub struct Adapter<L> {
    /// `[rank, cols]`.
    pub down: L,
    /// `[rows, rank]`.
    pub up: L,
}

/// Weights of a feed-forward network.
#[derive(Debug)]
pub enum FeedForwardWeights<L, V> {
    /// There is none.
    None,
    /// Of one network for all positions.
    Dense(DenseWeights<L, V>),
    /// Of a mixture of experts.
    Moe(MoeWeights<L, V>),
}

weights! {
    /// Weights of one network.
    DenseWeights {
        /// `[intermediate_size, hidden_size]`.
        gate: Option<L> as optional_linear Gate,
        /// `[intermediate_size, hidden_size]`.
        up: L as linear Up,
        /// `[hidden_size, intermediate_size]`.
        down: L as linear Down,
        /// `[intermediate_size]`.
        sub_norm: Option<V> as optional_vector FeedForwardSubNorm,
    }
}

/// Weights of a mixture of experts.
#[derive(Debug)]
pub struct MoeWeights<L, V> {
    /// `[n_experts, hidden_size]`.
    pub router: L,
    /// Added to the scores while experts are chosen, `[n_experts]`.
    pub router_bias: Option<V>,
    /// Onto the stream of the experts, `[latent_size, hidden_size]`.
    pub latent_in: Option<L>,
    /// `[n_experts]`.
    pub experts: Vec<DenseWeights<L, V>>,
    /// And back, `[hidden_size, latent_size]`.
    pub latent_out: Option<L>,
    /// Of the network that every position uses.
    pub shared: Option<DenseWeights<L, V>>,
    /// Of the gate of that network, `[1, hidden_size]`.
    pub shared_gate: Option<L>,
}

impl<L, V> BlockWeights<L, V> {
    /// All linear layers, router included, in the order in which they are computed.
    pub fn linears(&self) -> Vec<&L> {
        self.as_ref().into_parts().into_iter().filter_map(|(_, part)| part.linear()).collect()
    }

    /// All linear layers, those together that read the same.
    pub fn inputs(&self) -> Vec<Vec<&L>> {
        let mut inputs: Vec<Vec<&L>> = Vec::new();
        let mut before = None;
        for (seat, part) in self.as_ref().into_parts() {
            let Some(linear) = part.linear() else { continue };
            match inputs.last_mut().filter(|_| before.is_some_and(|before| seat.role.reads_what(before))) {
                Some(input) => input.push(linear),
                None => inputs.push(vec![linear]),
            }
            before = Some(seat.role);
        }
        inputs
    }

    /// All linear layers, to be changed.
    pub fn linears_mut(&mut self) -> Vec<&mut L> {
        self.as_mut().into_parts().into_iter().filter_map(|(_, part)| part.linear()).collect()
    }
}
