//! Mixtures of experts, read from a configuration.

use super::fields::{Fields, Key, keys};
use super::parts::{DenseRule, MAX_LAYERS, MAX_WIDTH, dense, dense_of, listed_blocks};
use super::recurrent::{Kind, is_nth, pattern_kind};
use crate::error::Result;
use crate::spec::{FeedForwardSpec, MoeSpec, Routing};

const MAX_EXPERTS: usize = 1 << 12;

pub(super) const N_GROUPS: Key = Key { hf: "n_group", gguf: "expert_group_count" };
pub(super) const N_ACTIVE_GROUPS: Key = Key { hf: "topk_group", gguf: "expert_group_used_count" };
pub(super) const SCALE: Key = Key { hf: "routed_scaling_factor", gguf: "expert_weights_scale" };
pub(super) const RENORMALIZE: Key = Key { hf: "norm_topk_prob", gguf: "expert_weights_norm" };

/// Experts (Qwen3-MoE) in the blocks that have them, a dense network in the others.
pub(super) fn moe_or_dense(fields: &Fields, block: usize, rule: &DenseRule) -> Result<FeedForwardSpec> {
    let n_experts = match fields.opt_usize(keys::N_EXPERTS)? {
        None => fields.opt_usize(keys::N_EXPERTS_BY_OLD_NAME)?,
        n_experts => n_experts,
    };
    let n_experts = n_experts.unwrap_or(0);
    if n_experts == 0 || !has_experts(fields, block)? {
        return dense(fields, block, rule);
    }
    let n_experts = at_most(fields, keys::N_EXPERTS, n_experts)?;
    let intermediate_size = fields.size(keys::MOE_INTERMEDIATE_SIZE, MAX_WIDTH)?;
    Ok(FeedForwardSpec::Moe(MoeSpec {
        n_experts,
        n_active: fields.size(keys::N_ACTIVE_EXPERTS, n_experts)?,
        // GGUF files do not say; the models there are all renormalise. The class's default is false.
        routing: Routing::Softmax { renormalize: fields.flag("norm_topk_prob", fields.hf().is_none())? },
        expert: dense_of(fields, block, rule, intermediate_size)?,
        shared: None,
        shared_gate: false,
    }))
}

/// As [`moe_or_dense`], the experts beside a gated network that all positions use (Qwen3-Next).
pub(super) fn moe_beside_gated(fields: &Fields, block: usize, rule: &DenseRule) -> Result<FeedForwardSpec> {
    const SHARED: Key = Key { hf: "shared_expert_intermediate_size", ..keys::SHARED_INTERMEDIATE_SIZE };
    Ok(match moe_or_dense(fields, block, rule)? {
        FeedForwardSpec::Moe(moe) => {
            let shared = dense_of(fields, block, rule, fields.size(SHARED, MAX_WIDTH)?)?;
            FeedForwardSpec::Moe(MoeSpec { shared: Some(shared), shared_gate: true, ..moe })
        }
        other => other,
    })
}

fn has_experts(fields: &Fields, block: usize) -> Result<bool> {
    const SPARSE_STEP: Key = Key { hf: "decoder_sparse_step", gguf: "" };
    if fields.hf().is_none() {
        return Ok(fields.has_tensor(&format!("blk.{block}.ffn_gate_inp.weight")));
    }
    let step = fields.opt_size(SPARSE_STEP, MAX_LAYERS)?.unwrap_or(1);
    let dense_blocks = listed_blocks(fields, "mlp_only_layers")?.unwrap_or_default();
    Ok((block + 1).is_multiple_of(step) && !dense_blocks.contains(&block))
}

/// Experts by the softmax of the chosen, beside a network that all positions use, or that network alone (Granite).
pub(super) fn granite_experts(fields: &Fields, block: usize, rule: &DenseRule) -> Result<FeedForwardSpec> {
    let n_experts = fields.opt_usize(keys::N_EXPERTS_BY_OLD_NAME)?.unwrap_or(0);
    if n_experts == 0 && fields.hf().is_none() {
        return dense(fields, block, rule);
    }
    let shared = fields.size(keys::SHARED_INTERMEDIATE_SIZE, MAX_WIDTH)?;
    let shared = dense_of(fields, block, rule, shared)?;
    if n_experts == 0 {
        return Ok(FeedForwardSpec::Dense(shared));
    }
    let n_experts = at_most(fields, keys::N_EXPERTS_BY_OLD_NAME, n_experts)?;
    Ok(FeedForwardSpec::Moe(MoeSpec {
        n_experts,
        n_active: fields.size(keys::N_ACTIVE_EXPERTS, n_experts)?,
        routing: Routing::SoftmaxOfChosen,
        expert: dense_of(fields, block, rule, fields.size(keys::INTERMEDIATE_SIZE, MAX_WIDTH)?)?,
        shared: Some(shared),
        shared_gate: false,
    }))
}

