//! Recurrent mixers, read from a configuration, and which blocks have them.

use super::Architecture;
use super::fields::{Fields, Key, Source, keys};
use super::names::Role;
use super::parts::{
    Bias, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, attention, dense_of, listed_blocks, word_of_block,
    words_of_blocks, wrong_word,
};
use super::scales::{mamba2_scales, multiplier};
use crate::error::Result;
use crate::spec::{
    GatedDeltaSpec, InnerNorms, Mamba1Spec, Mamba2Gate, Mamba2Spec, MixerSpec, ParallelSpec, SharedSpec,
    ShortConvSpec,
};

/// What a family calls the sizes of Mamba-2, and how it is built.
pub(super) struct Mamba2Rule {
    pub(super) n_heads: Key,
    /// Width of a head. Without it heads share the width of all: `inner_size`, or `expand` times that of the stream.
    pub(super) head_dim: &'static str,
    pub(super) inner_size: &'static str,
    pub(super) expand: &'static str,
    pub(super) n_groups: Key,
    pub(super) state_size: Key,
    pub(super) conv_kernel: Key,
    pub(super) conv_bias: Bias,
    pub(super) in_bias: Bias,
    pub(super) out_bias: Bias,
    /// What names the non-linearity after the convolution.
    pub(super) activation: &'static str,
    /// Epsilon of the norm, if it is not that of the others.
    pub(super) norm_eps: Option<f32>,
    pub(super) gate: fn(&Fields, usize) -> Result<Mamba2Gate>,
}

/// Bamba, and those that took its words.
pub(super) const BAMBA: Mamba2Rule = Mamba2Rule {
    n_heads: Key { hf: "mamba_n_heads", gguf: "ssm.time_step_rank" },
    head_dim: "mamba_d_head",
    inner_size: "",
    expand: "mamba_expand",
    n_groups: Key { hf: "mamba_n_groups", gguf: "ssm.group_count" },
    state_size: Key { hf: "mamba_d_state", gguf: "ssm.state_size" },
    conv_kernel: Key { hf: "mamba_d_conv", gguf: "ssm.conv_kernel" },
    conv_bias: Bias::ByDefault("mamba_conv_bias"),
    in_bias: Bias::If("mamba_proj_bias"),
    out_bias: Bias::If("mamba_proj_bias"),
    activation: "hidden_act",
    norm_eps: None,
    gate: |_, _| Ok(Mamba2Gate::ThenNorm),
};

/// Mamba-2 by itself.
pub(super) const MAMBA2: Mamba2Rule = Mamba2Rule {
    n_heads: Key { hf: "num_heads", ..BAMBA.n_heads },
    head_dim: "head_dim",
    expand: "expand",
    n_groups: Key { hf: "n_groups", ..BAMBA.n_groups },
    state_size: Key { hf: "state_size", ..BAMBA.state_size },
    conv_kernel: Key { hf: "conv_kernel", ..BAMBA.conv_kernel },
    conv_bias: Bias::ByDefault("use_conv_bias"),
    in_bias: Bias::If("use_bias"),
    out_bias: Bias::If("use_bias"),
    ..BAMBA
};

/// Nemotron-H, which has heads of attention too.
pub(super) const NEMOTRON: Mamba2Rule = Mamba2Rule {
    n_heads: Key { hf: "mamba_num_heads", ..BAMBA.n_heads },
    head_dim: "mamba_head_dim",
    state_size: Key { hf: "ssm_state_size", ..BAMBA.state_size },
    activation: "mamba_hidden_act",
    ..MAMBA2
};

/// What a family calls the sizes of Mamba-1, and how it is built.
pub(super) struct Mamba1Rule {
    pub(super) inner_size: Key,
    pub(super) expand: &'static str,
    pub(super) state_size: Key,
    pub(super) dt_rank: Key,
    pub(super) conv_kernel: Key,
    pub(super) conv_bias: Bias,
    pub(super) proj_bias: Bias,
    pub(super) inner_norms: fn(&Fields) -> Result<InnerNorms>,
}

