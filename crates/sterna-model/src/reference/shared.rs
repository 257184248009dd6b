//! The oracle's transformer that several blocks share: adapters are added to the matrices that they adapt.

use super::{Linear, attention, feed_forward, rms_norm};
use crate::rope::Regime;
use crate::spec::SharedSpec;
use crate::weights::{Adapter, AttentionWeights, DenseWeights, SharedWeights, TransformerWeights};

/// Of the residual stream and where it began, both `[n, hidden_size]`, what is added to what the recurrence reads,
/// `[n, hidden_size]`.
pub(super) fn transformer(
    spec: &SharedSpec,
    weights: &TransformerWeights<Linear, Vec<f32>>,
    of_block: &SharedWeights<Linear, Vec<f32>>,
    (x, start): (&[f32], &[f32]),
    eps: f32,
    regime: Regime,
) -> Vec<f32> {
    let (w, adapters) = (&weights.attention, &of_block.adapters);
    let width = weights.norm.len() / 2;
    let pairs = x.chunks_exact(width).zip(start.chunks_exact(width));
    let both: Vec<f32> = pairs.flat_map(|(x, start)| [x, start].concat()).collect(); // [n, 2 * hidden_size]
    let u = rms_norm(&both, &weights.norm, eps);
    let [q, k, v] = match &adapters.qkv {
        Some([q, k, v]) => [adapted(&w.q, q), adapted(&w.k, k), adapted(&w.v, v)],
        None => [&w.q, &w.k, &w.v].map(Linear::clone),
    };
    let o = w.o.clone();
    let plain = AttentionWeights { q, k, v, gate: None, o, q_norm: None, k_norm: None, sub_norm: None };
    let a = attention::attention(&spec.attention, &plain, &u, eps, regime);
    let h = rms_norm(&a, &weights.feed_forward_norm, eps);
    let with = |linear: &Linear, up: &Linear| {
        let (down, up) = (adapters.network_in.clone(), up.clone());
        adapted(linear, &Adapter { down, up })
    };
    let network = DenseWeights {
        gate: weights.feed_forward.gate.as_ref().map(|gate| with(gate, &adapters.gate_out)),
        up: with(&weights.feed_forward.up, &adapters.up_out),
        down: weights.feed_forward.down.clone(),
        sub_norm: None,
    };
    adapters.out.apply(&feed_forward::dense(&spec.feed_forward, &network, &h, eps))
}

/// The matrix with its adapter in it.
fn adapted(linear: &Linear, Adapter { down, up }: &Adapter<Linear>) -> Linear {
    let rank = up.cols;
    let mut sum = linear.clone();
    for (row, up) in sum.weight.chunks_exact_mut(linear.cols).zip(up.weight.chunks_exact(rank)) {
        for (down, factor) in down.weight.chunks_exact(linear.cols).zip(up) {
            super::add(row, down, *factor);
        }
    }
    sum
}
