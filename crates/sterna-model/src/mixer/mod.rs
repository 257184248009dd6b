//! Mixers: the parts of a network that mix positions, each in a file of its own.
//!
//! A mixer reads `x` `[n, hidden_size]`, the normed residual stream of a chunk, and writes what is to be added to the
//! stream. It alone reads and writes its [`MixerState`].

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod gated_delta;
pub(crate) mod mamba1;
pub(crate) mod mamba2;
pub(crate) mod parallel;
pub(crate) mod shared;
mod short_conv;

use std::cell::RefCell;

use sterna_tensor::{Activations, Compute};

use crate::linear::Linear;
use crate::rope::RopeTables;
use crate::spec::MixerSpec;
use crate::state::{MixerState, Recurrent};
use crate::weights::{MixerWeights, TransformerWeights};

/// What all parts of a forward pass over one chunk share.
pub(crate) struct Pass<'a> {
    pub(crate) compute: &'a Compute,
    pub(crate) norm_eps: f32,
    /// Position of the chunk's first token in the sequence.
    pub(crate) first: usize,
    /// Tokens in the chunk.
    pub(crate) n_tokens: usize,
    pub(crate) ropes: &'a RopeTables,
    /// Where the residual stream began, `[n_tokens, hidden_size]`; empty where no block reads it.
    pub(crate) embedding: &'a [f32],
    /// Shown the inputs of linear layers.
    pub(crate) inputs: Option<&'a RefCell<InputTap<'a>>>,
}

/// An observer of the inputs of linear layers: name of the first layer that reads them, and values `[n, cols]`.
pub(crate) type InputTap<'a> = dyn FnMut(&str, &[f32]) + 'a;

/// Memory that mixers compute in.
#[derive(Debug, Default)]
pub(crate) struct MixerScratch {
    attention: attention::Scratch,
    gated_delta: gated_delta::Scratch,
    mamba1: mamba1::Scratch,
    mamba2: mamba2::Scratch,
    parallel: parallel::Scratch,
    shared: shared::Scratch,
    short_conv: short_conv::Scratch,
}

/// The mixer of one block.
#[derive(Clone, Copy)]
pub(crate) struct Mixer<'a> {
    pub(crate) spec: &'a MixerSpec,
    pub(crate) weights: &'a MixerWeights<Linear, Vec<f32>>,
    /// Which of the pass's rotations it uses.
    pub(crate) rope: Option<usize>,
    /// The transformer that it shares with other blocks.
    pub(crate) transformer: Option<&'a TransformerWeights<Linear, Vec<f32>>>,
}

impl Mixer<'_> {
    /// What is to be added to the residual stream `x` before it is normed for the mixer, into `y`; both `[n, hidden_size]`.
    /// Says whether there is such a thing.
    pub(crate) fn prepare(
        self,
        pass: &Pass,
        state: &mut MixerState,
        x: &[f32],
        input: &mut Activations,
        scratch: &mut MixerScratch,
        y: &mut [f32],
    ) -> bool {
        let (MixerSpec::Shared(spec), MixerWeights::Shared(weights), MixerState::Parallel(cache, _)) =
            (self.spec, self.weights, state)
        else {
            return false;
        };
        let Some(transformer) = self.transformer.or(weights.transformer.as_ref()) else { return false };
        let (adapters, rope) = (&weights.adapters, self.rope);
        let layer = shared::Layer { spec, weights: transformer, adapters, rope };
        let scratch = (&mut scratch.shared, &mut scratch.attention);
        layer.run(pass, cache, (x, pass.embedding), input, scratch, y);
        true
    }

    /// From `x` to `y`, both `[n, hidden_size]`.
    pub(crate) fn mix(
        self,
        pass: &Pass,
        state: &mut MixerState,
        x: &[f32],
        input: &mut Activations,
        scratch: &mut MixerScratch,
        y: &mut [f32],
    ) {
        match (self.spec, self.weights, state) {
            (MixerSpec::None, MixerWeights::None, MixerState::None) => y.fill(0.0),
            (MixerSpec::Attention(spec), MixerWeights::Attention(weights), MixerState::Attention(cache)) => {
                let layer = attention::Layer { spec, weights, adapters: None, rope: self.rope };
                layer.mix(pass, cache, x, input, &mut scratch.attention, y);
            }
            (
                MixerSpec::Mamba1(spec),
                MixerWeights::Mamba1(weights),
                MixerState::Recurrent(Recurrent::Mamba1(state)),
            ) => {
                let layer = mamba1::Layer { spec, weights };
                layer.mix(pass, state, x, input, &mut scratch.mamba1, y);
            }
            (
                MixerSpec::ShortConv(spec),
                MixerWeights::ShortConv(weights),
                MixerState::Recurrent(Recurrent::ShortConv(state)),
            ) => {
                let layer = short_conv::Layer { spec, weights };
                layer.mix(pass, state, x, input, &mut scratch.short_conv, y);
            }
            (
                MixerSpec::Mamba2(spec),
                MixerWeights::Mamba2(weights),
                MixerState::Recurrent(Recurrent::Mamba2(state)),
            ) => {
                let layer = mamba2::Layer { spec, weights };
                layer.mix(pass, state, x, input, &mut scratch.mamba2, y);
            }
            (
                MixerSpec::GatedDelta(spec),
                MixerWeights::GatedDelta(weights),
                MixerState::Recurrent(Recurrent::GatedDelta(state)),
            ) => {
                let layer = gated_delta::Layer { spec, weights };
                layer.mix(pass, state, x, input, &mut scratch.gated_delta, y);
            }
            (
                MixerSpec::Parallel(spec),
                MixerWeights::Parallel(weights),
                MixerState::Parallel(cache, Recurrent::Mamba2(state)),
            ) => {
                let layer = parallel::Layer { spec, weights, rope: self.rope };
                let scratch = (&mut scratch.parallel, &mut scratch.attention, &mut scratch.mamba2);
                layer.mix(pass, (cache, state), x, input, scratch, y);
            }
            (
                MixerSpec::Shared(spec),
                MixerWeights::Shared(weights),
                MixerState::Parallel(_, Recurrent::Mamba2(state)),
            ) => {
                let layer = mamba2::Layer { spec: &spec.mamba, weights: &weights.mamba };
                layer.mix(pass, state, x, input, &mut scratch.mamba2, y);
            }
            _ => unreachable!("weights and state are made by the spec"),
        }
    }
}
