//! A transformer that several blocks share, before Mamba-2 (Zamba2, arXiv:2411.15242). Each block adapts its matrices by some of
//! low rank; it reads the residual stream `x` and the embedding `e` of the same token, and has no residual stream of its own:
//!
//! ```text
//! u = norm(x ‖ e)
//! a = o(attention((Wq + Aq) u, (Wk + Ak) u, (Wv + Av) u))
//! h = norm(a)
//! t = out(down(gelu((Wg + Ag) h) · (Wu + Au) h))
//! ```
//!
//! What Mamba-2 reads is the norm of `x + t`; `x` itself goes on without `t`.

use sterna_tensor::{Activations, ops};

use super::{Pass, attention};
use crate::feed_forward::dense;
use crate::kv_cache::KvCache;
use crate::linear::{Linear, project, project_one};
use crate::rows;
use crate::spec::SharedSpec;
use crate::weights::{Adapter, AdapterWeights, TransformerWeights};
use crate::workspace::sized;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The stream and the embedding side by side, `[n, 2 * hidden_size]`.
    both: Vec<f32>,
    /// Their norm, `[n, 2 * hidden_size]`.
    normed: Vec<f32>,
    /// What attention and the network make of it, `[n, hidden_size]`.
    y: Vec<f32>,
    network: dense::Scratch,
}

/// What adapters compute in.
#[derive(Debug, Default)]
pub(crate) struct AdapterScratch {
    /// `[n, rank]`.
    low: Vec<f32>,
    /// What is added, `[n, rows]`.
    added: Vec<f32>,
}

impl AdapterScratch {
    /// What the first half of an adapter makes of `x` `[n, cols]`, for [`AdapterScratch::add`].
    pub(crate) fn reduce(&mut self, pass: &Pass, x: &[f32], down: &Linear, input: &mut Activations) {
        let n = x.len() / down.matrix.cols();
        let low = sized(&mut self.low, n * down.matrix.rows());
        project_one(pass, x, down, input, low);
    }

    /// Adds what the second half makes of that to `y` `[n, rows]`.
    pub(crate) fn add(&mut self, pass: &Pass, up: &Linear, input: &mut Activations, y: &mut [f32]) {
        let n = y.len() / up.matrix.rows();
        let added = sized(&mut self.added, y.len());
        up.take_input(pass, &self.low[..n * up.matrix.cols()], input);
        project(pass.compute, input, [(up, &mut *added)]);
        ops::add_assign(pass.compute.isa, y, added);
    }

    /// Adds what a whole adapter makes of `x` `[n, cols]` to `y` `[n, rows]`.
    pub(crate) fn adapt(
        &mut self,
        pass: &Pass,
        Adapter { down, up }: &Adapter<Linear>,
        x: &[f32],
        input: &mut Activations,
        y: &mut [f32],
    ) {
        self.reduce(pass, x, down, input);
        self.add(pass, up, input, y);
    }
}

/// The transformer as one block uses it.
pub(super) struct Layer<'a> {
    pub(super) spec: &'a SharedSpec,
    pub(super) weights: &'a TransformerWeights<Linear, Vec<f32>>,
    pub(super) adapters: &'a AdapterWeights<Linear>,
    /// The table that attention rotates by, if it rotates.
    pub(super) rope: Option<usize>,
}

impl Layer<'_> {
    /// What of the streams `x` and `embedding` goes into the recurrence beside `x`, into `y`; all `[n, hidden_size]`.
    pub(super) fn run(
        &self,
        pass: &Pass,
        cache: &mut KvCache,
        (x, embedding): (&[f32], &[f32]),
        input: &mut Activations,
        (scratch, of_attention): (&mut Scratch, &mut attention::Scratch),
        y: &mut [f32],
    ) {
        let Layer { spec, weights, adapters, rope } = *self;
        let c = pass.compute;
        let width = x.len() / pass.n_tokens;
        let both = sized(&mut scratch.both, 2 * x.len());
        let pairs = x.chunks_exact(width).zip(embedding.chunks_exact(width));
        for (both, (x, embedding)) in both.chunks_exact_mut(2 * width).zip(pairs) {
            both[..width].copy_from_slice(x);
            both[width..].copy_from_slice(embedding);
        }
        let normed = sized(&mut scratch.normed, both.len());
        rows::rms_norm(c, both, &weights.norm, pass.norm_eps, normed);

        let of_two = sized(&mut scratch.y, x.len());
        let attention = attention::Layer {
            spec: &spec.attention,
            weights: &weights.attention,
            adapters: adapters.qkv.as_ref(),
            rope,
        };
        attention.mix(pass, cache, normed, input, of_attention, of_two);
        rows::rms_norm_in_place(c, of_two, &weights.feed_forward_norm, pass.norm_eps);
        let network = &mut scratch.network;
        let adapted = (&weights.feed_forward, Some(adapters));
        dense::adapted(pass, &spec.feed_forward, adapted, of_two, input, network, y);
        of_two.copy_from_slice(y);
        project_one(pass, of_two, &adapters.out, input, y);
    }
}