/// Mamba-1 by itself.
pub(super) const MAMBA1: Mamba1Rule = Mamba1Rule {
    inner_size: Key { hf: "intermediate_size", ..INNER_SIZE },
    expand: "expand",
    state_size: MAMBA2.state_size,
    dt_rank: Key { hf: "time_step_rank", ..BAMBA.n_heads },
    conv_kernel: MAMBA2.conv_kernel,
    conv_bias: MAMBA2.conv_bias,
    proj_bias: MAMBA2.in_bias,
    inner_norms: bare_norms_if_said,
};

/// That of Falcon-Mamba.
pub(super) const FALCON_MAMBA: Mamba1Rule = Mamba1Rule { inner_norms: bare_norms, ..MAMBA1 };

/// That of Jamba, whose `intermediate_size` is that of its networks.
pub(super) const JAMBA: Mamba1Rule = Mamba1Rule {
    inner_size: Key { hf: "", ..MAMBA1.inner_size },
    expand: "mamba_expand",
    state_size: BAMBA.state_size,
    dt_rank: Key { hf: "mamba_dt_rank", ..MAMBA1.dt_rank },
    conv_kernel: BAMBA.conv_kernel,
    conv_bias: BAMBA.conv_bias,
    proj_bias: BAMBA.in_bias,
    inner_norms: |_| Ok(InnerNorms::Weighted),
};

/// Norms without weights (Falcon-Mamba).
fn bare_norms(fields: &Fields) -> Result<InnerNorms> {
    const EPS: Key = Key { hf: "mixer_rms_eps", gguf: "" };
    Ok(InnerNorms::Bare { eps: fields.opt_norm_eps(EPS)?.unwrap_or(1e-6) })
}

/// GGUF files call Falcon-Mamba mamba too, and say that it has norms; their epsilon is that of the others.
fn bare_norms_if_said(fields: &Fields) -> Result<InnerNorms> {
    let eps = match fields.flag_of(BARE_NORMS, false)? {
        true => fields.opt_norm_eps(keys::NORM_EPS)?,
        false => None,
    };
    Ok(eps.map_or(InnerNorms::None, |eps| InnerNorms::Bare { eps }))
}

/// Whether time steps, `B` and `C` are normed without weights.
pub(super) const BARE_NORMS: Key = Key { hf: "", gguf: "ssm.dt_b_c_rms" };

/// Mamba-1 as block `block` has it.
pub(super) fn mamba1(fields: &Fields, block: usize, rule: &Mamba1Rule) -> Result<Mamba1Spec> {
    let hidden_size = fields.size(keys::HIDDEN_SIZE, MAX_WIDTH)?;
    let inner_size = match fields.opt_size(rule.inner_size, MAX_WIDTH)? {
        Some(inner_size) => inner_size,
        None => fields.opt_size(Key { hf: rule.expand, gguf: "" }, 64)?.unwrap_or(2) * hidden_size,
    };
    let dt_rank = match is_auto(fields, rule.dt_rank) {
        true => None,
        false => fields.opt_size(rule.dt_rank, MAX_WIDTH)?,
    };
    only_silu(fields, ACTIVATION)?;
    Ok(Mamba1Spec {
        inner_size,
        state_size: fields.size(rule.state_size, MAX_HEADS)?,
        dt_rank: dt_rank.unwrap_or(hidden_size.div_ceil(16)),
        conv_kernel: fields.size(rule.conv_kernel, MAX_TAPS)?,
        conv_bias: rule.conv_bias.is_there(fields, &format!("blk.{block}.ssm_conv1d.bias"))?,
        proj_bias: rule.proj_bias.is_there(fields, &format!("blk.{block}.ssm_out.bias"))?,
        inner_norms: (rule.inner_norms)(fields)?,
    })
}

