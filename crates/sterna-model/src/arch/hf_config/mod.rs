//! The `config.json` of a network, for checkpoints that came without one: the reverse of reading it.

pub(super) mod families;
mod rope;

use serde_json::{Map, Value, json};
use sterna_formats::Checkpoint;
use sterna_formats::hf::ConfigFile;

use super::table::TABLE;
use super::{Architecture, Reading, fields};
use crate::error::{ModelError, Result};
use crate::rope::{Regime, RopeSpec};
use crate::spec::{Activation, AttentionSpec, FeedForwardSpec, Spec};
use rope::rotary;

pub(super) type Config = Map<String, Value>;

/// How far frequencies may be apart that were computed from the same parameters.
const SAME_FREQUENCY: f32 = 1e-4;

/// The row whose class in the `transformers` library is this network.
pub(crate) fn hf_row(spec: &Spec) -> Option<&'static Architecture> {
    let has_window = spec.blocks.iter().any(|block| block.window().is_some());
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
        let of_first = first.mixer.attention()?;
        // What windowed blocks rotate by may be something of their own.
        let full = spec.blocks.iter().find(|block| block.window().is_none());
        let rope = full.unwrap_or(first).rope().or(first.rope())?;
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
        let (Some(of_a), Some(of_b)) = (a.mixer.attention(), b.mixer.attention()) else {
            return (a.mixer != b.mixer).then_some("mixers");
        };
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
