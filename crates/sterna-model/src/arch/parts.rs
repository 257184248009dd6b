//! The parts that table rows are put together from: attention and feed-forward networks, read from a configuration.

use super::Architecture;
use super::fields::{Fields, Key, Source, keys};
use super::rope::{Span, rope};
use super::scales::network_scales;
use crate::error::{ModelError, Result};
use crate::spec::{Activation, AttentionSpec, DenseSpec, FeedForwardSpec, MixerSpec};

/// No network comes near these; they keep products of sizes inside 64 bits and loops finite.
pub(crate) const MAX_LAYERS: usize = 1024;
pub(crate) const MAX_WIDTH: usize = 1 << 24;
pub(super) const MAX_HEADS: usize = 1 << 16;

const QUERY_PRE_ATTN_SCALAR: Key = Key { hf: "query_pre_attn_scalar", gguf: "" };

/// When a projection has a bias. (In native and GGUF files the tensor itself says.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    Never,
    Always,
    /// When the flag of this name is set.
    If(&'static str),
    /// When the flag of this name is set, or not there.
    ByDefault(&'static str),
}

impl Bias {
    pub(super) fn is_there(self, fields: &Fields, gguf_tensor: &str) -> Result<bool> {
        if fields.is_native() || matches!(fields.source, Source::Gguf(..)) {
            return Ok(fields.has_tensor(gguf_tensor));
        }
        match self {
            Bias::Never => Ok(false),
            Bias::Always => Ok(true),
            Bias::If(flag) => fields.flag(flag, false),
            Bias::ByDefault(flag) => fields.flag(flag, true),
        }
    }
}

/// How a family's attention differs from that of Llama.
pub(super) struct AttentionRule {
    pub(super) qkv_bias: Bias,
    pub(super) o_bias: Bias,
    pub(super) qk_norm: bool,
    pub(super) sub_norm: bool,
    pub(super) output_gate: bool,
    /// Width of a head; without it, heads share the width of the stream.
    pub(super) head_dim: Key,
    /// The window of a block.
    pub(super) window: fn(&Fields, usize) -> Result<Option<usize>>,
    /// Whether a block rotates.
    pub(super) rotates: fn(&Fields, usize) -> Result<bool>,
    /// Blocks with a window rotate by a base of their own.
    pub(super) local_theta: bool,
    /// What the scores are divided by the square root of.
    pub(super) score_divisor: fn(&Fields, usize) -> Result<f64>,
}

/// The attention of Llama.
pub(super) const LLAMA: AttentionRule = AttentionRule {
    qkv_bias: Bias::If("attention_bias"),
    o_bias: Bias::If("attention_bias"),
    qk_norm: false,
    sub_norm: false,
    output_gate: false,
    head_dim: keys::HEAD_DIM,
    window: |_, _| Ok(None),
    rotates: |_, _| Ok(true),
    local_theta: false,
    score_divisor: |_, head_dim| Ok(head_dim as f64),
};

/// The attention of Llama, never with biases.
pub(super) const UNBIASED: AttentionRule =
    AttentionRule { qkv_bias: Bias::Never, o_bias: Bias::Never, ..LLAMA };

/// Every block has attention.
pub(super) fn attention_everywhere(fields: &Fields, block: usize, row: &Architecture) -> Result<MixerSpec> {
    attention(fields, block, &row.attention).map(MixerSpec::Attention)
}

/// Attention of block `block`.
pub(super) fn attention(fields: &Fields, block: usize, rule: &AttentionRule) -> Result<AttentionSpec> {
    let hidden_size = fields.size(keys::HIDDEN_SIZE, MAX_WIDTH)?;
    let n_heads = fields.size_of_block(keys::N_HEADS, block, MAX_HEADS)?;
    let n_kv_heads = fields.opt_size_of_block(keys::N_KV_HEADS, block, MAX_HEADS)?.unwrap_or(n_heads);
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(fields.wrong(
            keys::N_KV_HEADS,
            format!("a divisor of the {n_heads} query heads"),
            n_kv_heads,
        ));
    }
    let head_dim = match fields.opt_size(rule.head_dim, MAX_HEADS)? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(n_heads) => hidden_size / n_heads,
        None => {
            let expected = format!("a multiple of the {n_heads} heads");
            return Err(fields.wrong(keys::HIDDEN_SIZE, expected, hidden_size));
        }
    };
    if let Some(value_head_dim) = fields.opt_size(keys::VALUE_HEAD_DIM, MAX_HEADS)?
        && value_head_dim != head_dim
    {
        let expected = format!("{head_dim}, the width of a key");
        return Err(fields.wrong(keys::VALUE_HEAD_DIM, expected, value_head_dim));
    }
    let window = (rule.window)(fields, block)?;
    let span = if window.is_some() { Span::Sliding } else { Span::Full };
    let rotates = (rule.rotates)(fields, block)?;
    Ok(AttentionSpec {
        n_heads,
        n_kv_heads,
        head_dim,
        scale: (1.0 / (rule.score_divisor)(fields, head_dim)?.sqrt()) as f32,
        window,
        // Gemma 3's `attn_logit_softcapping` is a field that its reference implementation never applies.
        softcap: None,
        rope: if rotates { Some(rope(fields, span, rule.local_theta, head_dim)?) } else { None },
        qkv_bias: rule.qkv_bias.is_there(fields, &format!("blk.{block}.attn_q.bias"))?,
        o_bias: rule.o_bias.is_there(fields, &format!("blk.{block}.attn_output.bias"))?,
        qk_norm: rule.qk_norm,
        sub_norm: rule.sub_norm,
        output_gate: rule.output_gate,
    })
}

