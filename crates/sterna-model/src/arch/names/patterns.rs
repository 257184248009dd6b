//! The names of tensors in the three kinds of file.

use super::{Pattern, Role};

/// The name that most families on the Hugging Face hub use, without the prefix of the language model.
pub(super) fn hf_pattern(role: Role) -> Pattern {
    match role {
        Role::Embedding => "embed_tokens.weight",
        Role::FinalNorm => "norm.weight",
        Role::Head => "lm_head.weight",
        Role::MixerNorm => "layers.{i}.input_layernorm.weight",
        Role::MixerPostNorm => "layers.{i}.post_attention_layernorm.weight",
        Role::FeedForwardNorm => "layers.{i}.post_attention_layernorm.weight",
        Role::FeedForwardPostNorm => "layers.{i}.post_feedforward_layernorm.weight",
        Role::Q => "layers.{i}.self_attn.q_proj.weight",
        Role::K => "layers.{i}.self_attn.k_proj.weight",
        Role::V => "layers.{i}.self_attn.v_proj.weight",
        Role::Qkv => "layers.{i}.self_attn.qkv_proj.weight",
        Role::O => "layers.{i}.self_attn.o_proj.weight",
        Role::QNorm => "layers.{i}.self_attn.q_norm.weight",
        Role::KNorm => "layers.{i}.self_attn.k_norm.weight",
        Role::AttentionSubNorm => "layers.{i}.self_attn.attn_sub_norm.weight",
        Role::Gate => "layers.{i}.mlp.gate_proj.weight",
        Role::Up => "layers.{i}.mlp.up_proj.weight",
        Role::GateUp => "layers.{i}.mlp.gate_up_proj.weight",
        Role::Down => "layers.{i}.mlp.down_proj.weight",
        Role::FeedForwardSubNorm => "layers.{i}.mlp.ffn_sub_norm.weight",
        Role::Router => "layers.{i}.mlp.gate.weight",
        Role::ExpertGate => "layers.{i}.mlp.experts.{e}.gate_proj.weight",
        Role::ExpertUp => "layers.{i}.mlp.experts.{e}.up_proj.weight",
        Role::ExpertGateUp => "layers.{i}.mlp.experts.gate_up_proj",
        Role::ExpertDown => "layers.{i}.mlp.experts.{e}.down_proj.weight",
        Role::RouterBias => "layers.{i}.mlp.gate.e_score_correction_bias",
        Role::SharedGate => "layers.{i}.mlp.shared_expert.gate_proj.weight",
        Role::SharedUp => "layers.{i}.mlp.shared_expert.up_proj.weight",
        Role::SharedGateUp => "layers.{i}.mlp.shared_expert.gate_up_proj.weight",
        Role::SharedDown => "layers.{i}.mlp.shared_expert.down_proj.weight",
        Role::LatentIn | Role::LatentOut => "",
        // No file has these apart.
        Role::SsmInZ | Role::SsmInX | Role::SsmInXbc | Role::SsmInDt => "",
        Role::ConvInB | Role::ConvInC | Role::ConvInV | Role::QGate => "",
        Role::DeltaInQ | Role::DeltaInK | Role::DeltaInV | Role::DeltaInZ => "",
        Role::DeltaInB | Role::DeltaInA | Role::DeltaInQkv => "",
        Role::DeltaInQkvz => "layers.{i}.linear_attn.in_proj_qkvz.weight",
        Role::DeltaInBa => "layers.{i}.linear_attn.in_proj_ba.weight",
        Role::SharedExpertGate => "layers.{i}.mlp.shared_expert_gate.weight",
        Role::SsmSelect => "layers.{i}.mamba.x_proj.weight",
        Role::SsmDtNorm => "layers.{i}.mamba.dt_layernorm.weight",
        Role::SsmBNorm => "layers.{i}.mamba.b_layernorm.weight",
        Role::SsmCNorm => "layers.{i}.mamba.c_layernorm.weight",
        Role::SsmDt => "layers.{i}.mamba.dt_proj.weight",
        Role::ConvIn => "layers.{i}.conv.in_proj.weight",
        Role::ConvTaps => "layers.{i}.conv.conv.weight",
        Role::ConvBias => "layers.{i}.conv.conv.bias",
        Role::ConvOut => "layers.{i}.conv.out_proj.weight",
        Role::TransformerNorm => "layers.{owner}.shared_transformer.input_layernorm.weight",
        Role::TransformerOut => "layers.{i}.linear.weight",
        Role::QAdapterIn => {
            "layers.{owner}.shared_transformer.self_attn.linear_q_adapter_list.{use}.0.weight"
        }
        Role::QAdapterOut => {
            "layers.{owner}.shared_transformer.self_attn.linear_q_adapter_list.{use}.1.weight"
        }
        Role::KAdapterIn => {
            "layers.{owner}.shared_transformer.self_attn.linear_k_adapter_list.{use}.0.weight"
        }
        Role::KAdapterOut => {
            "layers.{owner}.shared_transformer.self_attn.linear_k_adapter_list.{use}.1.weight"
        }
        Role::VAdapterIn => {
            "layers.{owner}.shared_transformer.self_attn.linear_v_adapter_list.{use}.0.weight"
        }
        Role::VAdapterOut => {
            "layers.{owner}.shared_transformer.self_attn.linear_v_adapter_list.{use}.1.weight"
        }
        Role::NetworkAdapterIn => {
            "layers.{owner}.shared_transformer.feed_forward.gate_up_proj_adapter_list.{use}.0.weight"
        }
        Role::GateUpAdapterOut => {
            "layers.{owner}.shared_transformer.feed_forward.gate_up_proj_adapter_list.{use}.1.weight"
        }
        Role::GateAdapterOut | Role::UpAdapterOut => "",
        Role::SsmIn => "layers.{i}.mamba.in_proj.weight",
        Role::SsmConv => "layers.{i}.mamba.conv1d.weight",
        Role::SsmConvBias => "layers.{i}.mamba.conv1d.bias",
        Role::SsmDtBias => "layers.{i}.mamba.dt_bias",
        Role::SsmA => "layers.{i}.mamba.A_log",
        Role::SsmD => "layers.{i}.mamba.D",
        Role::SsmNorm => "layers.{i}.mamba.norm.weight",
        Role::SsmOut => "layers.{i}.mamba.out_proj.weight",
    }
}