/// Whether a number is given as "auto", which is what it is without it.
fn is_auto(fields: &Fields, key: Key) -> bool {
    fields.hf().is_some_and(|view| matches!(view.opt_str(key.hf), Ok(Some("auto"))))
}

/// What names the non-linearity of a whole network.
const ACTIVATION: &str = "hidden_act";

/// Refuses another non-linearity than SiLU after a convolution; no published network has one.
fn only_silu(fields: &Fields, name: &'static str) -> Result<()> {
    let Some(view) = fields.hf() else { return Ok(()) };
    match view.opt_str(name)? {
        None | Some("silu" | "swish") => Ok(()),
        Some(_) => Err(view.wrong(name, "silu, which follows the convolution of a recurrence").into()),
    }
}

/// Every block has Mamba-1.
pub(super) fn mamba1_everywhere(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    mamba1(fields, block, &row.mamba1).map(MixerSpec::Mamba1)
}

/// Attention in every so many-th block, Mamba-1 in the others (Jamba).
pub(super) fn mamba1_but_in_every(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    const PERIOD: Key = Key { hf: "attn_layer_period", gguf: "" };
    const OFFSET: Key = Key { hf: "attn_layer_offset", gguf: "" };
    let is_attention = match gguf_kind(fields, block)? {
        None if fields.hf().is_none() => {
            return Err(fields.wrong(keys::N_KV_HEADS, "a number for each block", "nothing"));
        }
        None => is_nth(fields, block, PERIOD, OFFSET)?,
        Some(kind) => kind == Kind::Attention,
    };
    match is_attention {
        true => attention(fields, block, &row.attention).map(MixerSpec::Attention),
        false => mamba1_everywhere(fields, block, row),
    }
}

/// Whether `block` is one of those that come once in a period.
pub(super) fn is_nth(fields: &Fields, block: usize, period: Key, offset: Key) -> Result<bool> {
    let period = fields.size(period, MAX_LAYERS)?;
    Ok(block % period == fields.opt_usize(offset)?.unwrap_or(0))
}

/// Attention where `layer_types` or `full_attn_idxs` say so, short convolutions in the other blocks (LFM2).
pub(super) fn short_conv_unless_listed(
    fields: &Fields,
    block: usize,
    row: &Architecture,
) -> Result<MixerSpec> {
    let is_attention = match kind_of(fields, "layer_types", block)? {
        Some(kind) => kind == Kind::Attention,
        None => listed_blocks(fields, "full_attn_idxs")?.is_none_or(|listed| listed.contains(&block)),
    };
    if is_attention {
        return attention(fields, block, &row.attention).map(MixerSpec::Attention);
    }
    Ok(MixerSpec::ShortConv(ShortConvSpec {
        width: fields.size(keys::HIDDEN_SIZE, MAX_WIDTH)?,
        conv_kernel: fields.size(SHORT_CONV_KERNEL, MAX_TAPS)?,
        bias: Bias::If("conv_bias").is_there(fields, &format!("blk.{block}.shortconv.conv.bias"))?,
    }))
}

/// Falcon-H1, which may norm before the gate, or not at all.
pub(super) const FALCON: Mamba2Rule = Mamba2Rule {
    inner_size: "mamba_d_ssm",
    out_bias: Bias::If("projectors_bias"),
    gate: falcon_gate,
    ..BAMBA
};

/// In GGUF files the first block's tensor says whether there is a norm; it is always after the gate.
fn falcon_gate(fields: &Fields, _: usize) -> Result<Mamba2Gate> {
    let Some(_) = fields.hf() else {
        return Ok(match fields.has_tensor("blk.0.ssm_norm.weight") {
            false => Mamba2Gate::Alone,
            true => Mamba2Gate::ThenNorm,
        });
    };
    let is_before_gate = fields.flag("mamba_norm_before_gate", true)?;
    Ok(match (fields.flag("mamba_rms_norm", false)?, is_before_gate) {
        (false, _) => Mamba2Gate::Alone,
        (true, true) => Mamba2Gate::AfterNorm,
        (true, false) => Mamba2Gate::ThenNorm,
    })
}

