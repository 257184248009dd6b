//! Mamba-2 (state-space duality, arXiv:2405.21060): a gated linear recurrence behind a short convolution.
//!
//! ```text
//! z, xBC, Δ = in · x
//! x, B, C   = silu(conv(xBC))
//! Δ         = clamp(softplus(Δ + bias))
//! S_t       = exp(Δ_t A) S_{t-1} + B_t ⊗ (Δ_t x_t)        per head
//! y_t       = C_tᵀ S_t + D x_t
//! out · gate(y, z)
//! ```

use sterna_tensor::Activations;
use sterna_tensor::ops::{self, SsdInput};

use super::Pass;
use super::conv::{ConvState, Convolution};
use crate::linear::{Linear, project, project_one};
use crate::rows;
use crate::spec::{Activation, Mamba2Gate, Mamba2Scales, Mamba2Spec};
use crate::weights::Mamba2Weights;
use crate::workspace::sized;

/// What Mamba-2 keeps of a sequence: as much after one token as after a million.
#[derive(Debug, Clone)]
pub(crate) struct Mamba2State {
    conv: ConvState,
    /// Of all heads, and the last few tokens ([`ops::ssd_scan`]).
    heads: Vec<f32>,
}

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[n, inner_size]`.
    z: Vec<f32>,
    /// `[conv_kernel - 1 + n, conv_size]`.
    conv_in: Vec<f32>,
    /// `[n, conv_size]`.
    xbc: Vec<f32>,
    /// `[n, n_heads]`.
    dt: Vec<f32>,
    /// `[n, n_heads]`.
    decay: Vec<f32>,
    /// How much tokens have to do with those before them.
    scores: Vec<f32>,
    /// `[n, inner_size]`.
    y: Vec<f32>,
    /// `[n, inner_size]`.
    gated: Vec<f32>,
}

impl Mamba2State {
    pub(crate) fn new(spec: &Mamba2Spec) -> Mamba2State {
        Mamba2State {
            conv: ConvState::new(spec.conv_kernel, spec.conv_size()),
            heads: vec![0.0; spec.scan().state_len()],
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

    pub(crate) fn fits(&self, spec: &Mamba2Spec) -> bool {
        self.heads.len() == spec.scan().state_len() && self.conv.fits(spec.conv_kernel, spec.conv_size())
    }
}

/// The mixer of one block.
pub(super) struct Layer<'a> {
    pub(super) spec: &'a Mamba2Spec,
    pub(super) weights: &'a Mamba2Weights<Linear, Vec<f32>>,
}

impl Layer<'_> {
    /// From `x` to `y`, both `[n, hidden_size]`.
    pub(super) fn mix(
        &self,
        pass: &Pass,
        state: &mut Mamba2State,
        x: &[f32],
        input: &mut Activations,
        scratch: &mut Scratch,
        y: &mut [f32],
    ) {
        let Layer { spec, weights } = self;
        let (c, n) = (pass.compute, pass.n_tokens);
        let z = sized(&mut scratch.z, n * spec.inner_size());
        let dt = sized(&mut scratch.dt, n * spec.n_heads);
        let conv = Convolution { weight: &weights.conv, bias: weights.conv_bias.as_deref() };
        let conv_in = state.conv.window(&mut scratch.conv_in, n);
        weights.in_z.take_input(pass, x, input);
        let xbc_in = &mut conv_in[state.conv.len()..];
        project(c, input, [(&weights.in_z, &mut *z), (&weights.in_xbc, xbc_in), (&weights.in_dt, &mut *dt)]);
        if let Some(scales) = &spec.scales {
            let xbc_in = &mut conv_in[state.conv.len()..];
            scale_parts(spec, scales, z, xbc_in, dt);
        }
        let xbc = sized(&mut scratch.xbc, n * spec.conv_size());
        conv.silu(c, &mut state.conv, conv_in, xbc);

        rows::time_steps(c, dt, &weights.dt_bias, spec.dt_limits);
        let decay = sized(&mut scratch.decay, dt.len());
        for (decay, dt) in decay.chunks_exact_mut(spec.n_heads).zip(dt.chunks_exact(spec.n_heads)) {
            let heads = decay.iter_mut().zip(dt).zip(&weights.a);
            heads.for_each(|((decay, dt), a)| *decay = (dt * a).exp());
        }
        let inner = sized(&mut scratch.y, n * spec.inner_size());
        let scores = sized(&mut scratch.scores, spec.scan().scores_len(n));
        let scan = SsdInput { first: pass.first, xbc, dt, decay, d: &weights.d };
        ops::ssd_scan(c, spec.scan(), scan, &mut state.heads, scores, inner);

        let gated = sized(&mut scratch.gated, inner.len());
        self.gate(pass, inner, z, gated);
        project_one(pass, gated, &weights.out, input, y);
    }

    fn gate(&self, pass: &Pass, y: &mut [f32], z: &[f32], gated: &mut [f32]) {
        let (c, width) = (pass.compute, self.spec.inner_size());
        let norm = self.weights.norm.as_deref().unwrap_or_default();
        let eps = self.spec.norm_eps.unwrap_or(pass.norm_eps);
        let norm = |x: &mut [f32]| rows::group_rms_norm(c, x, norm, self.spec.n_groups, eps);
        if self.spec.gate == Mamba2Gate::AfterNorm {
            norm(y);
        }
        rows::gated(c, Activation::Silu, z, y, width, gated);
        if self.spec.gate == Mamba2Gate::ThenNorm {
            norm(gated);
        }
    }
}

/// Multiplies what comes out of the projection by the constants of its parts.
fn scale_parts(spec: &Mamba2Spec, scales: &Mamba2Scales, z: &mut [f32], xbc: &mut [f32], dt: &mut [f32]) {
    let shared = spec.n_groups * spec.state_size;
    ops::scale(z, scales.z);
    ops::scale(dt, scales.dt);
    for token in xbc.chunks_exact_mut(spec.conv_size()) {
        let (x, bc) = token.split_at_mut(spec.inner_size());
        let (b, c) = bc.split_at_mut(shared);
        ops::scale(x, scales.x);
        ops::scale(b, scales.b);
        ops::scale(c, scales.c);
    }
}