/// The name in GGUF files, where all families share one vocabulary (gguf-py, `constants.py`).
pub(super) fn gguf_pattern(role: Role) -> Pattern {
    match role {
        Role::Embedding => "token_embd.weight",
        Role::FinalNorm => "output_norm.weight",
        Role::Head => "output.weight",
        Role::MixerNorm => "blk.{i}.attn_norm.weight",
        Role::MixerPostNorm => "blk.{i}.post_attention_norm.weight",
        Role::FeedForwardNorm => "blk.{i}.ffn_norm.weight",
        Role::FeedForwardPostNorm => "blk.{i}.post_ffw_norm.weight",
        Role::Q => "blk.{i}.attn_q.weight",
        Role::K => "blk.{i}.attn_k.weight",
        Role::V => "blk.{i}.attn_v.weight",
        Role::Qkv => "blk.{i}.attn_qkv.weight",
        Role::O => "blk.{i}.attn_output.weight",
        Role::QNorm => "blk.{i}.attn_q_norm.weight",
        Role::KNorm => "blk.{i}.attn_k_norm.weight",
        Role::AttentionSubNorm => "blk.{i}.attn_sub_norm.weight",
        Role::Gate => "blk.{i}.ffn_gate.weight",
        // A file without `ffn_gate` (phi3) keeps gate and up under the name of up.
        Role::Up | Role::GateUp => "blk.{i}.ffn_up.weight",
        Role::Down => "blk.{i}.ffn_down.weight",
        Role::FeedForwardSubNorm => "blk.{i}.ffn_sub_norm.weight",
        Role::Router => "blk.{i}.ffn_gate_inp.weight",
        Role::ExpertGate => "blk.{i}.ffn_gate_exps.weight",
        Role::ExpertUp => "blk.{i}.ffn_up_exps.weight",
        Role::ExpertGateUp => "blk.{i}.ffn_gate_up_exps.weight",
        Role::ExpertDown => "blk.{i}.ffn_down_exps.weight",
        Role::LatentIn => "blk.{i}.ffn_latent_down.weight",
        Role::LatentOut => "blk.{i}.ffn_latent_up.weight",
        Role::RouterBias => "blk.{i}.exp_probs_b.bias",
        Role::SharedGate => "blk.{i}.ffn_gate_shexp.weight",
        Role::SharedUp | Role::SharedGateUp => "blk.{i}.ffn_up_shexp.weight",
        Role::SharedDown => "blk.{i}.ffn_down_shexp.weight",
        Role::QGate => "blk.{i}.attn_q_gate.weight",
        Role::SharedExpertGate => "blk.{i}.ffn_gate_inp_shexp.weight",
        Role::DeltaInQ => "blk.{i}.delta_q.weight",
        Role::DeltaInK => "blk.{i}.delta_k.weight",
        Role::DeltaInV => "blk.{i}.delta_v.weight",
        Role::DeltaInZ => "blk.{i}.attn_gate.weight",
        Role::DeltaInB => "blk.{i}.delta_b.weight",
        Role::DeltaInA => "blk.{i}.delta_a.weight",
        Role::DeltaInQkv => "blk.{i}.attn_qkv.weight",
        // Of older converters.
        Role::DeltaInQkvz => "blk.{i}.ssm_in.weight",
        Role::DeltaInBa => "blk.{i}.ssm_ba.weight",
        Role::SsmInZ => "blk.{i}.ssm_in_z.weight",
        Role::SsmInX => "blk.{i}.ssm_in_x.weight",
        Role::SsmSelect => "blk.{i}.ssm_x.weight",
        Role::SsmDtNorm => "blk.{i}.ssm_dt_norm.weight",
        Role::SsmBNorm => "blk.{i}.ssm_b_norm.weight",
        Role::SsmCNorm => "blk.{i}.ssm_c_norm.weight",
        Role::SsmDt => "blk.{i}.ssm_dt.weight",
        Role::ConvInB => "blk.{i}.shortconv.in_b.weight",
        Role::ConvInC => "blk.{i}.shortconv.in_c.weight",
        Role::ConvInV => "blk.{i}.shortconv.in_v.weight",
        Role::ConvIn => "blk.{i}.shortconv.in_proj.weight",
        Role::ConvTaps => "blk.{i}.shortconv.conv.weight",
        Role::ConvBias => "blk.{i}.shortconv.conv.bias",
        Role::ConvOut => "blk.{i}.shortconv.out_proj.weight",
        Role::SsmInXbc => "blk.{i}.ssm_in_xbc.weight",
        Role::SsmInDt => "blk.{i}.ssm_in_dt.weight",
        Role::TransformerNorm => "blk.{i}.shared_norm.weight",
        Role::TransformerOut => "blk.{i}.shared_out.weight",
        Role::QAdapterIn => "blk.{i}.adapter_q_in.weight",
        Role::QAdapterOut => "blk.{i}.adapter_q_out.weight",
        Role::KAdapterIn => "blk.{i}.adapter_k_in.weight",
        Role::KAdapterOut => "blk.{i}.adapter_k_out.weight",
        Role::VAdapterIn => "blk.{i}.adapter_v_in.weight",
        Role::VAdapterOut => "blk.{i}.adapter_v_out.weight",
        Role::NetworkAdapterIn => "blk.{i}.adapter_ffn_in.weight",
        Role::GateAdapterOut => "blk.{i}.adapter_gate_out.weight",
        Role::UpAdapterOut => "blk.{i}.adapter_up_out.weight",
        Role::GateUpAdapterOut => "",
        Role::SsmIn => "blk.{i}.ssm_in.weight",
        Role::SsmConv => "blk.{i}.ssm_conv1d.weight",
        Role::SsmConvBias => "blk.{i}.ssm_conv1d.bias",
        Role::SsmDtBias => "blk.{i}.ssm_dt.bias",
        Role::SsmA => "blk.{i}.ssm_a",
        Role::SsmD => "blk.{i}.ssm_d",
        Role::SsmNorm => "blk.{i}.ssm_norm.weight",
        Role::SsmOut => "blk.{i}.ssm_out.weight",
    }
}

