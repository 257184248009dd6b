//! Mixtures of experts, read from a configuration.

use super::fields::{Fields, Key, keys};
use super::parts::{Bias, DenseRule, MAX_LAYERS, MAX_WIDTH, dense, dense_of, listed_blocks};
use super::recurrent::{Kind, is_nth, pattern_kind};
use crate::error::{ModelError, Result};
use crate::spec::{DenseSpec, FeedForwardSpec, LatentSpec, MoeSpec, Routing};

const MAX_EXPERTS: usize = 1 << 12;

pub(super) const N_GROUPS: Key = Key { hf: "n_group", gguf: "expert_group_count" };
pub(super) const N_ACTIVE_GROUPS: Key = Key { hf: "topk_group", gguf: "expert_group_used_count" };
pub(super) const SCALE: Key = Key { hf: "routed_scaling_factor", gguf: "expert_weights_scale" };
/// Blocks before the first with experts.
pub(super) const N_DENSE: Key = Key { hf: "num_dense_layers", gguf: "leading_dense_block_count" };
/// Width of the stream that experts work on, where they have one of their own.
pub(super) const LATENT: Key = Key { hf: "moe_latent_size", gguf: "moe_latent_size" };
pub(super) const RENORMALIZE: Key = Key { hf: "norm_topk_prob", gguf: "expert_weights_norm" };

/// Experts (Qwen3-MoE) in the blocks that have them, a dense network in the others.
pub(super) fn moe_or_dense(fields: &Fields, block: usize, rule: &DenseRule) -> Result<FeedForwardSpec> {
    // GGUF files do not say; the models there are all renormalise. The class's default is false.
    softmax_or_dense(fields, block, rule, fields.hf().is_none())
}

/// Experts by softmax, whose weights are renormalised if the configuration says so, or if it does not and `renormalizes` is
/// set.
fn softmax_or_dense(
    fields: &Fields,
    block: usize,
    rule: &DenseRule,
    renormalizes: bool,
) -> Result<FeedForwardSpec> {
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
        routing: Routing::Softmax { renormalize: fields.flag("norm_topk_prob", renormalizes)? },
        expert: dense_of(fields, block, rule, intermediate_size)?,
        shared: None,
        shared_gate: false,
        latent: None,
    }))
}

