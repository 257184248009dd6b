//! Rotary parameters as `config.json` has them.

use serde_json::{Value, json};

use super::{Config, number, object, rotates_alike};
use crate::rope::{RopeScaling, RopeSpec, longrope_attention_factor};

/// Llama 3's scaling as Meta has released it; files that have only its divisors do not say more.
const LLAMA3_LOW_FREQ: f64 = 1.0;
const LLAMA3_HIGH_FREQ: f64 = 4.0;
const LLAMA3_CONTEXT: f64 = 8192.0;

/// `rope_theta` and `rope_scaling`, as transformers 4 has them and all runtimes understand.
pub(super) fn rotary(rope: &RopeSpec, head_dim: usize, context: usize) -> Config {
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
