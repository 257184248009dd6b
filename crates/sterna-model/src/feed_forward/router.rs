//! Who goes where in a mixture of experts.

use sterna_tensor::{Compute, ops};

use crate::rows;
use crate::spec::{MoeSpec, Routing};

/// A token that an expert works on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) expert: usize,
    pub(super) token: usize,
    /// Of what the expert makes of it.
    pub(super) weight: f32,
}

/// Memory that routes are found in.
#[derive(Debug, Default)]
pub(super) struct Router {
    /// What experts are chosen by, `[n_experts]`.
    choice: Vec<f32>,
    /// What groups of experts are chosen by.
    groups: Vec<f32>,
    /// Experts, or groups of them, best first.
    order: Vec<usize>,
}

impl Router {
    /// Turns router logits `scores` `[n, n_experts]` into `routes`, sorted by expert.
    pub(super) fn route(
        &mut self,
        c: &Compute,
        spec: &MoeSpec,
        bias: Option<&[f32]>,
        scores: &mut [f32],
        routes: &mut Vec<Route>,
    ) {
        routes.clear();
        for (token, scores) in scores.chunks_exact_mut(spec.n_experts).enumerate() {
            self.choose(c, spec, bias, scores);
            let chosen = &self.order[..spec.n_active];
            let total: f32 = chosen.iter().map(|expert| scores[*expert]).sum();
            let factor = match spec.routing {
                Routing::Softmax { renormalize: false } => 1.0,
                Routing::Softmax { renormalize: true } | Routing::SoftmaxOfChosen => 1.0 / total,
                Routing::Sigmoid { renormalize: false, scale, .. } => scale,
                Routing::Sigmoid { renormalize: true, scale, .. } => scale / (total + 1e-20),
            };
            let route = |&expert: &usize| Route { expert, token, weight: scores[expert] * factor };
            routes.extend(chosen.iter().map(route));
        }
        routes.sort_unstable_by_key(|route| (route.expert, route.token));
    }

    /// Turns logits into scores, and puts the experts into `order`.
    fn choose(&mut self, c: &Compute, spec: &MoeSpec, bias: Option<&[f32]>, scores: &mut [f32]) {
        match spec.routing {
            // Scaled to a sum of one, the softmax of the chosen is a part of that of all.
            Routing::Softmax { .. } | Routing::SoftmaxOfChosen => ops::softmax(c.isa, scores),
            Routing::Sigmoid { .. } => scores.iter_mut().for_each(|score| *score = rows::sigmoid(*score)),
        }
        self.choice.clear();
        self.choice.extend_from_slice(scores);
        if let Some(bias) = bias {
            ops::add_assign(c.isa, &mut self.choice, bias);
        }
        if let Routing::Sigmoid { n_groups, n_active_groups, .. } = spec.routing {
            self.keep_groups(n_groups, n_active_groups);
        }
        best_first(&self.choice, &mut self.order);
    }

    /// Leaves only experts of the best groups to be chosen.
    fn keep_groups(&mut self, n_groups: usize, n_active_groups: usize) {
        if n_active_groups >= n_groups {
            return;
        }
        let size = self.choice.len() / n_groups;
        let two_best = |group: &[f32]| {
            let mut best = [f32::NEG_INFINITY; 2];
            for &score in group {
                if score > best[0] {
                    best = [score, best[0]];
                } else if score > best[1] {
                    best[1] = score;
                }
            }
            best[0] + best[1]
        };
        self.groups.clear();
        self.groups.extend(self.choice.chunks_exact(size).map(two_best));
        best_first(&self.groups, &mut self.order);
        for &group in &self.order[n_active_groups..] {
            self.choice[group * size..][..size].fill(f32::NEG_INFINITY);
        }
    }
}

/// The indices of `scores`, the best first; of equal ones the lower.
fn best_first(scores: &[f32], order: &mut Vec<usize>) {
    order.clear();
    order.extend(0..scores.len());
    order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
}
