//! The tensors of feed-forward networks.

use std::ops::Range;

use super::{Finder, Leaves, Linear, Vector};
use crate::arch::names::{Names, Role};
use crate::error::Result;
use crate::spec::{DenseSpec, FeedForwardSpec, LatentSpec, MoeSpec, Routing};
use crate::weights::{DenseWeights, FeedForwardWeights, MoeWeights};

impl<L: Leaves> Finder<'_, L> {
    pub(super) fn feed_forward(
        &self,
        spec: &FeedForwardSpec,
    ) -> Result<FeedForwardWeights<Linear<L>, Vector<L>>> {
        Ok(match spec {
            FeedForwardSpec::None => FeedForwardWeights::None,
            FeedForwardSpec::Dense(spec) => FeedForwardWeights::Dense(self.dense(spec)?),
            FeedForwardSpec::Moe(spec) => FeedForwardWeights::Moe(self.moe(spec)?),
        })
    }

    pub(super) fn dense(&self, spec: &DenseSpec) -> Result<DenseWeights<Linear<L>, Vector<L>>> {
        self.network(spec, |role| role)
    }

    /// A network whose tensors are those of the `roles` that Gate, Up, GateUp and Down become.
    fn network(
        &self,
        spec: &DenseSpec,
        roles: impl Fn(Role) -> Role,
    ) -> Result<DenseWeights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        let width = spec.intermediate_size;
        let (gate, up, down) = (roles(Role::Gate), roles(Role::Up), roles(Role::Down));
        let (gate, up) = match spec.gated {
            true => {
                let mut parts = self.parts(gate, roles(Role::GateUp), 2 * width, hidden_size, spec.bias)?;
                (Some(parts.take(gate, width)?), parts.take(up, width)?)
            }
            false => (None, self.projection(up, width, hidden_size, spec.bias)?),
        };
        Ok(DenseWeights {
            gate: gate.map(|gate| self.leaves.linear(gate)).transpose()?,
            up: self.leaves.linear(up)?,
            down: self.linear(down, hidden_size, width, spec.bias)?,
            sub_norm: self.norm_if(spec.sub_norm, Role::FeedForwardSubNorm, width)?,
        })
    }

    fn moe(&self, spec: &MoeSpec) -> Result<MoeWeights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        let has_bias = matches!(spec.routing, Routing::Sigmoid { biased: true, .. });
        let (shared, latent) = (spec.shared.as_ref(), spec.latent.as_ref());
        let latent_in =
            |latent: &LatentSpec| self.linear(Role::LatentIn, latent.size, hidden_size, latent.bias);
        let latent_out =
            |latent: &LatentSpec| self.linear(Role::LatentOut, hidden_size, latent.size, latent.bias);
        Ok(MoeWeights {
            router: self.float(self.name(Role::Router), spec.n_experts, hidden_size)?,
            router_bias: self.vector_if(has_bias, Role::RouterBias, spec.n_experts)?,
            latent_in: latent.map(latent_in).transpose()?,
            experts: (0..spec.n_experts).map(|e| self.expert(spec, e)).collect::<Result<_>>()?,
            latent_out: latent.map(latent_out).transpose()?,
            shared: shared.map(|shared| self.network(shared, Role::of_shared_expert)).transpose()?,
            shared_gate: match spec.shared_gate {
                true => Some(self.float(self.name(Role::SharedExpertGate), 1, hidden_size)?),
                false => None,
            },
        })
    }

    fn expert(&self, spec: &MoeSpec, e: usize) -> Result<DenseWeights<Linear<L>, Vector<L>>> {
        let stream = spec.latent.as_ref().map_or(self.spec().hidden_size, |latent| latent.size);
        let width = spec.expert.intermediate_size;
        let matrix = |role, rows, cols, of_rows: Range<usize>| {
            let (name, is_stack) = self.reading.names.of_expert(role, self.block, e);
            let weight = match is_stack {
                true => self.find(&name, &[spec.n_experts, rows, cols])?.at(e)?,
                false => self.weight(&name, rows, cols)?,
            };
            let scale = if is_stack { None } else { self.scale(&name)? };
            let weight = if of_rows == (0..rows) { weight } else { weight.rows(of_rows.clone())? };
            self.leaves.linear(self.stored(weight, of_rows.len(), cols, None, scale))
        };
        let whole = |role, rows, cols| matrix(role, rows, cols, 0..rows);
        let up_name = self.reading.names.of_expert(Role::ExpertUp, self.block, e).0;
        // Native files have no tensors of several.
        let is_fused =
            !matches!(self.reading.names, Names::Native) && self.checkpoint.get(&up_name).is_none();
        let (gate, up) = match spec.expert.gated {
            false => (None, whole(Role::ExpertUp, width, stream)?),
            true if is_fused => (
                Some(matrix(Role::ExpertGateUp, 2 * width, stream, 0..width)?),
                matrix(Role::ExpertGateUp, 2 * width, stream, width..2 * width)?,
            ),
            true => (Some(whole(Role::ExpertGate, width, stream)?), whole(Role::ExpertUp, width, stream)?),
        };
        Ok(DenseWeights { gate, up, down: whole(Role::ExpertDown, stream, width)?, sub_norm: None })
    }
}
