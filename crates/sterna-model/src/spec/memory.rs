//! What running a network takes beside its weights.

use sterna_tensor::{KvPage, KvType};

use super::{AttentionSpec, BlockSpec, DenseSpec, FeedForwardSpec, Mamba2Spec, MixerSpec, Spec};
use crate::forward::MAX_CHUNK;

/// Bytes of the input of linear layers for each element: a float, and a code with its share of a group's scale and sums.
const ACTIVATION_BYTES: usize = 6;

impl Spec {
    /// Bytes that the keys and values of a sequence of `length` tokens take at most, stored as `ty`.
    pub fn kv_bytes(&self, ty: KvType, length: usize) -> usize {
        self.attention().map(|attention| attention.kv_bytes(ty, length)).sum()
    }

    /// Bytes of keys and values that one token after `length` others reads, stored as `ty`.
    pub fn kv_bytes_read(&self, ty: KvType, length: usize) -> usize {
        let bytes = |attention: &AttentionSpec| {
            let seen = attention.window.map_or(length, |window| length.min(window));
            ty.page_bytes(attention.n_kv_heads, attention.head_dim) * seen / KvPage::LEN
        };
        self.attention().map(bytes).sum()
    }

    /// Bytes that the recurrences of a sequence take, however long it is.
    pub fn state_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.mixer.state_len() * size_of::<f32>()).sum()
    }

    /// Bytes that forward passes of up to `chunk` tokens over a sequence of `length` compute in. A prompt goes in chunks of
    /// [`MAX_CHUNK`].
    pub fn scratch_bytes(&self, chunk: usize, length: usize) -> usize {
        let most = |of: &dyn Fn(&BlockSpec) -> usize| self.blocks.iter().map(of).max().unwrap_or(0);
        // What parts of one kind compute in is one and the same memory; that of parts of different kinds is not.
        let floats = 3 * self.hidden_size
            + most(&|block| {
                block.mixer.attention().map_or(0, |it| 2 * (it.q_size() + it.kv_size()) + gate(it))
            })
            + most(&|block| recurrent_floats(&block.mixer, self.hidden_size))
            + most(&|block| feed_forward_floats(&block.feed_forward, self.hidden_size));
        let widest = most(&|block| width(&block.mixer).max(inner(&block.feed_forward))).max(self.hidden_size);
        let per_token = floats * size_of::<f32>() + widest * ACTIVATION_BYTES;
        let partials = |it: &AttentionSpec| length.div_ceil(KvPage::LEN) * it.n_heads * (it.head_dim + 2);
        let partials = self.attention().map(partials).max().unwrap_or(0) * size_of::<f32>();
        chunk.min(length).min(MAX_CHUNK) * per_token + partials + self.vocab_size * size_of::<f32>()
    }

    fn attention(&self) -> impl Iterator<Item = &AttentionSpec> {
        self.blocks.iter().filter_map(|block| block.mixer.attention())
    }
}

fn gate(attention: &AttentionSpec) -> usize {
    if attention.output_gate { attention.q_size() } else { 0 }
}

/// The widest input of a linear layer of a mixer.
fn width(mixer: &MixerSpec) -> usize {
    let attention = mixer.attention().map_or(0, AttentionSpec::q_size);
    attention.max(match mixer {
        MixerSpec::None | MixerSpec::Attention(_) | MixerSpec::ShortConv(_) => 0,
        MixerSpec::Mamba1(spec) => spec.inner_size,
        MixerSpec::Mamba2(spec) => spec.inner_size(),
        MixerSpec::Parallel(spec) => spec.mamba.inner_size(),
        MixerSpec::Shared(spec) => spec.mamba.inner_size().max(spec.feed_forward.intermediate_size),
        MixerSpec::GatedDelta(spec) => spec.values_size(),
    })
}

/// Floats for each token.
fn recurrent_floats(mixer: &MixerSpec, hidden_size: usize) -> usize {
    let mamba2 = |spec: &Mamba2Spec| {
        2 * spec.conv_size() + 3 * spec.inner_size() + 2 * spec.n_heads + spec.scan().scores_len(1)
    };
    match mixer {
        MixerSpec::None | MixerSpec::Attention(_) => 0,
        MixerSpec::Mamba1(spec) => 5 * spec.inner_size + 2 * (spec.dt_rank + 2 * spec.state_size),
        MixerSpec::Mamba2(spec) => mamba2(spec),
        MixerSpec::Parallel(spec) => mamba2(&spec.mamba) + 2 * hidden_size,
        // The embedding, it beside the stream, normed, and what the transformer makes of them.
        MixerSpec::Shared(spec) => {
            mamba2(&spec.mamba) + 5 * hidden_size + 3 * spec.feed_forward.intermediate_size
        }
        MixerSpec::ShortConv(_) => 4 * hidden_size,
        MixerSpec::GatedDelta(spec) => 6 * spec.keys_size() + 5 * spec.values_size(),
    }
}

/// The width inside a feed-forward network.
fn inner(feed_forward: &FeedForwardSpec) -> usize {
    match feed_forward {
        FeedForwardSpec::None => 0,
        FeedForwardSpec::Dense(spec) => spec.intermediate_size,
        FeedForwardSpec::Moe(spec) => {
            let shared = spec.shared.as_ref().map_or(0, |shared| shared.intermediate_size);
            spec.expert.intermediate_size.max(shared)
        }
    }
}

/// Floats for each token.
fn feed_forward_floats(feed_forward: &FeedForwardSpec, hidden_size: usize) -> usize {
    let dense = |spec: &DenseSpec| spec.intermediate_size * if spec.gated { 3 } else { 1 };
    match feed_forward {
        FeedForwardSpec::None => 0,
        FeedForwardSpec::Dense(spec) => dense(spec),
        FeedForwardSpec::Moe(spec) => {
            let networks = dense(&spec.expert).max(spec.shared.as_ref().map_or(0, dense));
            // What goes into experts and comes out, and with a stream of their own that stream before and after.
            let latent = spec.latent.as_ref().map_or(0, |latent| 2 * latent.size);
            spec.n_experts + 2 * hidden_size + latent + networks
        }
    }
}
