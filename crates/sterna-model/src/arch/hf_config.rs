//! The `config.json` of a network, for checkpoints that came without one: the reverse of reading it.

use serde_json::{Map, Value, json};

use super::table::TABLE;
use super::{Architecture, Reading, fields};
use crate::error::{ModelError, Result};
use crate::rope::{Regime, RopeScaling, RopeSpec, longrope_attention_factor};
use crate::spec::{Activation, AttentionSpec, FeedForwardSpec, MixerSpec, Spec};
use sterna_formats::Checkpoint;
use sterna_formats::hf::ConfigFile;

pub(super) type Config = Map<String, Value>;

/// Llama 3's scaling as Meta has released it; files that have only its divisors do not say more.
const LLAMA3_LOW_FREQ: f64 = 1.0;
const LLAMA3_HIGH_FREQ: f64 = 4.0;
const LLAMA3_CONTEXT: f64 = 8192.0;

/// How far frequencies may be apart that were computed from the same parameters.
const SAME_FREQUENCY: f32 = 1e-4;

/// The row whose class in the `transformers` library is this network.
pub(crate) fn hf_row(spec: &Spec) -> Option<&'static Architecture> {
    let has_window = spec.blocks.iter().any(|block| attention(&block.mixer).window.is_some());
    // GGUF files call Mistral llama.
    let name = if spec.architecture == "llama" && has_window { "mistral" } else { spec.architecture };
    TABLE.iter().find(|row| row.name == name && !row.hf_class.is_empty())
}

/// The `config.json` of the network that `reading` of `checkpoint` gave, without types and token ids.
///
/// # Errors
/// When the family has no class in the `transformers` library, or that class cannot be this network, as far as reading
/// the configuration again tells.
pub(crate) fn hf_config(checkpoint: &Checkpoint, reading: &Reading) -> Result<Config> {
    let spec = &reading.spec;
    let no_class = |found: String| {
        let expected = "a network that a class of the transformers library can be";
        ModelError::field(checkpoint.path(), "architecture", expected, found)
    };
    let row = hf_row(spec).ok_or_else(|| no_class(spec.architecture.to_owned()))?;
    let config = row.hf_config(spec).ok_or_else(|| no_class("no blocks".to_owned()))?;
    let again = row.reread(checkpoint, &config)?;
    match difference(spec, &again) {
        None => Ok(config),
        Some(what) => Err(no_class(format!("{}, which lacks its {what}", row.hf_class))),
    }
}

impl Architecture {
    fn hf_config(&self, spec: &Spec) -> Option<Config> {
        let first = spec.blocks.first()?;
        let of_first = attention(&first.mixer);
        // What windowed blocks rotate by may be something of their own.
        let full = spec.blocks.iter().map(|block| attention(&block.mixer)).find(|it| it.window.is_none());
        let rope = full.unwrap_or(of_first).rope.as_ref().or(of_first.rope.as_ref())?;
        let (intermediate_size, activation) =
            spec.blocks.iter().find_map(|block| match &block.feed_forward {
                FeedForwardSpec::Dense(dense) => Some((dense.intermediate_size, dense.activation)),
                FeedForwardSpec::Moe(moe) => Some((moe.expert.intermediate_size, moe.expert.activation)),
                FeedForwardSpec::None => None,
            })?;
        let mut config = object(json!({
            "architectures": [self.hf_class],
            "model_type": self.hf.first()?,
            "vocab_size": spec.vocab_size,
            "hidden_size": spec.hidden_size,
            "intermediate_size": intermediate_size,
            "num_hidden_layers": spec.blocks.len(),
            "num_attention_heads": of_first.n_heads,
            "num_key_value_heads": of_first.n_kv_heads,
            "head_dim": of_first.head_dim,
            "hidden_act": activation_name(activation),
            "max_position_embeddings": spec.context_length,
            "rms_norm_eps": number(spec.norm_eps),
            "tie_word_embeddings": spec.tied_embeddings,
            "use_cache": true,
        }));
        config.extend(rotary(rope, of_first.head_dim, spec.context_length));
        config.extend((self.hf_fields)(spec, of_first));
        Some(config)
    }

    /// What reading `config` gives.
    fn reread(&self, checkpoint: &Checkpoint, config: &Config) -> Result<Spec> {
        let text = Value::Object(config.clone()).to_string();
        let file = ConfigFile::parse(&checkpoint.path().join("config.json"), text.as_bytes())?;
        let source = fields::Source::Hf(file.view());
        self.spec(&fields::Fields { source, checkpoint, defaults: self.defaults }, fields::Kind::Hf)
    }
}

