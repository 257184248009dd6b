//! The table of families. A row says in what a family differs; what it does not say is as in Llama.

use super::Architecture;
use super::hf_config::families::*;
use super::names::Role;
use super::parts::*;
use crate::spec::{Activation, NormPlacement};

/// All families, in no particular order.
pub(super) const TABLE: &[Architecture] = &[
    LLAMA_ROW,
    Architecture {
        name: "mistral",
        hf: &["mistral"],
        gguf: &[],
        hf_class: "MistralForCausalLM",
        hf_fields: mistral_fields,
        attention: AttentionRule { window: window_everywhere, ..UNBIASED },
        dense: UNBIASED_SWIGLU,
        ..LLAMA_ROW
    },
    Architecture {
        name: "qwen2",
        hf: &["qwen2"],
        gguf: &["qwen2"],
        hf_class: "Qwen2ForCausalLM",
        hf_fields: qwen_fields,
        permuted_in_gguf: false,
        attention: AttentionRule { qkv_bias: Bias::Always, window: window_of_late_blocks, ..UNBIASED },
        dense: UNBIASED_SWIGLU,
        ..LLAMA_ROW
    },
    Architecture {
        name: "qwen3",
        hf: &["qwen3"],
        gguf: &["qwen3"],
        hf_class: "Qwen3ForCausalLM",
        hf_fields: qwen_fields,
        defaults: &[("head_dim", 128.0)],
        permuted_in_gguf: false,
        attention: AttentionRule { qk_norm: true, window: window_of_late_blocks, ..LLAMA },
        dense: UNBIASED_SWIGLU,
        ..LLAMA_ROW
    },
    Architecture {
        name: "qwen3_moe",
        hf: &["qwen3_moe"],
        gguf: &["qwen3moe"],
        hf_class: "Qwen3MoeForCausalLM",
        hf_fields: qwen3_moe_fields,
        permuted_in_gguf: false,
        attention: AttentionRule { qk_norm: true, window: window_if_used, ..LLAMA },
        dense: UNBIASED_SWIGLU,
        feed_forward: moe_or_dense,
        ..LLAMA_ROW
    },
    Architecture {
        name: "phi3",
        hf: &["phi3"],
        gguf: &["phi3"],
        hf_class: "Phi3ForCausalLM",
        hf_fields: mistral_fields,
        defaults: &[("original_max_position_embeddings", 4096.0)],
        permuted_in_gguf: false,
        phi3_in_gguf: true,
        fused_in_hf: true,
        attention: AttentionRule { window: window_everywhere, ..UNBIASED },
        dense: UNBIASED_SWIGLU,
        ..LLAMA_ROW
    },
    Architecture {
        name: "gemma3",
        hf: &["gemma3_text"],
        gguf: &["gemma3"],
        hf_class: "Gemma3ForCausalLM",
        hf_fields: gemma3_fields,
        exceeds_f16: true,
        defaults: &[
            ("vocab_size", 262_208.0),
            ("hidden_size", 2304.0),
            ("intermediate_size", 9216.0),
            ("num_hidden_layers", 26.0),
            ("num_attention_heads", 8.0),
            ("num_key_value_heads", 4.0),
            ("head_dim", 256.0),
            ("max_position_embeddings", 131_072.0),
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 1e6),
            ("rope_local_base_freq", 1e4),
            ("query_pre_attn_scalar", 256.0),
            ("sliding_window", 4096.0),
        ],
        hf_names: &[(Role::FeedForwardNorm, "layers.{i}.pre_feedforward_layernorm.weight")],
        tied_by_default: true,
        norms_less_one: true,
        permuted_in_gguf: false,
        scaled_embedding: true,
        refused_flags: &["use_bidirectional_attention"],
        attention: AttentionRule {
            qk_norm: true,
            window: window_but_every_sixth,
            local_theta: true,
            score_divisor: gemma3_score_divisor,
            ..LLAMA
        },
        dense: DenseRule { activation: Activation::GeluTanh, ..UNBIASED_SWIGLU },
        norms: NormPlacement::Sandwich,
        ..LLAMA_ROW
    },
    Architecture {
        name: "smollm3",
        hf: &["smollm3"],
        gguf: &["smollm3"],
        hf_class: "SmolLM3ForCausalLM",
        hf_fields: smollm3_fields,
        defaults: &[("rope_theta", 2e6)],
        tied_by_default: true,
        attention: AttentionRule {
            window: window_of_unrotated_blocks,
            rotates: rotates_but_every_fourth,
            ..LLAMA
        },
        ..LLAMA_ROW
    },
    BITNET_ROW,
    // The first reproductions of BitNet kept the SiLU of Llama.
    Architecture {
        name: "bitnet_silu",
        hf: &[],
        gguf: &["bitnet"],
        hf_class: "",
        dense: DenseRule { activation: Activation::Silu, ..BITNET_ROW.dense },
        ..BITNET_ROW
    },
];

const LLAMA_ROW: Architecture = Architecture {
    name: "llama",
    hf: &["llama"],
    gguf: &["llama"],
    hf_class: "LlamaForCausalLM",
    hf_fields: llama_fields,
    exceeds_f16: false,
    defaults: &[],
    hf_names: &[],
    tied_by_default: false,
    norms_less_one: false,
    permuted_in_gguf: true,
    phi3_in_gguf: false,
    fused_in_hf: false,
    scaled_embedding: false,
    refused_flags: &[],
    attention: AttentionRule { window: window_of_gguf_mistral, ..LLAMA },
    dense: SWIGLU,
    feed_forward: dense,
    norms: NormPlacement::Pre,
};

const BITNET_ROW: Architecture = Architecture {
    name: "bitnet",
    hf: &["bitnet"],
    gguf: &["bitnet-b1.58", "bitnet-25"],
    hf_class: "BitNetForCausalLM",
    hf_fields: bitnet_fields,
    defaults: &[("rope_theta", 5e5)],
    permuted_in_gguf: false,
    attention: AttentionRule { sub_norm: true, ..LLAMA },
    dense: DenseRule { activation: Activation::Relu2, sub_norm: true, ..UNBIASED_SWIGLU },
    ..LLAMA_ROW
};