/// As [`moe_or_dense`], the experts beside a gated network that all positions use (Qwen3-Next).
pub(super) fn moe_beside_gated(fields: &Fields, block: usize, rule: &DenseRule) -> Result<FeedForwardSpec> {
    const SHARED: Key = Key { hf: "shared_expert_intermediate_size", ..keys::SHARED_INTERMEDIATE_SIZE };
    Ok(match softmax_or_dense(fields, block, rule, true)? {
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
    if n_experts == 0 {
        let width = fields.size(keys::SHARED_INTERMEDIATE_SIZE, MAX_WIDTH)?;
        return dense_of(fields, block, rule, width).map(FeedForwardSpec::Dense);
    }
    let n_experts = at_most(fields, keys::N_EXPERTS_BY_OLD_NAME, n_experts)?;
    Ok(FeedForwardSpec::Moe(MoeSpec {
        n_experts,
        n_active: fields.size(keys::N_ACTIVE_EXPERTS, n_experts)?,
        routing: Routing::SoftmaxOfChosen,
        expert: dense_of(fields, block, rule, fields.size(keys::INTERMEDIATE_SIZE, MAX_WIDTH)?)?,
        shared: shared(fields, block, rule, keys::SHARED_INTERMEDIATE_SIZE)?,
        shared_gate: false,
        latent: None,
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
    match pattern_kind(fields, block)? {
        Kind::FeedForward { has_experts: false } => return dense(fields, block, rule),
        Kind::FeedForward { has_experts: true } => {}
        Kind::Attention | Kind::Recurrent => return Ok(FeedForwardSpec::None),
    }
    let n_experts = fields.size(N_EXPERTS, MAX_EXPERTS)?;
    let n_groups = fields.opt_size(N_GROUPS, n_experts)?.unwrap_or(1);
    if !n_experts.is_multiple_of(n_groups) {
        return Err(fields.wrong(N_GROUPS, format!("a divisor of the {n_experts} experts"), n_groups));
    }
    let n_active_groups = fields.opt_size(N_ACTIVE_GROUPS, n_groups)?.unwrap_or(n_groups);
    let latent = |size| {
        let bias = rule.bias.is_there(fields, &format!("blk.{block}.ffn_latent_down.bias"))?;
        Ok::<_, ModelError>(LatentSpec { size, bias })
    };
    Ok(FeedForwardSpec::Moe(MoeSpec {
        n_experts,
        n_active: fields.size(keys::N_ACTIVE_EXPERTS, n_experts / n_groups * n_active_groups)?,
        routing: Routing::Sigmoid {
            biased: true,
            n_groups,
            n_active_groups,
            renormalize: fields.flag_of(RENORMALIZE, true)?,
            scale: fields.opt_factor(SCALE)?.unwrap_or(1.0) as f32,
        },
        expert: unbiased(fields, block, rule)?,
        shared: shared(fields, block, rule, SHARED)?,
        shared_gate: false,
        latent: fields.opt_size(LATENT, MAX_WIDTH)?.map(latent).transpose()?,
    }))
}

/// An expert of its own width, without biases whatever other networks have.
fn unbiased(fields: &Fields, block: usize, rule: &DenseRule) -> Result<DenseSpec> {
    let width = fields.size(keys::MOE_INTERMEDIATE_SIZE, MAX_WIDTH)?;
    Ok(DenseSpec { bias: false, ..dense_of(fields, block, rule, width)? })
}

/// The network that all positions use besides, if `key` gives it a width.
fn shared(fields: &Fields, block: usize, rule: &DenseRule, key: Key) -> Result<Option<DenseSpec>> {
    if fields.opt_usize(key)?.is_none_or(|width| width == 0) {
        return Ok(None);
    }
    let bias = rule.bias.is_there(fields, &format!("blk.{block}.ffn_up_shexp.bias"))?;
    Ok(Some(DenseSpec { bias, ..dense_of(fields, block, rule, fields.size(key, MAX_WIDTH)?)? }))
}

/// One network in the first blocks, experts by sigmoid in the others (LFM2).
pub(super) fn experts_after_dense(
    fields: &Fields,
    block: usize,
    rule: &DenseRule,
) -> Result<FeedForwardSpec> {
    let is_dense = match fields.hf() {
        Some(_) => block < fields.opt_usize(N_DENSE)?.unwrap_or(0),
        None => !has_experts(fields, block)?,
    };
    if is_dense {
        return dense(fields, block, rule);
    }
    let n_experts = fields.size(keys::N_EXPERTS, MAX_EXPERTS)?;
    Ok(FeedForwardSpec::Moe(MoeSpec {
        n_experts,
        n_active: fields.size(keys::N_ACTIVE_EXPERTS, n_experts)?,
        routing: Routing::Sigmoid {
            biased: Bias::ByDefault("use_expert_bias")
                .is_there(fields, &format!("blk.{block}.exp_probs_b.bias"))?,
            n_groups: 1,
            n_active_groups: 1,
            renormalize: fields.flag_of(RENORMALIZE, true)?,
            scale: fields.opt_factor(SCALE)?.unwrap_or(1.0) as f32,
        },
        expert: unbiased(fields, block, rule)?,
        shared: None,
        shared_gate: false,
        latent: None,
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
        latent: None,
    }))
}

fn at_most(fields: &Fields, key: Key, n_experts: usize) -> Result<usize> {
    match n_experts <= MAX_EXPERTS {
        true => Ok(n_experts),
        false => Err(fields.wrong(key, format!("at most {MAX_EXPERTS}"), n_experts)),
    }
}