/// `sliding_window`, if it is there and not zero.
fn sliding_window(fields: &Fields) -> Result<Option<usize>> {
    Ok(fields.opt_usize(keys::SLIDING_WINDOW)?.filter(|window| *window > 0))
}

/// No block rotates, unless `position_embedding_type` says so (Granite); all do in GGUF files that do not say.
pub(super) fn rotates_if_said(fields: &Fields, _: usize) -> Result<bool> {
    match fields.hf() {
        Some(view) => Ok(view.opt_str("position_embedding_type")? == Some("rope")),
        None => fields.flag_of(ROTATES, true),
    }
}

/// Whether blocks of Granite rotate, under a name that once said whether they were trained beyond their context.
pub(super) const ROTATES: Key = Key { hf: "", gguf: "rope.scaling.finetuned" };

/// Whether `use_mem_rope` says so (Zamba2).
pub(super) fn rotates_by_flag(fields: &Fields, _: usize) -> Result<bool> {
    fields.flag("use_mem_rope", false)
}

/// Every block has the window (Mistral, Phi-3).
pub(super) fn window_everywhere(fields: &Fields, _: usize) -> Result<Option<usize>> {
    sliding_window(fields)
}

/// GGUF files call Mistral llama, so there every block has the window if the file gives one.
pub(super) fn window_of_gguf_mistral(fields: &Fields, _: usize) -> Result<Option<usize>> {
    if fields.hf().is_none() { sliding_window(fields) } else { Ok(None) }
}

/// Every block has the window when `use_sliding_window` says so (Qwen3-MoE).
pub(super) fn window_if_used(fields: &Fields, _: usize) -> Result<Option<usize>> {
    if fields.flag("use_sliding_window", false)? { sliding_window(fields) } else { Ok(None) }
}

/// As [`window_if_used`], but only the blocks after the first `max_window_layers`, or those in `layer_types`
/// (Qwen2, Qwen3).
pub(super) fn window_of_late_blocks(fields: &Fields, block: usize) -> Result<Option<usize>> {
    const MAX_WINDOW_LAYERS: Key = Key { hf: "max_window_layers", gguf: "" };
    let is_sliding = match layer_type_is_sliding(fields, block)? {
        Some(is_sliding) => is_sliding,
        None => block >= fields.opt_usize(MAX_WINDOW_LAYERS)?.unwrap_or(28),
    };
    if is_sliding { window_if_used(fields, block) } else { Ok(None) }
}

/// As [`window_if_used`], but only blocks that do not rotate, or those in `layer_types` (SmolLM3).
pub(super) fn window_of_unrotated_blocks(fields: &Fields, block: usize) -> Result<Option<usize>> {
    let is_sliding = match layer_type_is_sliding(fields, block)? {
        Some(is_sliding) => is_sliding,
        None => !rotates_but_every_fourth(fields, block)?,
    };
    if is_sliding { window_if_used(fields, block) } else { Ok(None) }
}

/// All but every sixth block (or what the pattern or `layer_types` say) have the window (Gemma 3).
pub(super) fn window_but_every_sixth(fields: &Fields, block: usize) -> Result<Option<usize>> {
    const NEW_PATTERN: Key = Key { hf: "_sliding_window_pattern", gguf: "" };
    let is_sliding = match layer_type_is_sliding(fields, block)? {
        Some(is_sliding) => is_sliding,
        None => {
            let pattern = match fields.opt_size(keys::SLIDING_WINDOW_PATTERN, MAX_LAYERS)? {
                None => fields.opt_size(NEW_PATTERN, MAX_LAYERS)?,
                pattern => pattern,
            };
            !(block + 1).is_multiple_of(pattern.unwrap_or(6))
        }
    };
    if is_sliding { sliding_window(fields) } else { Ok(None) }
}

