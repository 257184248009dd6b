//! The weights of a network in the shape of its [`Spec`](crate::Spec), whatever they are made of.

mod assemble;

pub(crate) use assemble::{CheckOnly, Leaves, LinearTensors, assemble, bias_of, embedding, finite, single};

/// All weights of a network. `L`: a linear layer; `V`: a vector.
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

/// Weights of attention.
#[derive(Debug)]
pub struct AttentionWeights<L, V> {
    /// `[n_heads * head_dim, hidden_size]`.
    pub q: L,
    /// `[n_kv_heads * head_dim, hidden_size]`.
    pub k: L,
    /// `[n_kv_heads * head_dim, hidden_size]`.
    pub v: L,
    /// `[hidden_size, n_heads * head_dim]`.
    pub o: L,
    /// `[head_dim]`.
    pub q_norm: Option<V>,
    /// `[head_dim]`.
    pub k_norm: Option<V>,
    /// `[n_heads * head_dim]`.
    pub sub_norm: Option<V>,
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

/// Weights of one gated network.
#[derive(Debug)]
pub struct DenseWeights<L, V> {
    /// `[intermediate_size, hidden_size]`.
    pub gate: L,
    /// `[intermediate_size, hidden_size]`.
    pub up: L,
    /// `[hidden_size, intermediate_size]`.
    pub down: L,
    /// `[intermediate_size]`.
    pub sub_norm: Option<V>,
}

/// Weights of a mixture of experts.
#[derive(Debug)]
pub struct MoeWeights<L, V> {
    /// `[n_experts, hidden_size]`.
    pub router: L,
    /// `[n_experts]`.
    pub experts: Vec<DenseWeights<L, V>>,
}

impl<L, V: Clone> BlockWeights<L, V> {
    /// The same block with every linear layer, router included, made into something else.
    pub fn try_map<M, E>(&self, f: &mut impl FnMut(&L) -> Result<M, E>) -> Result<BlockWeights<M, V>, E> {
        Ok(BlockWeights {
            mixer_norm: self.mixer_norm.clone(),
            mixer: match &self.mixer {
                MixerWeights::Attention(attention) => MixerWeights::Attention(AttentionWeights {
                    q: f(&attention.q)?,
                    k: f(&attention.k)?,
                    v: f(&attention.v)?,
                    o: f(&attention.o)?,
                    q_norm: attention.q_norm.clone(),
                    k_norm: attention.k_norm.clone(),
                    sub_norm: attention.sub_norm.clone(),
                }),
            },
            mixer_post_norm: self.mixer_post_norm.clone(),
            feed_forward_norm: self.feed_forward_norm.clone(),
            feed_forward: match &self.feed_forward {
                FeedForwardWeights::None => FeedForwardWeights::None,
                FeedForwardWeights::Dense(dense) => FeedForwardWeights::Dense(dense.try_map(f)?),
                FeedForwardWeights::Moe(moe) => FeedForwardWeights::Moe(MoeWeights {
                    router: f(&moe.router)?,
                    experts: moe.experts.iter().map(|expert| expert.try_map(f)).collect::<Result<_, E>>()?,
                }),
            },
            feed_forward_post_norm: self.feed_forward_post_norm.clone(),
        })
    }
}

impl<L, V> BlockWeights<L, V> {
    /// All linear layers, router included.
    pub fn linears(&self) -> Vec<&L> {
        let MixerWeights::Attention(attention) = &self.mixer;
        let mut linears = vec![&attention.q, &attention.k, &attention.v, &attention.o];
        match &self.feed_forward {
            FeedForwardWeights::None => {}
            FeedForwardWeights::Dense(dense) => linears.extend(dense.linears()),
            FeedForwardWeights::Moe(moe) => {
                linears.push(&moe.router);
                linears.extend(moe.experts.iter().flat_map(DenseWeights::linears));
            }
        }
        linears
    }

    /// All linear layers, to be changed.
    pub fn linears_mut(&mut self) -> Vec<&mut L> {
        let MixerWeights::Attention(attention) = &mut self.mixer;
        let mut linears = vec![&mut attention.q, &mut attention.k, &mut attention.v, &mut attention.o];
        match &mut self.feed_forward {
            FeedForwardWeights::None => {}
            FeedForwardWeights::Dense(dense) => linears.extend(dense.linears_mut()),
            FeedForwardWeights::Moe(moe) => {
                linears.push(&mut moe.router);
                linears.extend(moe.experts.iter_mut().flat_map(DenseWeights::linears_mut));
            }
        }
        linears
    }
}

impl<L, V> DenseWeights<L, V> {
    /// All linear layers.
    pub fn linears(&self) -> [&L; 3] {
        [&self.gate, &self.up, &self.down]
    }

    /// All linear layers, to be changed.
    pub fn linears_mut(&mut self) -> [&mut L; 3] {
        [&mut self.gate, &mut self.up, &mut self.down]
    }
}

impl<L, V: Clone> DenseWeights<L, V> {
    fn try_map<M, E>(&self, f: &mut impl FnMut(&L) -> Result<M, E>) -> Result<DenseWeights<M, V>, E> {
        Ok(DenseWeights {
            gate: f(&self.gate)?,
            up: f(&self.up)?,
            down: f(&self.down)?,
            sub_norm: self.sub_norm.clone(),
        })
    }
}