/// That of Zamba2.
pub(super) const ZAMBA: Mamba2Rule = Mamba2Rule {
    n_heads: Key { hf: "n_mamba_heads", ..BAMBA.n_heads },
    head_dim: "mamba_headdim",
    n_groups: Key { hf: "mamba_ngroups", ..BAMBA.n_groups },
    // Whatever `use_conv_bias` says.
    conv_bias: Bias::Always,
    in_bias: Bias::If("add_bias_linear"),
    out_bias: Bias::If("add_bias_linear"),
    activation: "",
    norm_eps: Some(1e-5),
    ..BAMBA
};

/// Mamba-2, behind one of a few transformers in turn where the block is a hybrid one (Zamba2).
pub(super) fn mamba2_behind_shared(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    const N_TRANSFORMERS: Key = Key { hf: "num_mem_blocks", gguf: "" };
    const RANK: Key = Key { hf: "adapter_rank", gguf: "" };
    let mamba = mamba2(fields, block, &row.mamba2)?;
    let hybrids = hybrid_blocks(fields)?;
    let Some(turn) = hybrids.iter().position(|hybrid| *hybrid == block) else {
        return Ok(MixerSpec::Mamba2(mamba));
    };
    let width = fields.size_of_block(keys::INTERMEDIATE_SIZE, block, MAX_WIDTH)?;
    let of_its_own = row.names_in(fields).of(Role::TransformerNorm, block);
    let of_its_own = fields.has_tensor(&of_its_own.replace("{owner}", &block.to_string()));
    let in_turn = hybrids[turn % fields.size(N_TRANSFORMERS, MAX_LAYERS)?];
    Ok(MixerSpec::Shared(SharedSpec {
        // Where nothing is tied, all of them have weights in the file.
        owner: if of_its_own { block } else { in_turn },
        attention: attention(fields, block, &row.attention)?,
        feed_forward: dense_of(fields, block, &row.dense, width)?,
        adapter_rank: fields.size(RANK, MAX_WIDTH)?,
        adapts_attention: fields.flag("use_shared_attention_adapter", false)?,
        mamba,
    }))
}

/// The blocks that have a transformer, in order.
fn hybrid_blocks(fields: &Fields) -> Result<Vec<usize>> {
    const KINDS: &str = "layers_block_type";
    let Some(words) = words_of_blocks(fields, KINDS)? else {
        let mut listed = listed_blocks(fields, "hybrid_layer_ids")?.unwrap_or_default();
        listed.sort_unstable();
        listed.dedup();
        return Ok(listed);
    };
    let mut hybrids = Vec::new();
    for (block, word) in words.into_iter().enumerate() {
        match word {
            "hybrid" => hybrids.push(block),
            "mamba" | "linear_attention" => {}
            _ => {
                let expected = "mamba, linear_attention or hybrid";
                return Err(wrong_word(fields, KINDS, expected, block, word));
            }
        }
    }
    Ok(hybrids)
}

/// Every block has attention and Mamba-2 (Falcon-H1).
pub(super) fn attention_and_mamba2(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    Ok(MixerSpec::Parallel(ParallelSpec {
        attention: attention(fields, block, &row.attention)?,
        mamba: mamba2(fields, block, &row.mamba2)?,
        attention_in: multiplier(fields, "attention_in_multiplier")?,
        attention_out: multiplier(fields, "attention_out_multiplier")?,
        mamba_in: multiplier(fields, "ssm_in_multiplier")?,
        mamba_out: multiplier(fields, "ssm_out_multiplier")?,
    }))
}

