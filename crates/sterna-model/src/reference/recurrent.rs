//! Recurrent mixers of the oracle, token by token.

use super::attention::sigmoid;
use super::{Linear, dot, rms_norm};
use crate::spec::{
    Activation, GatedDeltaSpec, InnerNorms, Mamba1Spec, Mamba2Gate, Mamba2Spec, ShortConvSpec,
};
use crate::weights::{GatedDeltaWeights, Mamba1Weights, Mamba2Weights, ShortConvWeights};

/// `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn mamba2(
    spec: &Mamba2Spec,
    weights: &Mamba2Weights<Linear, Vec<f32>>,
    x: &[f32],
    eps: f32,
) -> Vec<f32> {
    let Mamba2Spec { n_heads, head_dim, n_groups, state_size, .. } = *spec;
    let inner_size = spec.inner_size();
    let mut z = weights.in_z.apply(x); // [n, inner_size]
    let mut dt = weights.in_dt.apply(x); // [n, n_heads]
    let mut xbc = weights.in_xbc.apply(x); // [n, conv_size]
    if let Some(scales) = &spec.scales {
        z.iter_mut().for_each(|z| *z *= scales.z);
        dt.iter_mut().for_each(|dt| *dt *= scales.dt);
        let c_from = inner_size + n_groups * state_size;
        for (i, value) in xbc.iter_mut().enumerate() {
            *value *= match i % spec.conv_size() {
                column if column < inner_size => scales.x,
                column if column < c_from => scales.b,
                _ => scales.c,
            };
        }
    }
    let xbc = causal_conv(&xbc, &weights.conv, weights.conv_bias.as_deref(), spec.conv_size());
    let xbc: Vec<f32> = xbc.into_iter().map(|x| Activation::Silu.apply(x)).collect();

    // [n_heads, head_dim, state_size]
    let mut states = vec![0.0f32; n_heads * head_dim * state_size];
    let mut y = Vec::with_capacity(z.len()); // [n, n_heads, head_dim]
    for (xbc, dt) in xbc.chunks_exact(spec.conv_size()).zip(dt.chunks_exact(n_heads)) {
        let (x, bc) = xbc.split_at(inner_size);
        let (b, c) = bc.split_at(n_groups * state_size);
        for head in 0..n_heads {
            let group = head / (n_heads / n_groups) * state_size;
            let (b, c) = (&b[group..][..state_size], &c[group..][..state_size]);
            let [least, most] = spec.dt_limits;
            let dt = softplus(dt[head] + weights.dt_bias[head]).clamp(least, most);
            let decay = (dt * weights.a[head]).exp();
            for p in head * head_dim..(head + 1) * head_dim {
                let state = &mut states[p * state_size..][..state_size];
                for (s, b) in state.iter_mut().zip(b) {
                    *s = decay * *s + dt * x[p] * b;
                }
                y.push(dot(state, c) + weights.d[head] * x[p]);
            }
        }
    }

    let norm = |y: &[f32]| -> Vec<f32> {
        let Some(weight) = &weights.norm else { return y.to_vec() };
        let width = inner_size / n_groups;
        let eps = spec.norm_eps.unwrap_or(eps);
        let groups = y.chunks_exact(width).zip(weight.chunks_exact(width).cycle());
        groups.flat_map(|(y, weight)| rms_norm(y, weight, eps)).collect()
    };
    let gated =
        |y: &[f32]| -> Vec<f32> { y.iter().zip(&z).map(|(y, z)| y * Activation::Silu.apply(*z)).collect() };
    let y = match spec.gate {
        Mamba2Gate::ThenNorm => norm(&gated(&y)),
        Mamba2Gate::AfterNorm => gated(&norm(&y)),
        Mamba2Gate::Alone => gated(&y),
    };
    weights.out.apply(&y)
}

/// `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn mamba1(
    spec: &Mamba1Spec,
    weights: &Mamba1Weights<Linear, Vec<f32>>,
    x: &[f32],
    eps: f32,
) -> Vec<f32> {
    let Mamba1Spec { inner_size, state_size, dt_rank, .. } = *spec;
    let z = weights.in_z.apply(x); // [n, inner_size]
    let x = causal_conv(&weights.in_x.apply(x), &weights.conv, weights.conv_bias.as_deref(), inner_size);
    let x: Vec<f32> = x.into_iter().map(|x| Activation::Silu.apply(x)).collect();

    let norm = |x: &[f32], norm: &Option<Vec<f32>>| match (spec.inner_norms, norm) {
        (InnerNorms::Weighted, Some(norm)) => rms_norm(x, norm, eps),
        (InnerNorms::Bare { eps }, _) => rms_norm(x, &vec![1.0; x.len()], eps),
        _ => x.to_vec(),
    };
    let mut states = vec![0.0f32; state_size * inner_size]; // [state_size, inner_size]
    let mut y = Vec::with_capacity(z.len());
    for (x, z) in x.chunks_exact(inner_size).zip(z.chunks_exact(inner_size)) {
        let selected = weights.select.apply(x);
        let (dt, bc) = selected.split_at(dt_rank);
        let (b, c) = bc.split_at(state_size);
        let (b, c) = (norm(b, &weights.b_norm), norm(c, &weights.c_norm));
        let dt = weights.dt.apply(&norm(dt, &weights.dt_norm));
        for channel in 0..inner_size {
            let dt = softplus(dt[channel] + weights.dt_bias[channel]);
            let mut sum = weights.d[channel] * x[channel];
            for (row, (b, c)) in b.iter().zip(&c).enumerate() {
                let at = row * inner_size + channel;
                states[at] = (dt * weights.a[at]).exp() * states[at] + dt * x[channel] * b;
                sum += c * states[at];
            }
            y.push(sum * Activation::Silu.apply(z[channel]));
        }
    }
    weights.out.apply(&y)
}