/// The first thing in which two networks differ.
fn difference(a: &Spec, b: &Spec) -> Option<&'static str> {
    let widths = |spec: &Spec| (spec.vocab_size, spec.hidden_size, spec.context_length, spec.tied_embeddings);
    let scales = |spec: &Spec| (spec.norm_eps, spec.embedding_scale, spec.logit_scale, spec.logit_softcap);
    if widths(a) != widths(b) || a.blocks.len() != b.blocks.len() {
        return Some("sizes");
    }
    if scales(a) != scales(b) {
        return Some("scales");
    }
    a.blocks.iter().zip(&b.blocks).find_map(|(a, b)| {
        let (of_a, of_b) = (attention(&a.mixer), attention(&b.mixer));
        let without_rope = |it: &AttentionSpec| AttentionSpec { rope: None, scale: 0.0, ..it.clone() };
        if without_rope(of_a) != without_rope(of_b) || (of_a.scale / of_b.scale - 1.0).abs() > 1e-6 {
            Some("attention")
        } else if a.feed_forward != b.feed_forward || a.norms != b.norms {
            Some("feed-forward networks")
        } else {
            (!rotates_alike(of_a.rope.as_ref(), of_b.rope.as_ref())).then_some("rotary positions")
        }
    })
}

fn rotates_alike(a: Option<&RopeSpec>, b: Option<&RopeSpec>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a.is_none() == b.is_none() };
    let is_near = |a: f32, b: f32| (a / b - 1.0).abs() < SAME_FREQUENCY;
    let frequencies = |regime| a.frequencies(regime).into_iter().zip(b.frequencies(regime));
    a.n_dims == b.n_dims
        && is_near(a.attention_factor(), b.attention_factor())
        && [Regime::Short, Regime::Long].into_iter().flat_map(frequencies).all(|(a, b)| is_near(a, b))
}

/// `rope_theta` and `rope_scaling`, as transformers 4 has them and all runtimes understand.
fn rotary(rope: &RopeSpec, head_dim: usize, context: usize) -> Config {
    let scaling = match &rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => scaling("linear", json!({"factor": factor})),
        &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            llama3(factor, low_freq_factor, high_freq_factor, original_context)
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, attention_factor } => {
            let fields = json!({
                "factor": factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "original_max_position_embeddings": *original_context as u64,
                "truncate": truncate,
                "attention_factor": attention_factor,
            });
            scaling("yarn", fields)
        }
        RopeScaling::LongRope { short, long, original_context, attention_factor } => {
            let factor = context as f64 / *original_context as f64;
            let usual = longrope_attention_factor(factor, *original_context as f64);
            // Some classes take no more than the two lists.
            let is_usual = (attention_factor / usual - 1.0).abs() < 1e-6;
            longrope(short, long, *original_context, (!is_usual).then_some(*attention_factor))
        }
        RopeScaling::Divisors(divisors) => match llama3_factor(rope, divisors) {
            Some(factor) => llama3(factor, LLAMA3_LOW_FREQ, LLAMA3_HIGH_FREQ, LLAMA3_CONTEXT),
            None => longrope(divisors, divisors, context, Some(1.0)),
        },
    };
    let mut config = object(json!({"rope_theta": rope.theta, "rope_scaling": scaling}));
    if let RopeScaling::LongRope { original_context, .. } = &rope.scaling {
        config.insert("original_max_position_embeddings".to_owned(), json!(original_context));
    }
    if rope.n_dims != head_dim {
        config.insert("partial_rotary_factor".to_owned(), json!(rope.n_dims as f64 / head_dim as f64));
    }
    config
}

/// The factor of Llama 3's scaling that has these divisors, if there is one.
fn llama3_factor(rope: &RopeSpec, divisors: &[f32]) -> Option<f64> {
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(factor),
        low_freq_factor: LLAMA3_LOW_FREQ,
        high_freq_factor: LLAMA3_HIGH_FREQ,
        original_context: LLAMA3_CONTEXT,
    };
    let rebuilt = RopeSpec { scaling, ..rope.clone() };
    rotates_alike(Some(rope), Some(&rebuilt)).then_some(f64::from(factor))
}

fn llama3(factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_context: f64) -> Value {
    let fields = json!({
        "factor": factor,
        "low_freq_factor": low_freq_factor,
        "high_freq_factor": high_freq_factor,
        "original_max_position_embeddings": original_context as u64,
    });
    scaling("llama3", fields)
}

fn longrope(short: &[f32], long: &[f32], original_context: usize, attention_factor: Option<f64>) -> Value {
    let numbers = |list: &[f32]| list.iter().copied().map(number).collect::<Vec<Value>>();
    let mut fields = json!({"short_factor": numbers(short), "long_factor": numbers(long)});
    if let Some(factor) = attention_factor {
        fields["attention_factor"] = json!(factor);
        fields["original_max_position_embeddings"] = json!(original_context);
    }
    scaling("longrope", fields)
}

