//! Names that some families have of their own, on the Hugging Face hub and in GGUF files.

use super::{Role, Vocabulary};

pub(in crate::arch) const GEMMA3: Vocabulary =
    &[(Role::FeedForwardNorm, "layers.{i}.pre_feedforward_layernorm.weight")];

/// Of Bamba, and those that took its words.
pub(in crate::arch) const BAMBA: Vocabulary = &[
    (Role::FinalNorm, "final_layernorm.weight"),
    (Role::FeedForwardNorm, "layers.{i}.pre_ff_layernorm.weight"),
    (Role::Gate, "layers.{i}.feed_forward.gate_proj.weight"),
    (Role::Up, "layers.{i}.feed_forward.up_proj.weight"),
    (Role::Down, "layers.{i}.feed_forward.down_proj.weight"),
];

/// Of Jamba, beside those of Bamba.
pub(in crate::arch) const JAMBA: Vocabulary = &[
    (Role::Router, "layers.{i}.feed_forward.router.weight"),
    (Role::ExpertGate, "layers.{i}.feed_forward.experts.{e}.gate_proj.weight"),
    (Role::ExpertUp, "layers.{i}.feed_forward.experts.{e}.up_proj.weight"),
    (Role::ExpertDown, "layers.{i}.feed_forward.experts.{e}.down_proj.weight"),
    (Role::SsmDtBias, "layers.{i}.mamba.dt_proj.bias"),
];

pub(in crate::arch) const GRANITE: Vocabulary = &[
    (Role::GateUp, "layers.{i}.shared_mlp.input_linear.weight"),
    (Role::Down, "layers.{i}.shared_mlp.output_linear.weight"),
    (Role::SharedGateUp, "layers.{i}.shared_mlp.input_linear.weight"),
    (Role::SharedDown, "layers.{i}.shared_mlp.output_linear.weight"),
    (Role::Router, "layers.{i}.block_sparse_moe.router.layer.weight"),
    (Role::ExpertGateUp, "layers.{i}.block_sparse_moe.input_linear.weight"),
    (Role::ExpertDown, "layers.{i}.block_sparse_moe.output_linear.weight"),
];

pub(in crate::arch) const LFM2: Vocabulary = &[
    (Role::FinalNorm, "embedding_norm.weight"),
    (Role::MixerNorm, "layers.{i}.operator_norm.weight"),
    (Role::FeedForwardNorm, "layers.{i}.ffn_norm.weight"),
    (Role::QNorm, "layers.{i}.self_attn.q_layernorm.weight"),
    (Role::KNorm, "layers.{i}.self_attn.k_layernorm.weight"),
    (Role::O, "layers.{i}.self_attn.out_proj.weight"),
    (Role::Gate, "layers.{i}.feed_forward.w1.weight"),
    (Role::Up, "layers.{i}.feed_forward.w3.weight"),
    (Role::Down, "layers.{i}.feed_forward.w2.weight"),
];

/// Of LFM2 with experts, beside those of LFM2.
pub(in crate::arch) const LFM2_MOE: Vocabulary = &[
    (Role::Router, "layers.{i}.feed_forward.gate.weight"),
    (Role::RouterBias, "layers.{i}.feed_forward.expert_bias"),
    (Role::ExpertGate, "layers.{i}.feed_forward.experts.{e}.w1.weight"),
    (Role::ExpertUp, "layers.{i}.feed_forward.experts.{e}.w3.weight"),
    (Role::ExpertDown, "layers.{i}.feed_forward.experts.{e}.w2.weight"),
];

/// Of the networks that began as Mamba and nothing else.
pub(in crate::arch) const MAMBA: Vocabulary = &[
    (Role::Embedding, "embeddings.weight"),
    (Role::FinalNorm, "norm_f.weight"),
    (Role::MixerNorm, "layers.{i}.norm.weight"),
    (Role::SsmIn, "layers.{i}.mixer.in_proj.weight"),
    (Role::SsmConv, "layers.{i}.mixer.conv1d.weight"),
    (Role::SsmConvBias, "layers.{i}.mixer.conv1d.bias"),
    (Role::SsmA, "layers.{i}.mixer.A_log"),
    (Role::SsmD, "layers.{i}.mixer.D"),
    (Role::SsmOut, "layers.{i}.mixer.out_proj.weight"),
];

/// Of the first Mamba.
pub(in crate::arch) const MAMBA1: Vocabulary = &[
    (Role::SsmSelect, "layers.{i}.mixer.x_proj.weight"),
    (Role::SsmDt, "layers.{i}.mixer.dt_proj.weight"),
    (Role::SsmDtBias, "layers.{i}.mixer.dt_proj.bias"),
];

