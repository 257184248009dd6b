//! Operations on rows of tokens, spread over the threads when there are many.

use sterna_tensor::{Compute, ops};

use crate::spec::Activation;

/// Elements below which waking other threads costs more than it saves.
const MIN_PARALLEL: usize = 1 << 15;

/// Calls `f(first element, slice)` for slices of whole rows of `out` `[n, width]`, on all threads if there is enough
/// to do.
pub(crate) fn for_rows(c: &Compute, out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() < MIN_PARALLEL || c.pool.n_threads() == 1 {
        return f(0, out);
    }
    let n_rows = out.len() / width;
    let chunk = n_rows.div_ceil(4 * c.pool.n_threads()) * width;
    c.pool.run_slices(out, chunk, |i, slice, _| f(i * chunk, slice));
}

/// RMS norm of every row of `x` `[n, weight.len()]`, into `out`.
pub(crate) fn rms_norm(c: &Compute, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    for_rows(c, out, weight.len(), |first, out| {
        ops::rms_norm(c.isa, &x[first..][..out.len()], weight, eps, out);
    });
}

/// As [`rms_norm`], in place.
pub(crate) fn rms_norm_in_place(c: &Compute, x: &mut [f32], weight: &[f32], eps: f32) {
    for_rows(c, x, weight.len(), |_, x| ops::rms_norm_in_place(c.isa, x, weight, eps));
}

/// RMS norm of every row of `x` `[n, width]` without weights, in place.
pub(crate) fn bare_rms_norm(c: &Compute, x: &mut [f32], width: usize, eps: f32) {
    for_rows(c, x, width, |_, x| {
        for row in x.chunks_exact_mut(width) {
            let mean = row.iter().map(|x| x * x).sum::<f32>() / width as f32;
            ops::scale(row, 1.0 / (mean + eps).sqrt());
        }
    });
}

/// As [`rms_norm_in_place`], each of `n_groups` parts of a row `[weight.len()]` by itself.
pub(crate) fn group_rms_norm(c: &Compute, x: &mut [f32], weight: &[f32], n_groups: usize, eps: f32) {
    let width = weight.len() / n_groups;
    for_rows(c, x, weight.len(), |_, x| {
        for row in x.chunks_exact_mut(weight.len()) {
            for (part, weight) in row.chunks_exact_mut(width).zip(weight.chunks_exact(width)) {
                ops::rms_norm_in_place(c.isa, part, weight, eps);
            }
        }
    });
}

/// `out = activation(gate) · up`, all `[n, width]`.
pub(crate) fn gated(
    c: &Compute,
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    width: usize,
    out: &mut [f32],
) {
    for_rows(c, out, width, |first, out| {
        let (gate, up) = (&gate[first..][..out.len()], &up[first..][..out.len()]);
        match activation {
            Activation::Silu => ops::silu_mul(c.isa, gate, up, out),
            Activation::GeluTanh => ops::gelu_tanh_mul(c.isa, gate, up, out),
            Activation::Relu2 => ops::relu2_mul(c.isa, gate, up, out),
            Activation::Gelu | Activation::Relu => {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = activation.apply(*gate) * up;
                }
            }
        }
    });
}

/// `x *= y`, both `[n, width]`.
pub(crate) fn multiply(c: &Compute, x: &mut [f32], y: &[f32], width: usize) {
    for_rows(c, x, width, |first, x| {
        let y = &y[first..][..x.len()];
        x.iter_mut().zip(y).for_each(|(x, y)| *x *= y);
    });
}

/// `x *= sigmoid(gate)`, both `[n, width]`.
pub(crate) fn multiply_by_sigmoid(c: &Compute, x: &mut [f32], gate: &[f32], width: usize) {
    for_rows(c, x, width, |first, x| ops::sigmoid_mul(c.isa, x, &gate[first..][..x.len()]));
}

/// `1 / (1 + e^-x)`, where there are few of them.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `dt = clamp(softplus(dt + bias))`, `[n, bias.len()]`.
pub(crate) fn time_steps(c: &Compute, dt: &mut [f32], bias: &[f32], limits: [f32; 2]) {
    for_rows(c, dt, bias.len(), |_, dt| ops::time_steps(c.isa, dt, bias, limits));
}

/// `x = activation(x)`, `[n, width]`.
pub(crate) fn activate(c: &Compute, activation: Activation, x: &mut [f32], width: usize) {
    for_rows(c, x, width, |_, x| x.iter_mut().for_each(|x| *x = activation.apply(*x)));
}

/// Rotates every head of `x` `[n, n_heads * head_dim]` by its token's row of the tables `[n, n_dims / 2]`.
pub(crate) fn rotate(c: &Compute, x: &mut [f32], n: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    let (width, half) = (x.len() / n, cos.len() / n);
    for_rows(c, x, width, |first, x| {
        let tokens = first / width..(first + x.len()) / width;
        let table = tokens.start * half..tokens.end * half;
        ops::rope(c.isa, x, tokens.len(), head_dim, &cos[table.clone()], &sin[table]);
    });
}

/// Spreads every head of `x` `[n, n_heads * head_dim]` as [`ops::hadamard`] does.
pub(crate) fn hadamard(c: &Compute, x: &mut [f32], n: usize, head_dim: usize) {
    let width = x.len() / n;
    for_rows(c, x, width, |_, x| ops::hadamard(x, head_dim));
}