/// `fields` with the kind of scaling under its new and its old name.
fn scaling(kind: &str, fields: Value) -> Value {
    let mut all = object(json!({"rope_type": kind, "type": kind}));
    all.extend(object(fields));
    Value::Object(all)
}

pub(super) fn llama_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let mlp_bias = spec.blocks.iter().any(|block| match &block.feed_forward {
        FeedForwardSpec::Dense(dense) => dense.bias,
        _ => false,
    });
    object(json!({"attention_bias": first.qkv_bias, "mlp_bias": mlp_bias}))
}

pub(super) fn mistral_fields(spec: &Spec, _: &AttentionSpec) -> Config {
    object(json!({"sliding_window": window(spec)}))
}

pub(super) fn qwen_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let n_full = spec.blocks.iter().take_while(|block| attention(&block.mixer).window.is_none()).count();
    object(json!({
        "attention_bias": first.qkv_bias,
        "use_sliding_window": window(spec).is_some(),
        "sliding_window": window(spec),
        "max_window_layers": n_full,
        "layer_types": layer_types(spec),
    }))
}

pub(super) fn qwen3_moe_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let moe = |block: &crate::spec::BlockSpec| match &block.feed_forward {
        FeedForwardSpec::Moe(moe) => Some(moe.clone()),
        _ => None,
    };
    let is_dense = |index: &usize| moe(&spec.blocks[*index]).is_none();
    let mut config = object(json!({
        "attention_bias": first.qkv_bias,
        "use_sliding_window": window(spec).is_some(),
        "sliding_window": window(spec),
        "decoder_sparse_step": 1,
        "mlp_only_layers": (0..spec.blocks.len()).filter(is_dense).collect::<Vec<usize>>(),
    }));
    if let Some(moe) = spec.blocks.iter().find_map(moe) {
        config.extend(object(json!({
            "num_experts": moe.n_experts,
            "num_experts_per_tok": moe.n_active,
            "moe_intermediate_size": moe.expert.intermediate_size,
            "norm_topk_prob": moe.renormalize,
        })));
    }
    config
}

pub(super) fn gemma3_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let is_full = |block: &crate::spec::BlockSpec| attention(&block.mixer).window.is_none();
    let local = spec.blocks.iter().map(|block| attention(&block.mixer)).find(|it| it.window.is_some());
    let mut config = object(json!({
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": first.qkv_bias,
        "query_pre_attn_scalar": score_divisor(first.scale),
        "sliding_window": window(spec),
        "layer_types": layer_types(spec),
        "attn_logit_softcapping": null,
        "final_logit_softcapping": spec.logit_softcap.map(number),
    }));
    // What older readers have in place of the list.
    if let Some(at) = spec.blocks.iter().position(is_full) {
        config.insert("sliding_window_pattern".to_owned(), json!(at + 1));
    }
    if let Some(rope) = local.and_then(|it| it.rope.as_ref()) {
        config.insert("rope_local_base_freq".to_owned(), json!(rope.theta));
    }
    config
}

pub(super) fn smollm3_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let rotates: Vec<u8> =
        spec.blocks.iter().map(|block| u8::from(attention(&block.mixer).rope.is_some())).collect();
    let mut config = llama_fields(spec, first);
    config.extend(object(json!({
        "no_rope_layers": rotates,
        "use_sliding_window": window(spec).is_some(),
        "sliding_window": window(spec),
        "layer_types": layer_types(spec),
    })));
    config
}

pub(super) fn bitnet_fields(_: &Spec, _: &AttentionSpec) -> Config {
    Config::new()
}

/// What scores are divided by the square root of: a whole number, as far as the factor's rounding tells.
fn score_divisor(scale: f32) -> Value {
    let divisor = 1.0 / (f64::from(scale) * f64::from(scale));
    let whole = divisor.round();
    if (divisor / whole - 1.0).abs() < 1e-5 { json!(whole as u64) } else { json!(divisor) }
}

fn window(spec: &Spec) -> Option<usize> {
    spec.blocks.iter().find_map(|block| attention(&block.mixer).window)
}

fn layer_types(spec: &Spec) -> Vec<&'static str> {
    let kind = |block: &crate::spec::BlockSpec| match attention(&block.mixer).window {
        Some(_) => "sliding_attention",
        None => "full_attention",
    };
    spec.blocks.iter().map(kind).collect()
}

fn attention(mixer: &MixerSpec) -> &AttentionSpec {
    let MixerSpec::Attention(attention) = mixer;
    attention
}

fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::Gelu => "gelu",
        Activation::Relu => "relu",
        Activation::Relu2 => "relu2",
    }
}

/// The shortest decimal that is `value` in f32.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// The fields of a value that is an object.
fn object(value: Value) -> Config {
    match value {
        Value::Object(fields) => fields,
        _ => Config::new(),
    }
}
