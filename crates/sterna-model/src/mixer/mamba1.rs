//! Mamba-1 (selective state spaces, arXiv:2312.00752): every channel a linear recurrence with rates of its own.
//!
//! ```text
//! x, z    = in · x
//! x       = silu(conv(x))
//! Δ, B, C = x_proj · x                                    each normed (Jamba, Falcon-Mamba)
//! Δ       = softplus(dt · Δ + bias)
//! S_t     = exp(Δ_t A) S_{t-1} + (Δ_t x_t) B_t            per channel
//! y_t     = C_tᵀ S_t + D x_t
//! out · (y · silu(z))
//! ```

use sterna_tensor::Activations;
use sterna_tensor::ops::{self, SelectiveInput};

use super::Pass;
use super::conv::{ConvState, Convolution};
use crate::linear::{Linear, project, project_one};
use crate::rows;
use crate::spec::{Activation, InnerNorms, Mamba1Spec};
use crate::weights::Mamba1Weights;
use crate::workspace::sized;

/// What Mamba-1 keeps of a sequence: as much after one token as after a million.
#[derive(Debug, Clone)]
pub(crate) struct Mamba1State {
    conv: ConvState,
    /// `[state_size, inner_size]`.
    channels: Vec<f32>,
}

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[n, inner_size]`.
    z: Vec<f32>,
    /// `[conv_kernel - 1 + n, inner_size]`.
    conv_in: Vec<f32>,
    /// `[n, inner_size]`.
    x: Vec<f32>,
    /// `Δ`, `B` and `C` side by side, `[n, dt_rank + 2 * state_size]`.
    selected: Vec<f32>,
    /// `[n, dt_rank]`.
    dt_in: Vec<f32>,
    /// `[n, state_size]`.
    b: Vec<f32>,
    /// `[n, state_size]`.
    c: Vec<f32>,
    /// `[n, inner_size]`.
    dt: Vec<f32>,
    /// `[n, inner_size]`.
    y: Vec<f32>,
}

impl Mamba1State {
    pub(crate) fn new(spec: &Mamba1Spec) -> Mamba1State {
        Mamba1State {
            conv: ConvState::new(spec.conv_kernel, spec.inner_size),
            channels: vec![0.0; spec.state_size * spec.inner_size],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.conv.clear();
        self.channels.fill(0.0);
    }

    /// All that it remembers.
    pub(crate) fn buffers(&self) -> [&[f32]; 2] {
        [self.conv.history(), &self.channels]
    }

    pub(crate) fn buffers_mut(&mut self) -> [&mut [f32]; 2] {
        [self.conv.history_mut(), &mut self.channels]
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.conv.n_bytes() + size_of_val(self.channels.as_slice())
    }

    pub(crate) fn fits(&self, spec: &Mamba1Spec) -> bool {
        self.channels.len() == spec.state_size * spec.inner_size
            && self.conv.fits(spec.conv_kernel, spec.inner_size)
    }
}

/// The mixer of one block.
pub(super) struct Layer<'a> {
    pub(super) spec: &'a Mamba1Spec,
    pub(super) weights: &'a Mamba1Weights<Linear, Vec<f32>>,
}

impl Layer<'_> {
    /// From `x` to `y`, both `[n, hidden_size]`.
    pub(super) fn mix(
        &self,
        pass: &Pass,
        state: &mut Mamba1State,
        x: &[f32],
        input: &mut Activations,
        scratch: &mut Scratch,
        y: &mut [f32],
    ) {
        let Layer { spec, weights } = self;
        let (c, n, width) = (pass.compute, pass.n_tokens, spec.inner_size);
        let z = sized(&mut scratch.z, n * width);
        let conv_in = state.conv.window(&mut scratch.conv_in, n);
        weights.in_x.take_input(pass, x, input);
        let x_in = &mut conv_in[state.conv.len()..];
        project(c, input, [(&weights.in_x, x_in), (&weights.in_z, &mut *z)]);
        let inner = sized(&mut scratch.x, n * width);
        let conv = Convolution { weight: &weights.conv, bias: weights.conv_bias.as_deref() };
        conv.silu(c, &mut state.conv, conv_in, inner);

        let selected = sized(&mut scratch.selected, n * (spec.dt_rank + 2 * spec.state_size));
        project_one(pass, inner, &weights.select, input, selected);
        let dt_in = sized(&mut scratch.dt_in, n * spec.dt_rank);
        let b = sized(&mut scratch.b, n * spec.state_size);
        let c_out = sized(&mut scratch.c, n * spec.state_size);
        split(selected, [&mut *dt_in, &mut *b, &mut *c_out], n);
        self.norm_each(pass, [&mut *dt_in, &mut *b, &mut *c_out]);
        let dt = sized(&mut scratch.dt, n * width);
        project_one(pass, dt_in, &weights.dt, input, dt);
        rows::time_steps(c, dt, &weights.dt_bias, [0.0, f32::INFINITY]);

        let out = sized(&mut scratch.y, n * width);
        let scan = SelectiveInput { x: inner, dt, b, c: c_out, a: &weights.a, d: &weights.d };
        ops::selective_scan(c, scan, &mut state.channels, out);
        rows::gated(c, Activation::Silu, z, out, width, inner);
        project_one(pass, inner, &weights.out, input, y);
    }

    fn norm_each(&self, pass: &Pass, parts: [&mut [f32]; 3]) {
        let Mamba1Weights { dt_norm, b_norm, c_norm, .. } = self.weights;
        for (part, norm) in parts.into_iter().zip([dt_norm, b_norm, c_norm]) {
            match (self.spec.inner_norms, norm) {
                (InnerNorms::Weighted, Some(norm)) => {
                    rows::rms_norm_in_place(pass.compute, part, norm, pass.norm_eps);
                }
                (InnerNorms::Bare { eps }, _) => {
                    let width = part.len() / pass.n_tokens;
                    rows::bare_rms_norm(pass.compute, part, width, eps);
                }
                (InnerNorms::None | InnerNorms::Weighted, _) => {}
            }
        }
    }
}

/// Takes the `parts` of every one of `n` rows of `from` apart.
fn split(from: &[f32], mut parts: [&mut [f32]; 3], n: usize) {
    for (token, mut row) in from.chunks_exact(from.len() / n).enumerate() {
        for part in &mut parts {
            let width = part.len() / n;
            let (head, rest) = row.split_at(width);
            part[token * width..][..width].copy_from_slice(head);
            row = rest;
        }
    }
}
