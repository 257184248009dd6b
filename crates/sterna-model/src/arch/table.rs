//! The table of families. A row says in what a family differs; what it does not say is as in Llama.

use super::Architecture;
use super::FactorsInGguf;
use super::GgufName::{self, Always};
use super::experts::*;
use super::fields::{Key, keys};
use super::hf_config::families::*;
use super::names::exceptions;
use super::parts::*;
use super::recurrent::*;
use super::scales::*;
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
        gguf_name: Always("qwen2"),
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
        gguf_name: Always("qwen3"),
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
        gguf_name: Always("qwen3moe"),
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
        gguf_name: Always("phi3"),
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
        gguf_name: Always("gemma3"),
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
        hf_names: &[exceptions::GEMMA3],
        tied_by_default: true,
        norms_less_one: true,
        permuted_in_gguf: false,
        scales: embedding_by_root_of_width,
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
        gguf_name: Always("smollm3"),
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
        gguf_name: Always("bitnet"),
        hf_class: "",
        dense: DenseRule { activation: Activation::Silu, ..BITNET_ROW.dense },
        ..BITNET_ROW
    },
    MAMBA_ROW,
    Architecture {
        name: "falcon_mamba",
        hf: &["falcon_mamba"],
        gguf: &[],
        mamba1: FALCON_MAMBA,
        ..MAMBA_ROW
    },
    Architecture {
        name: "jamba",
        hf: &["jamba"],
        gguf: &["jamba"],
        gguf_name: Always("jamba"),
        hf_names: &[exceptions::BAMBA, exceptions::JAMBA],
        attention: AttentionRule { rotates: |_, _| Ok(false), ..UNBIASED },
        mamba1: JAMBA,
        mixer: mamba1_but_in_every,
        feed_forward: experts_in_every,
        ..HYBRID_ROW
    },
    LFM2_ROW,
    Architecture {
        name: "lfm2_moe",
        hf: &["lfm2_moe"],
        gguf: &["lfm2moe"],
        gguf_name: Always("lfm2moe"),
        hf_names: &[exceptions::LFM2, exceptions::LFM2_MOE],
        feed_forward: experts_after_dense,
        ..LFM2_ROW
    },
    Architecture {
        name: "mamba2",
        hf: &["mamba2"],
        gguf: &["mamba2"],
        gguf_name: Always("mamba2"),
        defaults: &[("max_position_embeddings", 1_048_576.0)],
        hf_names: &[exceptions::MAMBA, exceptions::MAMBA2],
        tied_by_default: true,
        norm_eps: LAYER_NORM_EPS,
        mamba2: MAMBA2,
        mixer: mamba2_everywhere,
        feed_forward: no_feed_forward,
        ..HYBRID_ROW
    },
    Architecture {
        name: "bamba",
        hf: &["bamba"],
        // That of Granite, as which such files are read.
        gguf_name: Always("granitehybrid"),
        permuted_in_gguf: true,
        factors_in_gguf: FactorsInGguf::Said,
        // Half of each head rotates, whatever older configurations say of it.
        defaults: &[("partial_rotary_factor", 0.5)],
        hf_names: &[exceptions::BAMBA],
        mixer: mamba2_but_in_listed,
        ..HYBRID_ROW
    },
    Architecture {
        name: "granitemoehybrid",
        hf: &["granitemoehybrid"],
        gguf: &["granitehybrid"],
        gguf_name: Always("granitehybrid"),
        permuted_in_gguf: true,
        factors_in_gguf: FactorsInGguf::Said,
        hf_names: &[exceptions::GRANITE],
        tied_by_default: true,
        scales: granite_scales,
        attention: AttentionRule { rotates: rotates_if_said, score_divisor: granite_score_divisor, ..LLAMA },
        mixer: mamba2_by_type,
        feed_forward: granite_experts,
        ..HYBRID_ROW
    },
    Architecture {
        name: "falcon_h1",
        hf: &["falcon_h1"],
        gguf: &["falcon-h1"],
        gguf_name: Always("falcon-h1"),
        factors_in_gguf: FactorsInGguf::InWeights,
        hf_names: &[exceptions::BAMBA],
        gguf_names: &[exceptions::GGUF_FALCON],
        scales: falcon_scales,
        attention: AttentionRule { score_divisor: falcon_score_divisor, ..LLAMA },
        mamba2: FALCON,
        mixer: attention_and_mamba2,
        ..HYBRID_ROW
    },
    Architecture {
        name: "qwen3_next",
        hf: &["qwen3_next"],
        gguf: &["qwen3next"],
        gguf_name: Always("qwen3next"),
        defaults: &[("head_dim", 256.0), ("partial_rotary_factor", 0.25)],
        hf_names: &[exceptions::LINEAR_ATTENTION],
        gguf_names: &[exceptions::GGUF_QWEN3_NEXT],
        norms_less_one: true,
        attention: AttentionRule { qk_norm: true, output_gate: true, ..LLAMA },
        mixer: gated_delta_but_in_every,
        feed_forward: moe_beside_gated,
        ..HYBRID_ROW
    },
    Architecture {
        name: "nemotron_h",
        hf: &["nemotron_h"],
        gguf: &["nemotron_h", "nemotron_h_moe"],
        gguf_name: GgufName::ByExperts { without: "nemotron_h", with: "nemotron_h_moe" },
        defaults: &[("head_dim", 128.0)],
        hf_names: &[exceptions::MAMBA, exceptions::MAMBA2, exceptions::NEMOTRON],
        gguf_names: &[exceptions::GGUF_NEMOTRON],
        norm_eps: LAYER_NORM_EPS,
        // The reference has no biases there, whatever `attention_bias` says.
        attention: AttentionRule { rotates: |_, _| Ok(false), ..UNBIASED },
        mamba2: NEMOTRON,
        mixer: mamba2_by_pattern,
        dense: DenseRule { gated: false, activation: Activation::Relu2, ..SWIGLU },
        feed_forward: nemotron_feed_forward,
        ..HYBRID_ROW
    },
    Architecture {
        name: "zamba2",
        hf: &["zamba2"],
        hf_names: &[exceptions::ZAMBA2],
        tied_by_default: true,
        refused_flags: &["use_long_context"],
        attention: AttentionRule {
            head_dim: Key { hf: "attention_head_dim", gguf: "" },
            rotates: rotates_by_flag,
            // Half of a head's inputs is the embedding again.
            score_divisor: |_, head_dim| Ok(head_dim as f64 / 2.0),
            ..UNBIASED
        },
        mamba2: ZAMBA,
        mixer: mamba2_behind_shared,
        dense: DenseRule { activation: Activation::Gelu, bias: Bias::If("add_bias_linear"), ..SWIGLU },
        feed_forward: no_feed_forward,
        ..HYBRID_ROW
    },
];