/// `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn gated_delta(
    spec: &GatedDeltaSpec,
    weights: &GatedDeltaWeights<Linear, Vec<f32>>,
    x: &[f32],
    eps: f32,
) -> Vec<f32> {
    let GatedDeltaSpec { n_key_heads, n_value_heads, key_dim, value_dim, .. } = *spec;
    let (keys_size, values_size) = (spec.keys_size(), spec.values_size());
    let (q, k, v) = (weights.in_q.apply(x), weights.in_k.apply(x), weights.in_v.apply(x));
    let (z, b, a) = (weights.in_z.apply(x), weights.in_b.apply(x), weights.in_a.apply(x));
    let mut qkv = Vec::new(); // [n, 2 * keys_size + values_size]
    for token in 0..b.len() / n_value_heads {
        qkv.extend_from_slice(&q[token * keys_size..][..keys_size]);
        qkv.extend_from_slice(&k[token * keys_size..][..keys_size]);
        qkv.extend_from_slice(&v[token * values_size..][..values_size]);
    }
    let qkv = causal_conv(&qkv, &weights.conv, None, 2 * keys_size + values_size);
    let qkv: Vec<f32> = qkv.into_iter().map(|x| Activation::Silu.apply(x)).collect();

    let unit = |x: &[f32]| -> Vec<f32> {
        let length = (dot(x, x) + 1e-6).sqrt();
        x.iter().map(|x| x / length).collect()
    };
    let mut states = vec![0.0f32; n_value_heads * key_dim * value_dim];
    let mut y = Vec::with_capacity(v.len()); // [n, n_value_heads, value_dim]
    for (token, qkv) in qkv.chunks_exact(2 * keys_size + values_size).enumerate() {
        for head in 0..n_value_heads {
            let key_head = head / (n_value_heads / n_key_heads);
            let q = unit(&qkv[key_head * key_dim..][..key_dim]);
            let k = unit(&qkv[keys_size + key_head * key_dim..][..key_dim]);
            let v = &qkv[2 * keys_size + head * value_dim..][..value_dim];
            let gate = token * n_value_heads + head;
            let kept = (weights.a[head] * softplus(a[gate] + weights.dt_bias[head])).exp();
            let beta = sigmoid(b[gate]);
            let state = &mut states[head * key_dim * value_dim..][..key_dim * value_dim];
            state.iter_mut().for_each(|s| *s *= kept);
            for (column, v) in v.iter().enumerate() {
                let at = |row: usize| row * value_dim + column;
                let known: f32 = (0..key_dim).map(|row| state[at(row)] * k[row]).sum();
                let learned = beta * (v - known);
                (0..key_dim).for_each(|row| state[at(row)] += k[row] * learned);
                let found: f32 = (0..key_dim).map(|row| state[at(row)] * q[row]).sum();
                y.push(found / (key_dim as f32).sqrt());
            }
        }
    }
    let y = rms_norm(&y, &weights.norm, eps);
    let gated: Vec<f32> = y.iter().zip(&z).map(|(y, z)| y * Activation::Silu.apply(*z)).collect();
    weights.out.apply(&gated)
}

/// `[n, hidden_size]` → `[n, hidden_size]`.
pub(super) fn short_conv(
    spec: &ShortConvSpec,
    weights: &ShortConvWeights<Linear, Vec<f32>>,
    x: &[f32],
) -> Vec<f32> {
    let product = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a * b).collect() };
    let gated = product(&weights.in_b.apply(x), &weights.in_v.apply(x));
    let mixed = causal_conv(&gated, &weights.conv, weights.conv_bias.as_deref(), spec.width);
    weights.out.apply(&product(&weights.in_c.apply(x), &mixed))
}

/// Every channel of `x` `[n, n_channels]` by itself, zeros before the first token; `weight` is `[n_taps, n_channels]`.
fn causal_conv(x: &[f32], weight: &[f32], bias: Option<&[f32]>, n_channels: usize) -> Vec<f32> {
    let n_taps = weight.len() / n_channels;
    let mut out = Vec::with_capacity(x.len());
    for token in 0..x.len() / n_channels {
        for channel in 0..n_channels {
            let mut sum = bias.map_or(0.0, |bias| bias[channel]);
            for tap in 0..n_taps {
                // The newest sample meets the last tap.
                if let Some(from) = (token + tap + 1).checked_sub(n_taps) {
                    sum += weight[tap * n_channels + channel] * x[from * n_channels + channel];
                }
            }
            out.push(sum);
        }
    }
    out
}

/// `ln(1 + e^x)`
fn softplus(x: f32) -> f32 {
    (f64::from(x).exp() + 1.0).ln() as f32
}