/// Attention in every fourth block, or what `layer_types` says; the gated delta rule in the others (Qwen3-Next).
pub(super) fn gated_delta_but_in_every(
    fields: &Fields,
    block: usize,
    row: &Architecture,
) -> Result<MixerSpec> {
    const N_KEY_HEADS: Key = Key { hf: "linear_num_key_heads", ..BAMBA.n_groups };
    const N_VALUE_HEADS: Key = Key { hf: "linear_num_value_heads", ..BAMBA.n_heads };
    const KEY_DIM: Key = Key { hf: "linear_key_head_dim", ..BAMBA.state_size };
    const KERNEL: Key = Key { hf: "linear_conv_kernel_dim", ..BAMBA.conv_kernel };
    const VALUE_DIM: Key = Key { hf: "linear_value_head_dim", ..INNER_SIZE };
    if is_full_attention(fields, block)? {
        return attention(fields, block, &row.attention).map(MixerSpec::Attention);
    }
    only_silu(fields, ACTIVATION)?;
    let n_key_heads = fields.size(N_KEY_HEADS, MAX_HEADS)?;
    let n_value_heads = fields.size(N_VALUE_HEADS, MAX_HEADS)?;
    if !n_value_heads.is_multiple_of(n_key_heads) {
        let expected = format!("a multiple of the {n_key_heads} heads of keys");
        return Err(fields.wrong(N_VALUE_HEADS, expected, n_value_heads));
    }
    Ok(MixerSpec::GatedDelta(GatedDeltaSpec {
        n_key_heads,
        n_value_heads,
        key_dim: fields.size(KEY_DIM, MAX_HEADS)?,
        value_dim: match fields.hf() {
            Some(_) => fields.size(VALUE_DIM, MAX_HEADS)?,
            None => share(fields, VALUE_DIM, fields.size(VALUE_DIM, MAX_WIDTH)?, n_value_heads)?,
        },
        conv_kernel: fields.size(KERNEL, MAX_TAPS)?,
    }))
}

/// What `layer_types` says, or the list of recurrent blocks in GGUF files, or else every so many-th block.
fn is_full_attention(fields: &Fields, block: usize) -> Result<bool> {
    if let Some(kind) = listed_kind(fields, "layer_types", block)? {
        return Ok(kind == Kind::Attention);
    }
    if let Source::Gguf(metadata, _) = &fields.source
        && let Some(recurrent) = metadata.get::<Vec<bool>>(&fields.name(RECURRENT_BLOCKS))?
    {
        return Ok(!fields.of_block(RECURRENT_BLOCKS, &recurrent, block)?);
    }
    Ok((block + 1).is_multiple_of(fields.opt_size(INTERVAL, MAX_LAYERS)?.unwrap_or(4)))
}

/// What each of `n_heads` heads has of the width `inner_size` of all, which `key` says.
fn share(fields: &Fields, key: Key, inner_size: usize, n_heads: usize) -> Result<usize> {
    match inner_size.is_multiple_of(n_heads) {
        true => Ok(inner_size / n_heads),
        false => Err(fields.wrong(key, format!("a multiple of the {n_heads} heads"), inner_size)),
    }
}

/// The width of each of `n_heads` heads of Mamba-2; in GGUF files always its share of the width of all.
fn head_dim(fields: &Fields, rule: &Mamba2Rule, n_heads: usize) -> Result<usize> {
    let head_dim = Key { hf: rule.head_dim, gguf: "" };
    if !is_auto(fields, head_dim)
        && let Some(head_dim) = fields.opt_size(head_dim, MAX_HEADS)?
    {
        return Ok(head_dim);
    }
    let of_all = Key { hf: rule.inner_size, ..INNER_SIZE };
    if fields.hf().is_none() {
        return share(fields, of_all, fields.size(of_all, MAX_WIDTH)?, n_heads);
    }
    if let Some(inner_size) = fields.opt_size(of_all, MAX_WIDTH)? {
        return share(fields, of_all, inner_size, n_heads);
    }
    let expand = Key { hf: rule.expand, gguf: "" };
    let inner_size = fields.opt_size(expand, 64)?.unwrap_or(2) * fields.size(keys::HIDDEN_SIZE, MAX_WIDTH)?;
    share(fields, keys::HIDDEN_SIZE, inner_size, n_heads)
}