/// Blocks that are nothing but a network, of experts or of one (Nemotron-H).
pub(super) fn nemotron_feed_forward(
    fields: &Fields,
    block: usize,
    rule: &DenseRule,
) -> Result<FeedForwardSpec> {
    const N_EXPERTS: Key = Key { hf: "n_routed_experts", gguf: "expert_count" };
    const SHARED: Key = Key { hf: "moe_shared_expert_intermediate_size", ..keys::SHARED_INTERMEDIATE_SIZE };
    const LATENT: Key = Key { hf: "moe_latent_size", gguf: "" };
    match pattern_kind(fields, block)? {
        Kind::FeedForward { has_experts: false } => return dense(fields, block, rule),
        Kind::FeedForward { has_experts: true } => {}
        Kind::Attention | Kind::Recurrent => return Ok(FeedForwardSpec::None),
    }
    if let Some(size) = fields.opt_usize(LATENT)? {
        return Err(fields.wrong(LATENT, "none: experts on a narrower stream are not supported", size));
    }
    let n_experts = fields.size(N_EXPERTS, MAX_EXPERTS)?;
    let n_groups = fields.opt_size(N_GROUPS, n_experts)?.unwrap_or(1);
    if !n_experts.is_multiple_of(n_groups) {
        return Err(fields.wrong(N_GROUPS, format!("a divisor of the {n_experts} experts"), n_groups));
    }
    let n_active_groups = fields.opt_size(N_ACTIVE_GROUPS, n_groups)?.unwrap_or(n_groups);
    let shared = fields.opt_usize(SHARED)?.filter(|width| *width > 0);
    let shared =
        shared.map(|_| dense_of(fields, block, rule, fields.size(SHARED, MAX_WIDTH)?)).transpose()?;
    Ok(FeedForwardSpec::Moe(MoeSpec {
        n_experts,
        n_active: fields.size(keys::N_ACTIVE_EXPERTS, n_experts / n_groups * n_active_groups)?,
        routing: Routing::Sigmoid {
            n_groups,
            n_active_groups,
            renormalize: fields.flag_of(RENORMALIZE, true)?,
            scale: fields.opt_factor(SCALE)?.unwrap_or(1.0) as f32,
        },
        expert: dense_of(fields, block, rule, fields.size(keys::MOE_INTERMEDIATE_SIZE, MAX_WIDTH)?)?,
        shared,
        shared_gate: false,
    }))
}

/// Experts by softmax in every so many-th block, one network in the others (Jamba).
pub(super) fn experts_in_every(fields: &Fields, block: usize, rule: &DenseRule) -> Result<FeedForwardSpec> {
    const PERIOD: Key = Key { hf: "expert_layer_period", gguf: "" };
    const OFFSET: Key = Key { hf: "expert_layer_offset", gguf: "" };
    let is_dense = match fields.hf() {
        Some(_) => fields.size(keys::N_EXPERTS, MAX_EXPERTS)? == 1 || !is_nth(fields, block, PERIOD, OFFSET)?,
        None => !has_experts(fields, block)?,
    };
    if is_dense {
        return dense(fields, block, rule);
    }
    let n_experts = fields.size(keys::N_EXPERTS, MAX_EXPERTS)?;
    Ok(FeedForwardSpec::Moe(MoeSpec {
        n_experts,
        n_active: fields.size(keys::N_ACTIVE_EXPERTS, n_experts)?,
        routing: Routing::Softmax { renormalize: false },
        expert: dense_of(fields, block, rule, fields.size(keys::INTERMEDIATE_SIZE, MAX_WIDTH)?)?,
        shared: None,
        shared_gate: false,
    }))
}

fn at_most(fields: &Fields, key: Key, n_experts: usize) -> Result<usize> {
    match n_experts <= MAX_EXPERTS {
        true => Ok(n_experts),
        false => Err(fields.wrong(key, format!("at most {MAX_EXPERTS}"), n_experts)),
    }
}
