//! One residual block: norm → mixer → residual → norm → feed-forward → residual.

use sterna_tensor::{Activations, Compute, ops};

use crate::feed_forward::{FeedForwardScratch, feed_forward};
use crate::linear::Linear;
use crate::mixer::{Mixer, MixerScratch, Pass};
use crate::rows;
use crate::spec::{BlockSpec, MixerSpec};
use crate::state::MixerState;
use crate::weights::{BlockWeights, MixerWeights, TransformerWeights};
use crate::workspace::sized;

/// Memory that a block computes in; `n` is the number of tokens in a chunk.
#[derive(Debug, Default)]
pub(crate) struct BlockScratch {
    /// The norm of the residual stream, the input of mixer or feed-forward, `[n, hidden_size]`.
    pub(crate) normed: Vec<f32>,
    /// What they add to it, `[n, hidden_size]`.
    y: Vec<f32>,
    /// The input of the linear layers that run next, `[n, cols]`.
    pub(crate) input: Activations,
    mixer: MixerScratch,
    feed_forward: FeedForwardScratch,
}

/// A block with its weights.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) spec: &'a BlockSpec,
    pub(crate) weights: &'a BlockWeights<Linear, Vec<f32>>,
    /// Which of the pass's rotations its mixer uses.
    pub(crate) rope: Option<usize>,
    /// The transformer that its mixer shares with those of other blocks, where they have it.
    pub(crate) transformer: Option<&'a TransformerWeights<Linear, Vec<f32>>>,
}

/// The transformer that a block of `spec` shares, which one of `blocks` has.
pub(crate) fn transformer<'a, L, V>(
    spec: &BlockSpec,
    blocks: &'a [BlockWeights<L, V>],
) -> Option<&'a TransformerWeights<L, V>> {
    let MixerSpec::Shared(spec) = &spec.mixer else { return None };
    shared_transformer(blocks.get(spec.owner)?)
}

/// The transformer that `block` has for others too.
pub(crate) fn shared_transformer<L, V>(block: &BlockWeights<L, V>) -> Option<&TransformerWeights<L, V>> {
    match &block.mixer {
        MixerWeights::Shared(weights) => weights.transformer.as_ref(),
        _ => None,
    }
}

impl Block<'_> {
    /// Runs the residual stream `x` `[n, hidden_size]` through the block, after what `state` has seen.
    pub(crate) fn run(self, pass: &Pass, state: &mut MixerState, scratch: &mut BlockScratch, x: &mut [f32]) {
        let Block { spec, weights, .. } = self;
        let BlockScratch { normed, y, input, mixer, feed_forward: feed_forward_scratch } = scratch;
        let (c, eps) = (pass.compute, pass.norm_eps);
        let (normed, y) = (sized(normed, x.len()), sized(y, x.len()));
        if let Some(norm) = &weights.mixer_norm {
            match self.mixer().prepare(pass, state, x, input, mixer, y) {
                true => {
                    ops::add_assign(c.isa, y, x);
                    rows::rms_norm(c, y, norm, eps, normed);
                }
                false => rows::rms_norm(c, x, norm, eps, normed),
            }
            self.mixer().mix(pass, state, normed, input, mixer, y);
            add(c, x, y, weights.mixer_post_norm.as_deref(), eps, spec.residual_scale);
        }

        let Some(norm) = &weights.feed_forward_norm else { return };
        rows::rms_norm(c, x, norm, eps, normed);
        feed_forward(pass, &spec.feed_forward, &weights.feed_forward, normed, input, feed_forward_scratch, y);
        add(c, x, y, weights.feed_forward_post_norm.as_deref(), eps, spec.residual_scale);
    }

    /// What the mixer makes of `x` `[n, hidden_size]`, which is normed.
    pub(crate) fn mixer_output(
        self,
        pass: &Pass,
        state: &mut MixerState,
        scratch: &mut BlockScratch,
        x: &[f32],
    ) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        self.mixer().mix(pass, state, x, &mut scratch.input, &mut scratch.mixer, &mut y);
        y
    }

    /// What the feed-forward network makes of `x` `[n, hidden_size]`, which is normed.
    pub(crate) fn feed_forward_output(self, pass: &Pass, scratch: &mut BlockScratch, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        let (spec, weights) = (&self.spec.feed_forward, &self.weights.feed_forward);
        feed_forward(pass, spec, weights, x, &mut scratch.input, &mut scratch.feed_forward, &mut y);
        y
    }

    fn mixer(&self) -> Mixer<'_> {
        Mixer {
            spec: &self.spec.mixer,
            weights: &self.weights.mixer,
            rope: self.rope,
            transformer: self.transformer,
        }
    }
}

/// `x += scale · norm(y)`, without the norm where there is none.
fn add(c: &Compute, x: &mut [f32], y: &mut [f32], norm: Option<&[f32]>, eps: f32, scale: f32) {
    if let Some(norm) = norm {
        rows::rms_norm_in_place(c, y, norm, eps);
    }
    match scale == 1.0 {
        true => ops::add_assign(c.isa, x, y),
        false => ops::add_scaled(c.isa, x, y, scale),
    }
}