/// Width of all heads together.
pub(super) const INNER_SIZE: Key = Key { hf: "", gguf: "ssm.inner_size" };
pub(super) const SHORT_CONV_KERNEL: Key = Key { hf: "conv_L_cache", gguf: "shortconv.l_cache" };
pub(super) const INTERVAL: Key = Key { hf: "full_attention_interval", gguf: "full_attention_interval" };
pub(super) const RECURRENT_BLOCKS: Key = Key { hf: "", gguf: "attention.recurrent_layers" };

/// Most taps of a convolution.
const MAX_TAPS: usize = 64;

/// Mamba-2 as block `block` has it.
pub(super) fn mamba2(fields: &Fields, block: usize, rule: &Mamba2Rule) -> Result<Mamba2Spec> {
    let n_heads = fields.size(rule.n_heads, MAX_HEADS)?;
    only_silu(fields, rule.activation)?;
    let head_dim = head_dim(fields, rule, n_heads)?;
    let n_groups = fields.opt_size(rule.n_groups, MAX_HEADS)?.unwrap_or(1);
    if !n_heads.is_multiple_of(n_groups) {
        return Err(fields.wrong(rule.n_groups, format!("a divisor of the {n_heads} heads"), n_groups));
    }
    // Native files have no tensor of several matrices.
    let in_name = if fields.is_native() { "ssm_in_z" } else { "ssm_in" };
    Ok(Mamba2Spec {
        n_heads,
        head_dim,
        n_groups,
        state_size: fields.size(rule.state_size, MAX_HEADS)?,
        conv_kernel: fields.size(rule.conv_kernel, MAX_TAPS)?,
        conv_bias: rule.conv_bias.is_there(fields, &format!("blk.{block}.ssm_conv1d.bias"))?,
        in_bias: rule.in_bias.is_there(fields, &format!("blk.{block}.{in_name}.bias"))?,
        out_bias: rule.out_bias.is_there(fields, &format!("blk.{block}.ssm_out.bias"))?,
        dt_limits: dt_limits(fields)?,
        gate: (rule.gate)(fields, block)?,
        norm_eps: rule.norm_eps,
        scales: mamba2_scales(fields)?,
    })
}

/// Least and largest time step; GGUF files know none.
fn dt_limits(fields: &Fields) -> Result<[f32; 2]> {
    const LIMITS: &str = "time_step_limit";
    let Some(view) = fields.hf() else { return Ok([0.0, f32::INFINITY]) };
    match view.opt_f32s(LIMITS)?.as_deref() {
        None => Ok([0.0, f32::INFINITY]),
        // Least steps of thousands would carry a state out of what 32 bits hold.
        Some(&[least, most]) if (0.0..=1e3).contains(&least) && least <= most && most > 0.0 => {
            Ok([least, most])
        }
        Some(_) => {
            let expected =
                "the least time step, from 0 to 1000, and the largest, which is no less and above 0";
            Err(view.wrong(LIMITS, expected).into())
        }
    }
}

/// What a block of a hybrid is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Attention,
    Recurrent,
    /// A feed-forward network without a mixer, and whether it is one of experts.
    FeedForward {
        has_experts: bool,
    },
}

/// Every block has Mamba-2.
pub(super) fn mamba2_everywhere(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    mamba2(fields, block, &row.mamba2).map(MixerSpec::Mamba2)
}

/// Mamba-2 but where `kind` says otherwise.
fn mamba2_unless(fields: &Fields, block: usize, row: &Architecture, kind: Kind) -> Result<MixerSpec> {
    match kind {
        Kind::Attention => attention(fields, block, &row.attention).map(MixerSpec::Attention),
        Kind::Recurrent => mamba2(fields, block, &row.mamba2).map(MixerSpec::Mamba2),
        Kind::FeedForward { .. } => Ok(MixerSpec::None),
    }
}

