//! What the `config.json` of each family says beyond what all say.

use serde_json::{Value, json};

use super::{Config, number, object};
use crate::spec::{AttentionSpec, BlockSpec, FeedForwardSpec, Routing, Spec};

pub(in crate::arch) fn llama_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let mlp_bias = spec.blocks.iter().any(|block| match &block.feed_forward {
        FeedForwardSpec::Dense(dense) => dense.bias,
        _ => false,
    });
    object(json!({"attention_bias": first.qkv_bias, "mlp_bias": mlp_bias}))
}

pub(in crate::arch) fn mistral_fields(spec: &Spec, _: &AttentionSpec) -> Config {
    object(json!({"sliding_window": window(spec)}))
}

pub(in crate::arch) fn qwen_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let n_full = spec.blocks.iter().take_while(|block| block.window().is_none()).count();
    object(json!({
        "attention_bias": first.qkv_bias,
        "use_sliding_window": window(spec).is_some(),
        "sliding_window": window(spec),
        "max_window_layers": n_full,
        "layer_types": layer_types(spec),
    }))
}

pub(in crate::arch) fn qwen3_moe_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let moe = |block: &BlockSpec| match &block.feed_forward {
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
            "norm_topk_prob": moe.routing == Routing::Softmax { renormalize: true },
        })));
    }
    config
}

pub(in crate::arch) fn gemma3_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let is_full = |block: &BlockSpec| block.window().is_none();
    let local = spec.blocks.iter().find(|block| block.window().is_some());
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
    if let Some(rope) = local.and_then(BlockSpec::rope) {
        config.insert("rope_local_base_freq".to_owned(), json!(rope.theta));
    }
    config
}

pub(in crate::arch) fn smollm3_fields(spec: &Spec, first: &AttentionSpec) -> Config {
    let rotates: Vec<u8> = spec.blocks.iter().map(|block| u8::from(block.rope().is_some())).collect();
    let mut config = llama_fields(spec, first);
    config.extend(object(json!({
        "no_rope_layers": rotates,
        "use_sliding_window": window(spec).is_some(),
        "sliding_window": window(spec),
        "layer_types": layer_types(spec),
    })));
    config
}

pub(in crate::arch) fn bitnet_fields(_: &Spec, _: &AttentionSpec) -> Config {
    Config::new()
}

/// What scores are divided by the square root of: a whole number, as far as the factor's rounding tells.
fn score_divisor(scale: f32) -> Value {
    let divisor = 1.0 / (f64::from(scale) * f64::from(scale));
    let whole = divisor.round();
    if (divisor / whole - 1.0).abs() < 1e-5 { json!(whole as u64) } else { json!(divisor) }
}

fn window(spec: &Spec) -> Option<usize> {
    spec.blocks.iter().find_map(|block| block.window())
}

fn layer_types(spec: &Spec) -> Vec<&'static str> {
    let kind = |block: &BlockSpec| match block.window() {
        Some(_) => "sliding_attention",
        None => "full_attention",
    };
    spec.blocks.iter().map(kind).collect()
}
