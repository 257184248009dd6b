//! Feed-forward networks: the parts that work on each position alone.

pub(crate) mod dense;
mod moe;
mod router;

use sterna_tensor::Activations;

use crate::linear::Linear;
use crate::mixer::Pass;
use crate::spec::FeedForwardSpec;
use crate::weights::FeedForwardWeights;

/// Memory that feed-forward networks compute in.
#[derive(Debug, Default)]
pub(crate) struct FeedForwardScratch {
    dense: dense::Scratch,
    moe: moe::Scratch,
}

/// Runs the network of a block from `x` to `y`, both `[n, hidden_size]`.
pub(crate) fn feed_forward(
    pass: &Pass,
    spec: &FeedForwardSpec,
    weights: &FeedForwardWeights<Linear, Vec<f32>>,
    x: &[f32],
    input: &mut Activations,
    scratch: &mut FeedForwardScratch,
    y: &mut [f32],
) {
    match (spec, weights) {
        (FeedForwardSpec::Dense(spec), FeedForwardWeights::Dense(weights)) => {
            dense::dense(pass, spec, weights, x, input, &mut scratch.dense, y);
        }
        (FeedForwardSpec::Moe(spec), FeedForwardWeights::Moe(weights)) => {
            moe::moe(pass, spec, weights, x, input, scratch, y);
        }
        _ => y.fill(0.0),
    }
}