/// Attention in the blocks of `attn_layer_indices`, Mamba-2 in the others (Bamba).
pub(super) fn mamba2_but_in_listed(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    let listed = listed_blocks(fields, "attn_layer_indices")?;
    let kind = match listed.unwrap_or_default().contains(&block) {
        true => Kind::Attention,
        false => Kind::Recurrent,
    };
    mamba2_unless(fields, block, row, kind)
}

/// What `layer_types` says (Granite).
pub(super) fn mamba2_by_type(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    let kind = kind_of(fields, "layer_types", block)?;
    mamba2_unless(fields, block, row, kind.unwrap_or(Kind::Recurrent))
}

/// What `hybrid_override_pattern` says, or `layers_block_type` (Nemotron-H).
pub(super) fn mamba2_by_pattern(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    mamba2_unless(fields, block, row, pattern_kind(fields, block)?)
}

/// The kind of a block of Nemotron-H: a letter of its pattern, or a word of its list.
pub(super) fn pattern_kind(fields: &Fields, block: usize) -> Result<Kind> {
    const PATTERN: &str = "hybrid_override_pattern";
    let Some(view) = fields.hf() else {
        let has_network =
            fields.opt_usize_of_block(keys::INTERMEDIATE_SIZE, block)?.is_some_and(|width| width > 0);
        let has_experts = fields.has_tensor(&format!("blk.{block}.ffn_gate_inp.weight"));
        return match gguf_kind(fields, block)? {
            _ if has_network => Ok(Kind::FeedForward { has_experts }),
            kind => Ok(kind.unwrap_or(Kind::Recurrent)),
        };
    };
    let Some(pattern) = view.opt_str(PATTERN)? else {
        let kind = listed_kind(fields, "layers_block_type", block)?;
        return kind.ok_or_else(|| view.missing("layers_block_type", "a word for every block").into());
    };
    let n_blocks = fields.opt_usize(keys::N_LAYERS)?.unwrap_or(pattern.len());
    match pattern.as_bytes().get(block) {
        _ if pattern.len() != n_blocks => {
            Err(view.wrong(PATTERN, format!("{n_blocks} letters, one for each block")).into())
        }
        Some(b'M') => Ok(Kind::Recurrent),
        Some(b'*') => Ok(Kind::Attention),
        Some(b'-') => Ok(Kind::FeedForward { has_experts: false }),
        Some(b'E') => Ok(Kind::FeedForward { has_experts: true }),
        _ => Err(view.wrong(PATTERN, "M, *, - or E for every block").into()),
    }
}

/// In GGUF files blocks with heads of keys are attention.
fn gguf_kind(fields: &Fields, block: usize) -> Result<Option<Kind>> {
    if fields.hf().is_some() {
        return Ok(None);
    }
    Ok(fields.opt_usize_of_block(keys::N_KV_HEADS, block)?.map(|n_heads| match n_heads {
        0 => Kind::Recurrent,
        _ => Kind::Attention,
    }))
}

/// What the list `name` says about a block, or the number of its heads in GGUF files.
fn kind_of(fields: &Fields, name: &str, block: usize) -> Result<Option<Kind>> {
    match gguf_kind(fields, block)? {
        None => listed_kind(fields, name, block),
        kind => Ok(kind),
    }
}

/// What the list `name` says about a block, if there is such a list.
fn listed_kind(fields: &Fields, name: &str, block: usize) -> Result<Option<Kind>> {
    let Some(word) = word_of_block(fields, name, block)? else { return Ok(None) };
    Ok(Some(match word {
        "attention" | "full_attention" => Kind::Attention,
        "mamba" | "linear_attention" | "conv" => Kind::Recurrent,
        "mlp" => Kind::FeedForward { has_experts: false },
        "moe" => Kind::FeedForward { has_experts: true },
        _ => return Err(wrong_word(fields, name, "attention, mamba, conv, mlp or moe", block, word)),
    }))
}