const MAMBA_ROW: Architecture = Architecture {
    name: "mamba",
    hf: &["mamba"],
    gguf: &["mamba"],
    gguf_name: Always("mamba"),
    defaults: &[("max_position_embeddings", 1_048_576.0)],
    hf_names: &[exceptions::MAMBA, exceptions::MAMBA1],
    tied_by_default: true,
    norm_eps: LAYER_NORM_EPS,
    mixer: mamba1_everywhere,
    feed_forward: no_feed_forward,
    ..HYBRID_ROW
};

const LFM2_ROW: Architecture = Architecture {
    name: "lfm2",
    hf: &["lfm2"],
    gguf: &["lfm2"],
    gguf_name: Always("lfm2"),
    defaults: &[("rope_theta", 1e6)],
    hf_names: &[exceptions::LFM2],
    gguf_names: &[exceptions::GGUF_LFM2],
    tied_by_default: true,
    norm_eps: Key { hf: "norm_eps", ..keys::NORM_EPS },
    attention: AttentionRule { qk_norm: true, ..UNBIASED },
    mixer: short_conv_unless_listed,
    dense: UNBIASED_SWIGLU,
    feed_forward: dense_of_two_thirds,
    ..HYBRID_ROW
};

/// What `rms_norm_eps` is called where the first Mamba was the model.
const LAYER_NORM_EPS: Key = Key { hf: "layer_norm_epsilon", ..keys::NORM_EPS };

/// Networks of several kinds of mixers.
const HYBRID_ROW: Architecture = Architecture {
    name: "",
    hf: &[],
    gguf: &[],
    gguf_name: GgufName::None,
    hf_class: "",
    permuted_in_gguf: false,
    attention: LLAMA,
    ..LLAMA_ROW
};

const LLAMA_ROW: Architecture = Architecture {
    name: "llama",
    hf: &["llama"],
    gguf: &["llama"],
    // Mistral, which has no name of its own there, goes by it too.
    gguf_name: Always("llama"),
    hf_class: "LlamaForCausalLM",
    hf_fields: llama_fields,
    exceeds_f16: false,
    defaults: &[],
    hf_names: &[],
    gguf_names: &[],
    tied_by_default: false,
    norms_less_one: false,
    permuted_in_gguf: true,
    factors_in_gguf: FactorsInGguf::Known,
    phi3_in_gguf: false,
    fused_in_hf: false,
    is_ternary: false,
    norm_eps: keys::NORM_EPS,
    scales: unscaled,
    refused_flags: &[],
    attention: AttentionRule { window: window_of_gguf_mistral, ..LLAMA },
    mamba1: MAMBA1,
    mamba2: BAMBA,
    mixer: attention_everywhere,
    dense: SWIGLU,
    feed_forward: dense,
    norms: NormPlacement::Pre,
};

const BITNET_ROW: Architecture = Architecture {
    name: "bitnet",
    hf: &["bitnet"],
    gguf: &["bitnet-b1.58", "bitnet-25"],
    gguf_name: Always("bitnet-b1.58"),
    hf_class: "BitNetForCausalLM",
    hf_fields: bitnet_fields,
    defaults: &[("rope_theta", 5e5)],
    permuted_in_gguf: false,
    is_ternary: true,
    attention: AttentionRule { sub_norm: true, ..LLAMA },
    dense: DenseRule { activation: Activation::Relu2, sub_norm: true, ..UNBIASED_SWIGLU },
    ..LLAMA_ROW
};
