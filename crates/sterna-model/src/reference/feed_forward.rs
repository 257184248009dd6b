//! Feed-forward networks of the oracle.

use super::attention::softmax;
use super::{Linear, add, rms_norm};
use crate::spec::{DenseSpec, MoeSpec};
use crate::weights::{DenseWeights, MoeWeights};

/// `down(activation(gate x) · up x)`, `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn dense(
    spec: &DenseSpec,
    weights: &DenseWeights<Linear, Vec<f32>>,
    x: &[f32],
    eps: f32,
) -> Vec<f32> {
    let gate = weights.gate.apply(x); // [n, intermediate_size]
    let up = weights.up.apply(x); // [n, intermediate_size]
    let mut inner: Vec<f32> =
        gate.iter().zip(&up).map(|(gate, up)| spec.activation.apply(*gate) * up).collect();
    if let Some(sub_norm) = &weights.sub_norm {
        inner = rms_norm(&inner, sub_norm, eps);
    }
    weights.down.apply(&inner)
}

/// The router's best experts for every token, weighted. `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn moe(spec: &MoeSpec, weights: &MoeWeights<Linear, Vec<f32>>, x: &[f32], eps: f32) -> Vec<f32> {
    let mut scores = weights.router.apply(x); // [n, n_experts]
    let mut out = vec![0.0; x.len()]; // [n, hidden_size]
    let hidden_size = x.len() * spec.n_experts / scores.len();
    let tokens = x.chunks_exact(hidden_size).zip(out.chunks_exact_mut(hidden_size));
    for ((x, out), scores) in tokens.zip(scores.chunks_exact_mut(spec.n_experts)) {
        softmax(scores);
        let mut order: Vec<usize> = (0..spec.n_experts).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let chosen = &order[..spec.n_active];
        let sum: f32 = if spec.renormalize { chosen.iter().map(|e| scores[*e]).sum() } else { 1.0 };
        for &expert in chosen {
            add(out, &dense(&spec.expert, &weights.experts[expert], x, eps), scores[expert] / sum);
        }
    }
    out
}
