//! Mixers: the parts of a network that mix positions, each in a file of its own.
//!
//! A mixer reads `x` `[n, hidden_size]`, the normed residual stream of a chunk, and writes what is to be added to the
//! stream. It alone reads and writes its [`MixerState`].

pub(crate) mod attention;

use sterna_tensor::{Activations, Compute};

use crate::linear::Linear;
use crate::rope::RopeTables;
use crate::spec::MixerSpec;
use crate::state::MixerState;
use crate::weights::MixerWeights;

/// What all parts of a forward pass over one chunk share.
pub(crate) struct Pass<'a> {
    pub(crate) compute: &'a Compute,
    pub(crate) norm_eps: f32,
    /// Position of the chunk's first token in the sequence.
    pub(crate) first: usize,
    /// Tokens in the chunk.
    pub(crate) n_tokens: usize,
    pub(crate) ropes: &'a RopeTables,
}

/// Memory that mixers compute in.
#[derive(Debug, Default)]
pub(crate) struct MixerScratch {
    attention: attention::Scratch,
}

/// Runs the mixer of a block that rotates by table `rope`, from `x` to `y`, both `[n, hidden_size]`.
#[allow(clippy::too_many_arguments)] // A mixer is where everything meets.
pub(crate) fn mix(
    pass: &Pass,
    spec: &MixerSpec,
    weights: &MixerWeights<Linear, Vec<f32>>,
    rope: Option<usize>,
    state: &mut MixerState,
    x: &[f32],
    input: &mut Activations,
    scratch: &mut MixerScratch,
    y: &mut [f32],
) {
    match (spec, weights, state) {
        (MixerSpec::Attention(spec), MixerWeights::Attention(weights), MixerState::Attention(cache)) => {
            let layer = attention::Layer { spec, weights, rope };
            layer.mix(pass, cache, x, input, &mut scratch.attention, y);
        }
    }
}
