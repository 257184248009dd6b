//! Grouped-query softmax attention over a cache of keys and values.

use sterna_tensor::Activations;
use sterna_tensor::ops::{self, AttentionScratch, AttentionShape};

use super::Pass;
use super::shared::AdapterScratch;
use crate::kv_cache::KvCache;
use crate::linear::{Linear, project, project_one};
use crate::rows;
use crate::spec::AttentionSpec;
use crate::weights::{Adapter, AttentionWeights};
use crate::workspace::sized;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[n, n_heads * head_dim]`.
    q: Vec<f32>,
    /// `[n, n_kv_heads * head_dim]`.
    k: Vec<f32>,
    /// `[n, n_kv_heads * head_dim]`.
    v: Vec<f32>,
    /// `[n, n_heads * head_dim]`.
    gate: Vec<f32>,
    /// Values mixed by the scores, `[n, n_heads * head_dim]`.
    mixed: Vec<f32>,
    scores: AttentionScratch,
    adapter: AdapterScratch,
}

/// The attention of one block.
pub(super) struct Layer<'a> {
    pub(super) spec: &'a AttentionSpec,
    pub(super) weights: &'a AttentionWeights<Linear, Vec<f32>>,
    /// Of queries, keys and values.
    pub(super) adapters: Option<&'a [Adapter<Linear>; 3]>,
    /// The table it rotates by, if it rotates.
    pub(super) rope: Option<usize>,
}

impl Layer<'_> {
    /// From `x` to `y`, both `[n, hidden_size]`; appends the chunk's keys and values to `cache`.
    pub(super) fn mix(
        &self,
        pass: &Pass,
        cache: &mut KvCache,
        x: &[f32],
        input: &mut Activations,
        scratch: &mut Scratch,
        y: &mut [f32],
    ) {
        let Layer { spec, weights, .. } = self;
        let (c, n) = (pass.compute, pass.n_tokens);
        let q = sized(&mut scratch.q, n * spec.q_size());
        let k = sized(&mut scratch.k, n * spec.kv_size());
        let v = sized(&mut scratch.v, n * spec.kv_size());
        weights.q.take_input(pass, x, input);
        project(c, input, [(&weights.q, &mut *q), (&weights.k, &mut *k), (&weights.v, &mut *v)]);
        if let Some(weights) = &weights.gate {
            project(c, input, [(weights, sized(&mut scratch.gate, n * spec.q_size()))]);
        }
        if let Some([of_q, of_k, of_v]) = self.adapters {
            scratch.adapter.adapt(pass, of_q, x, input, q);
            scratch.adapter.adapt(pass, of_k, x, input, k);
            scratch.adapter.adapt(pass, of_v, x, input, v);
        }
        if let (Some(q_norm), Some(k_norm)) = (&weights.q_norm, &weights.k_norm) {
            rows::rms_norm_in_place(c, q, q_norm, pass.norm_eps);
            rows::rms_norm_in_place(c, k, k_norm, pass.norm_eps);
        }
        if let Some(rope) = self.rope {
            let (cos, sin) = pass.ropes.get(rope);
            rows::rotate(c, q, n, spec.head_dim, cos, sin);
            rows::rotate(c, k, n, spec.head_dim, cos, sin);
        }
        if cache.ty().rotates_keys() {
            rows::hadamard(c, q, n, spec.head_dim);
            rows::hadamard(c, k, n, spec.head_dim);
        }
        cache.write(c.isa, pass.first, k, v);

        let mixed = sized(&mut scratch.mixed, n * spec.q_size());
        ops::attention(c, &self.shape(), q, cache.view(), pass.first, &mut scratch.scores, mixed);
        if weights.gate.is_some() {
            rows::multiply_by_sigmoid(c, mixed, &scratch.gate, spec.q_size());
        }
        if let Some(sub_norm) = &weights.sub_norm {
            rows::rms_norm_in_place(c, mixed, sub_norm, pass.norm_eps);
        }
        project_one(pass, mixed, &weights.o, input, y);
    }

    fn shape(&self) -> AttentionShape {
        let &AttentionSpec { n_heads, n_kv_heads, head_dim, scale, window, softcap, .. } = self.spec;
        AttentionShape { n_heads, n_kv_heads, head_dim, scale, window, softcap }
    }
}