/// Of the second.
pub(in crate::arch) const MAMBA2: Vocabulary =
    &[(Role::SsmDtBias, "layers.{i}.mixer.dt_bias"), (Role::SsmNorm, "layers.{i}.mixer.norm.weight")];

/// Of Nemotron-H, where a mixer may be many things.
pub(in crate::arch) const NEMOTRON: Vocabulary = &[
    (Role::FeedForwardNorm, "layers.{i}.norm.weight"),
    (Role::Q, "layers.{i}.mixer.q_proj.weight"),
    (Role::K, "layers.{i}.mixer.k_proj.weight"),
    (Role::V, "layers.{i}.mixer.v_proj.weight"),
    (Role::O, "layers.{i}.mixer.o_proj.weight"),
    (Role::Up, "layers.{i}.mixer.up_proj.weight"),
    (Role::Down, "layers.{i}.mixer.down_proj.weight"),
    (Role::Router, "layers.{i}.mixer.gate.weight"),
    (Role::RouterBias, "layers.{i}.mixer.gate.e_score_correction_bias"),
    (Role::ExpertUp, "layers.{i}.mixer.experts.{e}.up_proj.weight"),
    (Role::ExpertDown, "layers.{i}.mixer.experts.{e}.down_proj.weight"),
    (Role::LatentIn, "layers.{i}.mixer.fc1_latent_proj.weight"),
    (Role::LatentOut, "layers.{i}.mixer.fc2_latent_proj.weight"),
    (Role::SharedUp, "layers.{i}.mixer.shared_experts.up_proj.weight"),
    (Role::SharedDown, "layers.{i}.mixer.shared_experts.down_proj.weight"),
];

/// Of Zamba2. `{mamba}` is where a block has its recurrence, `{owner}` the block that has the weights that it shares.
pub(in crate::arch) const ZAMBA2: Vocabulary = &[
    (Role::FinalNorm, "final_layernorm.weight"),
    (Role::MixerNorm, "layers.{i}.{mamba}input_layernorm.weight"),
    (Role::SsmIn, "layers.{i}.{mamba}mamba.in_proj.weight"),
    (Role::SsmConv, "layers.{i}.{mamba}mamba.conv1d.weight"),
    (Role::SsmConvBias, "layers.{i}.{mamba}mamba.conv1d.bias"),
    (Role::SsmDtBias, "layers.{i}.{mamba}mamba.dt_bias"),
    (Role::SsmA, "layers.{i}.{mamba}mamba.A_log"),
    (Role::SsmD, "layers.{i}.{mamba}mamba.D"),
    (Role::SsmNorm, "layers.{i}.{mamba}mamba.norm.weight"),
    (Role::SsmOut, "layers.{i}.{mamba}mamba.out_proj.weight"),
    (Role::Q, "layers.{owner}.shared_transformer.self_attn.q_proj.weight"),
    (Role::K, "layers.{owner}.shared_transformer.self_attn.k_proj.weight"),
    (Role::V, "layers.{owner}.shared_transformer.self_attn.v_proj.weight"),
    (Role::O, "layers.{owner}.shared_transformer.self_attn.o_proj.weight"),
    (Role::FeedForwardNorm, "layers.{owner}.shared_transformer.pre_ff_layernorm.weight"),
    (Role::GateUp, "layers.{owner}.shared_transformer.feed_forward.gate_up_proj.weight"),
    (Role::Down, "layers.{owner}.shared_transformer.feed_forward.down_proj.weight"),
];

/// Of Qwen3-Next's gated delta rule.
pub(in crate::arch) const LINEAR_ATTENTION: Vocabulary = &[
    (Role::SsmConv, "layers.{i}.linear_attn.conv1d.weight"),
    (Role::SsmDtBias, "layers.{i}.linear_attn.dt_bias"),
    (Role::SsmA, "layers.{i}.linear_attn.A_log"),
    (Role::SsmNorm, "layers.{i}.linear_attn.norm.weight"),
    (Role::SsmOut, "layers.{i}.linear_attn.out_proj.weight"),
];

/// Of Falcon-H1 in GGUF files.
pub(in crate::arch) const GGUF_FALCON: Vocabulary = &[(Role::FeedForwardNorm, "blk.{i}.ffn_norm")];

/// Of LFM2 in GGUF files.
pub(in crate::arch) const GGUF_LFM2: Vocabulary = &[(Role::FinalNorm, "token_embd_norm.weight")];

/// Of Nemotron-H in GGUF files, whose blocks have one norm, whatever they are.
pub(in crate::arch) const GGUF_NEMOTRON: Vocabulary = &[(Role::FeedForwardNorm, "blk.{i}.attn_norm.weight")];

/// Of Qwen3-Next in GGUF files.
pub(in crate::arch) const GGUF_QWEN3_NEXT: Vocabulary =
    &[(Role::FeedForwardNorm, "blk.{i}.post_attention_norm.weight")];
