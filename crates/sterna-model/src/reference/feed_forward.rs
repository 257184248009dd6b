//! Feed-forward networks of the oracle.

use super::attention::{sigmoid, softmax};
use super::{Linear, add, rms_norm};
use crate::spec::{DenseSpec, MoeSpec, Routing};
use crate::weights::{DenseWeights, MoeWeights};

/// `down(activation(gate x) · up x)`, or `down(activation(up x))`, `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn dense(
    spec: &DenseSpec,
    weights: &DenseWeights<Linear, Vec<f32>>,
    x: &[f32],
    eps: f32,
) -> Vec<f32> {
    let up = weights.up.apply(x); // [n, intermediate_size]
    let mut inner: Vec<f32> = match &weights.gate {
        Some(gate) => {
            let gate = gate.apply(x).into_iter().map(|gate| spec.activation.apply(gate * spec.gate_scale));
            gate.zip(&up).map(|(gate, up)| gate * up).collect()
        }
        None => up.into_iter().map(|up| spec.activation.apply(up * spec.gate_scale)).collect(),
    };
    if let Some(sub_norm) = &weights.sub_norm {
        inner = rms_norm(&inner, sub_norm, eps);
    }
    weights.down.apply(&inner).into_iter().map(|y| y * spec.out_scale).collect()
}

/// The router's best experts for every token, weighted. `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn moe(spec: &MoeSpec, weights: &MoeWeights<Linear, Vec<f32>>, x: &[f32], eps: f32) -> Vec<f32> {
    let mut scores = weights.router.apply(x); // [n, n_experts]
    let mut out = match (&spec.shared, &weights.shared) {
        (Some(spec), Some(weights)) => dense(spec, weights, x, eps),
        _ => vec![0.0; x.len()],
    };
    let hidden_size = x.len() * spec.n_experts / scores.len();
    if let Some(gate) = &weights.shared_gate {
        for (row, gate) in out.chunks_exact_mut(hidden_size).zip(gate.apply(x)) {
            row.iter_mut().for_each(|value| *value *= sigmoid(gate));
        }
    }
    let latent = weights.latent_in.as_ref().map(|latent_in| latent_in.apply(x)); // [n, latent_size]
    let x = latent.as_deref().unwrap_or(x);
    let width = x.len() * spec.n_experts / scores.len();
    let mut sum = vec![0.0; x.len()];
    let tokens = x.chunks_exact(width).zip(sum.chunks_exact_mut(width));
    for ((x, sum), scores) in tokens.zip(scores.chunks_exact_mut(spec.n_experts)) {
        for (expert, weight) in route(spec, weights.router_bias.as_deref(), scores) {
            add(sum, &dense(&spec.expert, &weights.experts[expert], x, eps), weight);
        }
    }
    if let Some(latent_out) = &weights.latent_out {
        sum = latent_out.apply(&sum);
    }
    add(&mut out, &sum, 1.0);
    out
}

/// The experts for the token with these router logits, with their weights.
fn route(spec: &MoeSpec, bias: Option<&[f32]>, scores: &mut [f32]) -> Vec<(usize, f32)> {
    match spec.routing {
        Routing::Softmax { .. } => softmax(scores),
        Routing::SoftmaxOfChosen => {}
        Routing::Sigmoid { .. } => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
    }
    let mut choice: Vec<f32> =
        (0..scores.len()).map(|e| scores[e] + bias.map_or(0.0, |bias| bias[e])).collect();
    if let Routing::Sigmoid { n_groups, n_active_groups, .. } = spec.routing {
        let size = choice.len() / n_groups;
        let two_best = |group: &usize| {
            let mut group = choice[group * size..][..size].to_vec();
            group.sort_by(|a, b| b.total_cmp(a));
            group.iter().take(2).sum::<f32>()
        };
        let mut groups: Vec<usize> = (0..n_groups).collect();
        groups.sort_by(|a, b| two_best(b).total_cmp(&two_best(a)));
        for group in groups.split_off(n_active_groups) {
            choice[group * size..][..size].fill(f32::NEG_INFINITY);
        }
    }
    let mut order: Vec<usize> = (0..spec.n_experts).collect();
    order.sort_by(|a, b| choice[*b].total_cmp(&choice[*a]));
    let chosen = &order[..spec.n_active];
    let mut weights: Vec<f32> = chosen.iter().map(|expert| scores[*expert]).collect();
    let total: f32 = weights.iter().sum();
    match spec.routing {
        Routing::Softmax { renormalize: false } => {}
        Routing::Softmax { renormalize: true } => weights.iter_mut().for_each(|weight| *weight /= total),
        Routing::SoftmaxOfChosen => softmax(&mut weights),
        Routing::Sigmoid { renormalize, scale, .. } => {
            let divisor = if renormalize { total + 1e-20 } else { 1.0 };
            weights.iter_mut().for_each(|weight| *weight *= scale / divisor);
        }
    }
    chosen.iter().copied().zip(weights).collect()
}
