//! Mixture of experts: a router picks a few networks for each token.

use sterna_tensor::{Activations, ops};

use super::router::{Route, Router};
use super::{FeedForwardScratch, dense};
use crate::linear::{Linear, project_one};
use crate::mixer::Pass;
use crate::rows;
use crate::spec::MoeSpec;
use crate::weights::MoeWeights;
use crate::workspace::sized;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Of the experts, `[n, n_experts]`.
    scores: Vec<f32>,
    router: Router,
    /// Who goes where: expert, token and weight, sorted by expert, `[n * n_active]`.
    routes: Vec<Route>,
    /// The tokens of one expert, `[n_routed, width of its stream]`.
    x: Vec<f32>,
    /// What it makes of them, `[n_routed, width of its stream]`.
    y: Vec<f32>,
    /// What experts with a stream of their own read, `[n, latent_size]`.
    latent: Vec<f32>,
    /// And what they give, `[n, latent_size]`.
    latent_sum: Vec<f32>,
}

/// From `x` to `y`, both `[n, hidden_size]`.
pub(super) fn moe(
    pass: &Pass,
    spec: &MoeSpec,
    weights: &MoeWeights<Linear, Vec<f32>>,
    x: &[f32],
    input: &mut Activations,
    scratch: &mut FeedForwardScratch,
    y: &mut [f32],
) {
    let FeedForwardScratch { moe, dense: dense_scratch } = scratch;
    let hidden_size = x.len() / pass.n_tokens;
    let scores = sized(&mut moe.scores, pass.n_tokens * spec.n_experts);
    project_one(pass, x, &weights.router, input, scores);
    let bias = weights.router_bias.as_deref();
    moe.router.route(pass.compute, spec, bias, scores, &mut moe.routes);

    match (&spec.shared, &weights.shared) {
        (Some(spec), Some(weights)) => dense::dense(pass, spec, weights, x, input, dense_scratch, y),
        _ => y.fill(0.0),
    }
    if let Some(gate) = &weights.shared_gate {
        let gates = sized(&mut moe.scores, pass.n_tokens);
        project_one(pass, x, gate, input, gates);
        for (row, gate) in y.chunks_exact_mut(hidden_size).zip(gates) {
            ops::scale(row, rows::sigmoid(*gate));
        }
    }
    let (Some(latent_in), Some(latent_out)) = (&weights.latent_in, &weights.latent_out) else {
        return add_experts(pass, spec, weights, x, input, scratch, y);
    };
    let len = pass.n_tokens * latent_in.matrix.rows();
    let (mut latent, mut sum) = (std::mem::take(&mut moe.latent), std::mem::take(&mut moe.latent_sum));
    project_one(pass, x, latent_in, input, sized(&mut latent, len));
    sized(&mut sum, len).fill(0.0);
    add_experts(pass, spec, weights, &latent[..len], input, scratch, &mut sum[..len]);
    let moe = &mut scratch.moe;
    let back = sized(&mut moe.y, y.len());
    project_one(pass, &sum[..len], latent_out, input, back);
    ops::add_assign(pass.compute.isa, y, back);
    (moe.latent, moe.latent_sum) = (latent, sum);
}

/// Adds what the experts make of the tokens of `x` that were routed to them to `y`, both as wide as their stream.
fn add_experts(
    pass: &Pass,
    spec: &MoeSpec,
    weights: &MoeWeights<Linear, Vec<f32>>,
    x: &[f32],
    input: &mut Activations,
    scratch: &mut FeedForwardScratch,
    y: &mut [f32],
) {
    let FeedForwardScratch { moe: scratch, dense: dense_scratch } = scratch;
    let width = x.len() / pass.n_tokens;
    // Each expert runs once, over all tokens that it got.
    for routes in scratch.routes.chunk_by(|a, b| a.expert == b.expert) {
        let len = routes.len() * width;
        let (expert_x, expert_y) = (sized(&mut scratch.x, len), sized(&mut scratch.y, len));
        for (route, row) in routes.iter().zip(expert_x.chunks_exact_mut(width)) {
            row.copy_from_slice(&x[route.token * width..][..width]);
        }
        let expert = &weights.experts[routes[0].expert];
        dense::dense(pass, &spec.expert, expert, expert_x, input, dense_scratch, expert_y);
        for (route, row) in routes.iter().zip(expert_y.chunks_exact(width)) {
            let sum = &mut y[route.token * width..][..width];
            ops::add_scaled(pass.compute.isa, sum, row, route.weight);
        }
    }
}