/// The name in native files: as in GGUF files, but every expert has a matrix of its own.
pub(super) fn native_pattern(role: Role) -> Pattern {
    match role {
        Role::ExpertGate => "blk.{i}.ffn_gate_exps.{e}.weight",
        Role::ExpertUp => "blk.{i}.ffn_up_exps.{e}.weight",
        Role::ExpertDown => "blk.{i}.ffn_down_exps.{e}.weight",
        Role::DeltaInZ => "blk.{i}.delta_z.weight",
        role => gguf_pattern(role),
    }
}

/// All roles but those of several matrices in one, which native files do not have.
pub(super) const ROLES: &[Role] = &[
    Role::Embedding,
    Role::FinalNorm,
    Role::Head,
    Role::MixerNorm,
    Role::MixerPostNorm,
    Role::FeedForwardNorm,
    Role::FeedForwardPostNorm,
    Role::Q,
    Role::K,
    Role::V,
    Role::QGate,
    Role::O,
    Role::QNorm,
    Role::KNorm,
    Role::AttentionSubNorm,
    Role::Gate,
    Role::Up,
    Role::Down,
    Role::FeedForwardSubNorm,
    Role::Router,
    Role::RouterBias,
    Role::ExpertGate,
    Role::ExpertUp,
    Role::ExpertDown,
    Role::LatentIn,
    Role::LatentOut,
    Role::SharedGate,
    Role::SharedUp,
    Role::SharedDown,
    Role::SharedExpertGate,
    Role::DeltaInQ,
    Role::DeltaInK,
    Role::DeltaInV,
    Role::DeltaInZ,
    Role::DeltaInB,
    Role::DeltaInA,
    Role::SsmInZ,
    Role::SsmInX,
    Role::SsmInXbc,
    Role::SsmInDt,
    Role::SsmSelect,
    Role::SsmDtNorm,
    Role::SsmBNorm,
    Role::SsmCNorm,
    Role::SsmDt,
    Role::SsmConv,
    Role::SsmConvBias,
    Role::SsmDtBias,
    Role::SsmA,
    Role::SsmD,
    Role::SsmNorm,
    Role::SsmOut,
    Role::ConvInB,
    Role::ConvInC,
    Role::ConvInV,
    Role::ConvTaps,
    Role::ConvBias,
    Role::ConvOut,
    Role::TransformerNorm,
    Role::TransformerOut,
    Role::QAdapterIn,
    Role::QAdapterOut,
    Role::KAdapterIn,
    Role::KAdapterOut,
    Role::VAdapterIn,
    Role::VAdapterOut,
    Role::NetworkAdapterIn,
    Role::GateAdapterOut,
    Role::UpAdapterOut,
];
