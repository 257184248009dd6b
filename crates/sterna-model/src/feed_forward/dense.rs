//! One network: `down(activation(gate x) · up x)`, or `down(activation(up x))` where there is no gate.

use sterna_tensor::{Activations, ops};

use crate::linear::{Linear, project, project_one};
use crate::mixer::Pass;
use crate::mixer::shared::AdapterScratch;
use crate::rows;
use crate::spec::DenseSpec;
use crate::weights::{AdapterWeights, DenseWeights};
use crate::workspace::sized;

#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[n, intermediate_size]`.
    gate: Vec<f32>,
    /// `[n, intermediate_size]`.
    up: Vec<f32>,
    /// `[n, intermediate_size]`.
    inner: Vec<f32>,
    adapter: AdapterScratch,
}

/// From `x` to `y`, both `[n, hidden_size]` for any `n`.
pub(super) fn dense(
    pass: &Pass,
    spec: &DenseSpec,
    weights: &DenseWeights<Linear, Vec<f32>>,
    x: &[f32],
    input: &mut Activations,
    scratch: &mut Scratch,
    y: &mut [f32],
) {
    adapted(pass, spec, (weights, None), x, input, scratch, y);
}

/// As [`dense`], of a network whose gate and up projections may be adapted.
pub(crate) fn adapted(
    pass: &Pass,
    spec: &DenseSpec,
    (weights, adapters): (&DenseWeights<Linear, Vec<f32>>, Option<&AdapterWeights<Linear>>),
    x: &[f32],
    input: &mut Activations,
    scratch: &mut Scratch,
    y: &mut [f32],
) {
    let c = pass.compute;
    let width = spec.intermediate_size;
    weights.gate.as_ref().unwrap_or(&weights.up).take_input(pass, x, input);
    let len = input.n_tokens() * width;
    let up = sized(&mut scratch.up, len);
    let inner = match &weights.gate {
        Some(gate_weights) => {
            let gate = sized(&mut scratch.gate, len);
            project(c, input, [(gate_weights, &mut *gate), (&weights.up, &mut *up)]);
            if let Some(AdapterWeights { network_in, gate_out, up_out, .. }) = adapters {
                scratch.adapter.reduce(pass, x, network_in, input);
                scratch.adapter.add(pass, gate_out, input, gate);
                scratch.adapter.add(pass, up_out, input, up);
            }
            scale(gate, spec.gate_scale);
            let inner = sized(&mut scratch.inner, len);
            rows::gated(c, spec.activation, gate, up, width, inner);
            inner
        }
        None => {
            project(c, input, [(&weights.up, &mut *up)]);
            scale(up, spec.gate_scale);
            rows::activate(c, spec.activation, up, width);
            up
        }
    };
    if let Some(sub_norm) = &weights.sub_norm {
        rows::rms_norm_in_place(c, inner, sub_norm, pass.norm_eps);
    }
    project_one(pass, inner, &weights.down, input, y);
    scale(y, spec.out_scale);
}

fn scale(x: &mut [f32], factor: f32) {
    if factor != 1.0 {
        ops::scale(x, factor);
    }
}