/// What `layer_types` says about a block, if there is such a list.
fn layer_type_is_sliding(fields: &Fields, block: usize) -> Result<Option<bool>> {
    const LAYER_TYPES: &str = "layer_types";
    match word_of_block(fields, LAYER_TYPES, block)? {
        None => Ok(None),
        Some("sliding_attention") => Ok(Some(true)),
        Some("full_attention") => Ok(Some(false)),
        Some(word) => {
            Err(wrong_word(fields, LAYER_TYPES, "full_attention or sliding_attention", block, word))
        }
    }
}

/// What the list `name` says about the blocks, if there is such a list in `config.json`.
pub(super) fn words_of_blocks<'a>(fields: &Fields<'a>, name: &str) -> Result<Option<Vec<&'a str>>> {
    let Some(view) = fields.hf() else { return Ok(None) };
    let Some(words) = view.opt_strs(name)? else { return Ok(None) };
    match fields.opt_usize(keys::N_LAYERS)? {
        Some(n_blocks) if n_blocks != words.len() => {
            Err(view.wrong(name, format!("a list of {n_blocks} items, one for each block")).into())
        }
        _ => Ok(Some(words)),
    }
}

/// What the list `name` says about a block, if there is such a list in `config.json`.
pub(super) fn word_of_block<'a>(fields: &Fields<'a>, name: &str, block: usize) -> Result<Option<&'a str>> {
    Ok(words_of_blocks(fields, name)?.and_then(|words| words.get(block).copied()))
}

/// The error that says: block `block` is called `word` in the list `name`, and not what is `expected`.
pub(super) fn wrong_word(
    fields: &Fields,
    name: &str,
    expected: &str,
    block: usize,
    word: &str,
) -> ModelError {
    ModelError::field(fields.file(), format!("{name}[{block}]"), expected, format!("{word:?}"))
}

/// The blocks that the list `name` of `config.json` names, if there is such a list.
pub(super) fn listed_blocks(fields: &Fields, name: &str) -> Result<Option<Vec<usize>>> {
    let Some(view) = fields.hf() else { return Ok(None) };
    let Some(blocks) = view.opt_usizes(name)? else { return Ok(None) };
    let n_blocks = fields.size(keys::N_LAYERS, MAX_LAYERS)?;
    if blocks.len() > n_blocks || blocks.iter().any(|&block| block >= n_blocks) {
        let expected = format!("the numbers of blocks, which are below {n_blocks}");
        let found = match blocks.iter().find(|&&block| block >= n_blocks) {
            Some(block) => block.to_string(),
            None => format!("a list of {} items", blocks.len()),
        };
        return Err(ModelError::field(fields.file(), name, expected, found));
    }
    Ok(Some(blocks))
}

/// Every fourth block does not rotate, or what `no_rope_layers` says (SmolLM3; there 1 means that a block rotates).
pub(super) fn rotates_but_every_fourth(fields: &Fields, block: usize) -> Result<bool> {
    const NO_ROPE_LAYERS: &str = "no_rope_layers";
    const INTERVAL: Key = Key { hf: "no_rope_layer_interval", gguf: "" };
    if let Some(view) = fields.hf()
        && let Some(rotates) = view.opt_bools(NO_ROPE_LAYERS)?
    {
        let n_blocks = fields.size(keys::N_LAYERS, MAX_LAYERS)?;
        let expected = format!("a list of {n_blocks} items, 0 or 1 for each block");
        return match rotates.get(block) {
            Some(&rotates_here) if rotates.len() == n_blocks => Ok(rotates_here),
            _ => Err(view.wrong(NO_ROPE_LAYERS, expected).into()),
        };
    }
    Ok(!(block + 1).is_multiple_of(fields.opt_size(INTERVAL, MAX_LAYERS)?.unwrap_or(4)))
}

/// Gemma 3 scales by a number of its own. GGUF files do not have it: it is the head's width, but in the largest
/// model, known by its 62 blocks, the width of the model over its heads (as in llama.cpp).
pub(super) fn gemma3_score_divisor(fields: &Fields, head_dim: usize) -> Result<f64> {
    if let Some(divisor) = fields.opt_factor(QUERY_PRE_ATTN_SCALAR)? {
        return Ok(divisor);
    }
    if fields.hf().is_none() && fields.size(keys::N_LAYERS, MAX_LAYERS)? == 62 {
        let n_heads = fields.size_of_block(keys::N_HEADS, 0, MAX_HEADS)?;
        return Ok((fields.size(keys::HIDDEN_SIZE, MAX_WIDTH)? / n_heads) as f64);
    }
    Ok(head_dim as f64)
}

