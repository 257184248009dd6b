//! The gated delta rule (arXiv:2412.06464): a linear recurrence that corrects what its state holds, behind a short
//! convolution (Qwen3-Next).
//!
//! ```text
//! q, k, v, z, b, a = in · x
//! q, k, v  = silu(conv(q, k, v));  q, k of length 1, q / √key_dim
//! β, g     = sigmoid(b), exp(A softplus(a + bias))
//! S        = g S_{t-1}                                    per head of values
//! S_t      = S + k_t ⊗ β (v_t - Sᵀ k_t)
//! y_t      = S_tᵀ q_t
//! out · (norm(y) · silu(z))
//! ```

use sterna_tensor::ops::{self, DeltaInput, DeltaShape};
use sterna_tensor::{Activations, Compute};

use super::Pass;
use super::conv::{ConvState, Convolution};
use crate::linear::{Linear, project, project_one};
use crate::rows;
use crate::spec::{Activation, GatedDeltaSpec};
use crate::weights::GatedDeltaWeights;
use crate::workspace::sized;

/// What the rule keeps of a sequence: as much after one token as after a million.
#[derive(Debug, Clone)]
pub(crate) struct GatedDeltaState {
    conv: ConvState,
    /// `[n_value_heads, key_dim, value_dim]`.
    heads: Vec<f32>,
}

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[n, keys_size]`.
    q: Vec<f32>,
    /// `[n, keys_size]`.
    k: Vec<f32>,
    /// `[n, values_size]`.
    v: Vec<f32>,
    /// `[n, values_size]`.
    z: Vec<f32>,
    /// `[n, n_value_heads]`.
    beta: Vec<f32>,
    /// `[n, n_value_heads]`.
    decay: Vec<f32>,
    /// `[conv_kernel - 1 + n, conv_size]`.
    conv_in: Vec<f32>,
    /// `[n, conv_size]`.
    qkv: Vec<f32>,
    /// `[n, values_size]`.
    y: Vec<f32>,
    /// Weights that make a query, and a key, of the right length, `[key_dim]` each.
    lengths: [Vec<f32>; 2],
}

impl GatedDeltaState {
    pub(crate) fn new(spec: &GatedDeltaSpec) -> GatedDeltaState {
        GatedDeltaState {
            conv: ConvState::new(spec.conv_kernel, shape(spec).qkv_size()),
            heads: vec![0.0; shape(spec).state_len()],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.conv.clear();
        self.heads.fill(0.0);
    }

    /// All that it remembers.
    pub(crate) fn buffers(&self) -> [&[f32]; 2] {
        [self.conv.history(), &self.heads]
    }

    pub(crate) fn buffers_mut(&mut self) -> [&mut [f32]; 2] {
        [self.conv.history_mut(), &mut self.heads]
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.conv.n_bytes() + size_of_val(self.heads.as_slice())
    }

    pub(crate) fn fits(&self, spec: &GatedDeltaSpec) -> bool {
        let shape = shape(spec);
        self.heads.len() == shape.state_len() && self.conv.fits(spec.conv_kernel, shape.qkv_size())
    }
}

/// The mixer of one block.
pub(super) struct Layer<'a> {
    pub(super) spec: &'a GatedDeltaSpec,
    pub(super) weights: &'a GatedDeltaWeights<Linear, Vec<f32>>,
}

impl Layer<'_> {
    /// From `x` to `y`, both `[n, hidden_size]`.
    pub(super) fn mix(
        &self,
        pass: &Pass,
        state: &mut GatedDeltaState,
        x: &[f32],
        input: &mut Activations,
        scratch: &mut Scratch,
        y: &mut [f32],
    ) {
        let Layer { spec, weights } = self;
        let shape = shape(spec);
        let (c, n) = (pass.compute, pass.n_tokens);
        let q = sized(&mut scratch.q, n * shape.keys_size());
        let k = sized(&mut scratch.k, n * shape.keys_size());
        let v = sized(&mut scratch.v, n * shape.values_size());
        let z = sized(&mut scratch.z, n * shape.values_size());
        let beta = sized(&mut scratch.beta, n * spec.n_value_heads);
        let decay = sized(&mut scratch.decay, n * spec.n_value_heads);
        weights.in_q.take_input(pass, x, input);
        let outputs = [
            (&weights.in_q, &mut *q),
            (&weights.in_k, &mut *k),
            (&weights.in_v, &mut *v),
            (&weights.in_z, &mut *z),
            (&weights.in_b, &mut *beta),
            (&weights.in_a, &mut *decay),
        ];
        project(c, input, outputs);

        let conv_in = state.conv.window(&mut scratch.conv_in, n);
        side_by_side([q, k, v], &mut conv_in[state.conv.len()..], n);
        let qkv = sized(&mut scratch.qkv, n * shape.qkv_size());
        let conv = Convolution { weight: &weights.conv, bias: None };
        conv.silu(c, &mut state.conv, conv_in, qkv);
        normalize(c, shape, &mut scratch.lengths, qkv);
        self.gates(beta, decay, c);

        let inner = sized(&mut scratch.y, n * shape.values_size());
        ops::gated_delta(c, shape, DeltaInput { qkv, beta, decay }, &mut state.heads, inner);
        rows::rms_norm_in_place(c, inner, &weights.norm, pass.norm_eps);
        rows::gated(c, Activation::Silu, z, inner, shape.values_size(), v);
        project_one(pass, v, &weights.out, input, y);
    }

    /// Turns what the projections give into how much is learned and how much is kept, `[n, n_value_heads]` each.
    fn gates(&self, beta: &mut [f32], decay: &mut [f32], c: &Compute) {
        beta.iter_mut().for_each(|beta| *beta = rows::sigmoid(*beta));
        rows::time_steps(c, decay, &self.weights.dt_bias, [0.0, f32::INFINITY]);
        for token in decay.chunks_exact_mut(self.spec.n_value_heads) {
            token.iter_mut().zip(&self.weights.a).for_each(|(decay, a)| *decay = (*decay * a).exp());
        }
    }
}

fn shape(spec: &GatedDeltaSpec) -> DeltaShape {
    let &GatedDeltaSpec { n_key_heads, n_value_heads, key_dim, value_dim, .. } = spec;
    DeltaShape { n_key_heads, n_value_heads, key_dim, value_dim }
}

/// Puts the rows of `parts`, `n` of each, next to one another.
fn side_by_side(parts: [&[f32]; 3], to: &mut [f32], n: usize) {
    for (token, mut row) in to.chunks_exact_mut(to.len() / n).enumerate() {
        for part in parts {
            let width = part.len() / n;
            let (head, rest) = row.split_at_mut(width);
            head.copy_from_slice(&part[token * width..][..width]);
            row = rest;
        }
    }
}

/// Makes keys of length 1, and queries of length `1 / √key_dim`.
///
/// `x / √(Σx² + eps)` is an RMS norm: `x / √(mean(x²) + eps / key_dim) / √key_dim`.
fn normalize(c: &Compute, shape: DeltaShape, lengths: &mut [Vec<f32>; 2], qkv: &mut [f32]) {
    const EPS: f32 = 1e-6;
    let key_dim = shape.key_dim as f32;
    for (weight, length) in lengths.iter_mut().zip([1.0 / key_dim, 1.0 / key_dim.sqrt()]) {
        weight.clear();
        weight.resize(shape.key_dim, length);
    }
    let [of_query, of_key] = &*lengths;
    rows::for_rows(c, qkv, shape.qkv_size(), |_, rows| {
        for row in rows.chunks_exact_mut(shape.qkv_size()) {
            let (q, rest) = row.split_at_mut(shape.keys_size());
            ops::rms_norm_in_place(c.isa, q, of_query, EPS / key_dim);
            ops::rms_norm_in_place(c.isa, &mut rest[..shape.keys_size()], of_key, EPS / key_dim);
        }
    });
}
