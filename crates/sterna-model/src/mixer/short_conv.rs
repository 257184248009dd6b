//! A gated short convolution (LFM2): no state beyond a few samples.
//!
//! ```text
//! B, C, v = in · x
//! out · (C · conv(B · v))
//! ```

use sterna_tensor::{Activations, ops};

use super::Pass;
use super::conv::{ConvState, Convolution};
use crate::linear::{Linear, project, project_one};
use crate::rows;
use crate::spec::ShortConvSpec;
use crate::weights::ShortConvWeights;
use crate::workspace::sized;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[n, hidden_size]`.
    b: Vec<f32>,
    /// `[n, hidden_size]`.
    c: Vec<f32>,
    /// `[n, hidden_size]`.
    v: Vec<f32>,
    /// `[conv_kernel - 1 + n, hidden_size]`.
    conv_in: Vec<f32>,
}

/// The mixer of one block.
pub(super) struct Layer<'a> {
    pub(super) spec: &'a ShortConvSpec,
    pub(super) weights: &'a ShortConvWeights<Linear, Vec<f32>>,
}

impl Layer<'_> {
    /// From `x` to `y`, both `[n, hidden_size]`.
    pub(super) fn mix(
        &self,
        pass: &Pass,
        state: &mut ConvState,
        x: &[f32],
        input: &mut Activations,
        scratch: &mut Scratch,
        y: &mut [f32],
    ) {
        let Layer { spec, weights } = self;
        let c = pass.compute;
        let (gate_in, gate_out) = (sized(&mut scratch.b, x.len()), sized(&mut scratch.c, x.len()));
        let v = sized(&mut scratch.v, x.len());
        weights.in_b.take_input(pass, x, input);
        project(
            c,
            input,
            [(&weights.in_b, &mut *gate_in), (&weights.in_c, &mut *gate_out), (&weights.in_v, &mut *v)],
        );
        let window = state.window(&mut scratch.conv_in, pass.n_tokens);
        let before = state.len();
        ops::mul(c.isa, gate_in, v, &mut window[before..]);
        let conv = Convolution { weight: &weights.conv, bias: weights.conv_bias.as_deref() };
        conv.plain(c, state, window, v);
        rows::multiply(c, gate_out, v, spec.width);
        project_one(pass, gate_out, &weights.out, input, y);
    }
}
