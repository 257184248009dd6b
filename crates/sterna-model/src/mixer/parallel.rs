//! Attention and Mamba-2 side by side over the same input (Falcon-H1).
//!
//! ```text
//! out₁ · attention(in₁ · x) + out₂ · mamba(in₂ · x)
//! ```

use sterna_tensor::{Activations, ops};

use super::{Pass, attention, mamba2};
use crate::kv_cache::KvCache;
use crate::linear::Linear;
use crate::spec::ParallelSpec;
use crate::weights::ParallelWeights;
use crate::workspace::sized;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The scaled input, `[n, hidden_size]`.
    x: Vec<f32>,
    /// What Mamba makes of it, `[n, hidden_size]`.
    y: Vec<f32>,
}

/// The mixer of one block.
pub(super) struct Layer<'a> {
    pub(super) spec: &'a ParallelSpec,
    pub(super) weights: &'a ParallelWeights<Linear, Vec<f32>>,
    /// The table that attention rotates by, if it rotates.
    pub(super) rope: Option<usize>,
}

impl Layer<'_> {
    /// From `x` to `y`, both `[n, hidden_size]`.
    pub(super) fn mix(
        &self,
        pass: &Pass,
        (cache, state): (&mut KvCache, &mut mamba2::Mamba2State),
        x: &[f32],
        input: &mut Activations,
        (scratch, of_attention, of_mamba): (&mut Scratch, &mut attention::Scratch, &mut mamba2::Scratch),
        y: &mut [f32],
    ) {
        let Layer { spec, weights, rope } = *self;
        let (c, scaled) = (pass.compute, sized(&mut scratch.x, x.len()));
        let attention =
            attention::Layer { spec: &spec.attention, weights: &weights.attention, adapters: None, rope };
        scale_into(x, spec.attention_in, scaled);
        attention.mix(pass, cache, scaled, input, of_attention, y);
        ops::scale(y, spec.attention_out);

        let of_state_space = sized(&mut scratch.y, x.len());
        let mamba = mamba2::Layer { spec: &spec.mamba, weights: &weights.mamba };
        scale_into(x, spec.mamba_in, scaled);
        mamba.mix(pass, state, scaled, input, of_mamba, of_state_space);
        ops::add_scaled(c.isa, y, of_state_space, spec.mamba_out);
    }
}

fn scale_into(x: &[f32], factor: f32, out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out = x * factor);
}
