//! The weights of a network in the shape of its [`Spec`](crate::Spec), whatever they are made of.
//!
//! `L` is a linear layer, `V` a vector. Each part of a network is a struct with a field for each tensor; what is done to
//! all of them alike is done by one [walk](walk), so that a new part is a struct here and nothing else.

mod assemble;
mod walk;

use walk::weights;

pub(crate) use assemble::{CheckOnly, Leaves, LinearTensors, assemble, bias_of, embedding, finite, single};
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
    /// Before the mixer.
    pub mixer_norm: V,
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
    /// Of attention.
    Attention(AttentionWeights<L, V>),
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
    /// Weights of one gated network.
    DenseWeights {
        /// `[intermediate_size, hidden_size]`.
        gate: L as linear Gate,
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
    /// `[n_experts]`.
    pub experts: Vec<DenseWeights<L, V>>,
}

impl<L, V> BlockWeights<L, V> {
    /// All linear layers, router included, in the order in which they are computed.
    pub fn linears(&self) -> Vec<&L> {
        self.as_ref().into_parts().into_iter().filter_map(|(_, part)| part.linear()).collect()
    }

    /// All linear layers, to be changed.
    pub fn linears_mut(&mut self) -> Vec<&mut L> {
        self.as_mut().into_parts().into_iter().filter_map(|(_, part)| part.linear()).collect()
    }
}
