//! Grouped-query attention of the oracle.

use super::{Linear, dot, rms_norm};
use crate::rope::{Regime, RopeSpec};
use crate::spec::AttentionSpec;
use crate::weights::AttentionWeights;

/// `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn attention(
    spec: &AttentionSpec,
    weights: &AttentionWeights<Linear, Vec<f32>>,
    x: &[f32],
    eps: f32,
    regime: Regime,
) -> Vec<f32> {
    let head_dim = spec.head_dim;
    let mut q = weights.q.apply(x); // [n, n_heads, head_dim]
    let mut k = weights.k.apply(x); // [n, n_kv_heads, head_dim]
    let v = weights.v.apply(x); // [n, n_kv_heads, head_dim]
    if let (Some(q_norm), Some(k_norm)) = (&weights.q_norm, &weights.k_norm) {
        q = rms_norm(&q, q_norm, eps);
        k = rms_norm(&k, k_norm, eps);
    }
    if let Some(rope) = &spec.rope {
        rotate(rope, regime, &mut q, spec.n_heads, head_dim);
        rotate(rope, regime, &mut k, spec.n_kv_heads, head_dim);
    }

    let n = q.len() / spec.q_size();
    let key = |position: usize, head: usize| &k[(position * spec.n_kv_heads + head) * head_dim..][..head_dim];
    let value =
        |position: usize, head: usize| &v[(position * spec.n_kv_heads + head) * head_dim..][..head_dim];
    let mut mixed = Vec::with_capacity(q.len()); // [n, n_heads, head_dim]
    for (position, heads) in q.chunks_exact(spec.q_size()).enumerate() {
        let first = spec.window.map_or(0, |window| (position + 1).saturating_sub(window));
        for (head, query) in heads.chunks_exact(head_dim).enumerate() {
            // Consecutive query heads share a key head.
            let kv_head = head / (spec.n_heads / spec.n_kv_heads);
            let mut scores: Vec<f32> =
                (first..=position).map(|j| dot(query, key(j, kv_head)) * spec.scale).collect();
            if let Some(cap) = spec.softcap {
                scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
            }
            softmax(&mut scores);
            let mut out = vec![0.0; head_dim];
            for (j, weight) in (first..=position).zip(&scores) {
                super::add(&mut out, value(j, kv_head), *weight);
            }
            mixed.extend(out);
        }
    }
    debug_assert_eq!(mixed.len(), n * spec.q_size());
    if let Some(gate) = &weights.gate {
        let gate = gate.apply(x); // [n, n_heads, head_dim]
        mixed.iter_mut().zip(gate).for_each(|(mixed, gate)| *mixed *= sigmoid(gate));
    }
    if let Some(sub_norm) = &weights.sub_norm {
        mixed = rms_norm(&mixed, sub_norm, eps);
    }
    weights.o.apply(&mixed)
}

/// Rotates every head of `x` `[n, n_heads, head_dim]` by its position: pair (i, i + n_dims/2) by position · f_i.
fn rotate(spec: &RopeSpec, regime: Regime, x: &mut [f32], n_heads: usize, head_dim: usize) {
    let frequencies = spec.frequencies(regime);
    let n_pairs = frequencies.len();
    for (position, heads) in x.chunks_exact_mut(n_heads * head_dim).enumerate() {
        for head in heads.chunks_exact_mut(head_dim) {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                let (sin, cos) = (sin * spec.attention_factor(), cos * spec.attention_factor());
                let (a, b) = (head[i], head[i + n_pairs]);
                head[i] = a * cos - b * sin;
                head[i + n_pairs] = b * cos + a * sin;
            }
        }
    }
}

pub(super) fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in x.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    x.iter_mut().for_each(|value| *value /= sum);
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