/// How a family's feed-forward network differs from that of Llama.
pub(super) struct DenseRule {
    pub(super) gated: bool,
    /// The activation, when the configuration does not say.
    pub(super) activation: Activation,
    pub(super) bias: Bias,
    pub(super) sub_norm: bool,
}

/// The feed-forward network of Llama.
pub(super) const SWIGLU: DenseRule =
    DenseRule { gated: true, activation: Activation::Silu, bias: Bias::If("mlp_bias"), sub_norm: false };

/// The feed-forward network of Llama, never with biases.
pub(super) const UNBIASED_SWIGLU: DenseRule = DenseRule { bias: Bias::Never, ..SWIGLU };

/// Blocks have a mixer and nothing else (Mamba).
pub(super) fn no_feed_forward(_: &Fields, _: usize, _: &DenseRule) -> Result<FeedForwardSpec> {
    Ok(FeedForwardSpec::None)
}

/// A dense network of width `intermediate_size`.
pub(super) fn dense(fields: &Fields, block: usize, rule: &DenseRule) -> Result<FeedForwardSpec> {
    let intermediate_size = fields.size_of_block(keys::INTERMEDIATE_SIZE, block, MAX_WIDTH)?;
    dense_of(fields, block, rule, intermediate_size).map(FeedForwardSpec::Dense)
}

/// A dense network whose width is two thirds of what the configuration says, rounded up (LFM2).
pub(super) fn dense_of_two_thirds(
    fields: &Fields,
    block: usize,
    rule: &DenseRule,
) -> Result<FeedForwardSpec> {
    const OLD_WIDTH: Key = Key { hf: "block_ff_dim", gguf: "" };
    const MULTIPLIER: Key = Key { hf: "block_ffn_dim_multiplier", gguf: "" };
    const MULTIPLE_OF: Key = Key { hf: "block_multiple_of", gguf: "" };
    let width = match fields.opt_size(OLD_WIDTH, MAX_WIDTH)? {
        Some(width) => width,
        None => fields.size_of_block(keys::INTERMEDIATE_SIZE, block, MAX_WIDTH)?,
    };
    let width = match fields.flag("block_auto_adjust_ff_dim", fields.hf().is_some())? {
        false => width,
        true => {
            let multiplier = fields.opt_positive(MULTIPLIER)?.unwrap_or(1.0);
            let multiple = fields.opt_size(MULTIPLE_OF, MAX_WIDTH)?.unwrap_or(256);
            let width = (multiplier * (2 * width / 3) as f64) as usize;
            fields.in_range(
                keys::INTERMEDIATE_SIZE,
                width.div_ceil(multiple).saturating_mul(multiple),
                MAX_WIDTH,
            )?
        }
    };
    dense_of(fields, block, rule, width).map(FeedForwardSpec::Dense)
}

/// A network of width `intermediate_size`.
pub(super) fn dense_of(
    fields: &Fields,
    block: usize,
    rule: &DenseRule,
    intermediate_size: usize,
) -> Result<DenseSpec> {
    let [gate_scale, out_scale] = network_scales(fields)?;
    Ok(DenseSpec {
        gated: rule.gated,
        intermediate_size,
        activation: activation(fields)?.unwrap_or(rule.activation),
        bias: rule.bias.is_there(fields, &format!("blk.{block}.ffn_up.bias"))?,
        sub_norm: rule.sub_norm,
        gate_scale,
        out_scale,
    })
}

/// The activation that `config.json` names, if it names one.
fn activation(fields: &Fields) -> Result<Option<Activation>> {
    let Some(view) = fields.hf() else { return Ok(None) };
    // Nemotron-H calls it by what it is of; its `hidden_act`, where there is one, is another's.
    let names = ["hidden_activation", "mlp_hidden_act", "hidden_act"];
    let name = names.into_iter().find(|name| view.has(name)).unwrap_or("hidden_act");
    Ok(Some(match view.opt_str(name)? {
        None => return Ok(None),
        Some("silu" | "swish") => Activation::Silu,
        Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_python_tanh") => Activation::GeluTanh,
        Some("gelu" | "gelu_python") => Activation::Gelu,
        Some("relu") => Activation::Relu,
        Some("relu2") => Activation::Relu2,
        Some(_) => return Err(view.wrong(name, "silu, gelu, gelu_pytorch_tanh, relu or relu2").into()),
    }))
}
