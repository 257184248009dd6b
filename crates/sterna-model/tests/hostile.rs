//! Configurations and tensors that no network can have are refused by name, before anything is allocated for them.

mod common;

use std::fs;
use std::path::Path;

use common::directory;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use sterna_formats::Checkpoint;
use sterna_model::{LoadOptions, Model, ModelError, Reference};
use sterna_tensor::{Compute, Precision};

/// Loads fixture `name` with fields of its configuration replaced (null removes one); the error both loaders give.
fn refusal(name: &str, changes: &[(&str, Value)]) -> ModelError {
    refusal_with(name, changes, |_, _| {})
}

/// As [`refusal`], with the shape and bytes of every tensor changed by `edit`.
fn refusal_with(name: &str, changes: &[(&str, Value)], edit: impl Fn(&str, &mut Stored)) -> ModelError {
    let dir = tempfile::tempdir().unwrap();
    let source = directory(name);
    write_tensors(&source.join("model.safetensors"), &dir.path().join("model.safetensors"), edit);
    // Real configurations hold what JSON has no word for.
    let config = fs::read_to_string(source.join("config.json")).unwrap().replace("Infinity", "1e30");
    let mut config: Value = serde_json::from_str(&config).unwrap();
    for (key, value) in changes {
        config[key] = value.clone();
    }
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let compute = Compute::new(1, Precision::Float);
    let Err(error) = Model::load(&checkpoint, &LoadOptions::default(), &compute) else {
        panic!("{changes:?} loads")
    };
    let Err(of_oracle) = Reference::load(&checkpoint) else { panic!("{changes:?} loads in the oracle") };
    assert_eq!(error.to_string(), of_oracle.to_string());
    error
}

/// A tensor of a file.
struct Stored {
    ty: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn write_tensors(from: &Path, to: &Path, edit: impl Fn(&str, &mut Stored)) {
    let file = fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let stored = tensors.iter().map(|(name, view)| {
        let (ty, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let mut stored = Stored { ty, shape, bytes };
        edit(name, &mut stored);
        (name, stored)
    });
    let stored: Vec<(&str, Stored)> = stored.collect();
    let views =
        stored.iter().map(|(name, it)| (*name, TensorView::new(it.ty, it.shape.clone(), &it.bytes).unwrap()));
    fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn impossible_configurations_are_refused_by_name() {
    let huge = json!(1u64 << 60);
    for (name, change, named) in [
        ("llama_gqa", ("num_hidden_layers", json!(1_000_000)), "num_hidden_layers"),
        ("llama_gqa", ("num_hidden_layers", json!(0)), "num_hidden_layers"),
        ("llama_gqa", ("num_hidden_layers", json!(-1)), "num_hidden_layers"),
        ("llama_gqa", ("num_hidden_layers", json!("three")), "num_hidden_layers"),
        ("llama_gqa", ("hidden_size", huge.clone()), "hidden_size"),
        ("llama_gqa", ("hidden_size", json!(0)), "hidden_size"),
        ("llama_gqa", ("vocab_size", huge.clone()), "vocab_size"),
        ("llama_gqa", ("intermediate_size", huge.clone()), "intermediate_size"),
        ("llama_gqa", ("num_attention_heads", json!(0)), "num_attention_heads"),
        ("llama_gqa", ("num_attention_heads", json!(5)), "num_key_value_heads"),
        ("llama_gqa", ("num_key_value_heads", json!(3)), "num_key_value_heads"),
        ("llama_gqa", ("rms_norm_eps", json!(-1.0)), "rms_norm_eps"),
        ("llama_gqa", ("rms_norm_eps", Value::Null), "rms_norm_eps"),
        ("llama_gqa", ("rope_theta", json!(0.0)), "rope_theta"),
        ("llama_gqa", ("rope_scaling", json!({"rope_type": "twist"})), "rope_type"),
        ("llama_gqa", ("rope_scaling", json!({"rope_type": "linear", "factor": 0})), "scaling"),
        ("llama_gqa", ("hidden_act", json!("tangent")), "hidden_act"),
        ("llama_gqa", ("max_position_embeddings", json!(0)), "max_position_embeddings"),
        ("phi3_longrope_long", ("partial_rotary_factor", json!(0.5)), "scaling"),
        ("gemma3", ("layer_types", json!(["full_attention"])), "layer_types"),
        ("gemma3", ("use_bidirectional_attention", json!(true)), "use_bidirectional_attention"),
        ("smollm3", ("no_rope_layers", json!([1])), "no_rope_layers"),
        ("qwen3_moe", ("num_experts_per_tok", json!(9)), "num_experts_per_tok"),
        ("qwen3_moe", ("num_local_experts", json!(1u64 << 40)), "num_experts"),
        ("bamba", ("mamba_n_heads", json!(0)), "mamba_n_heads"),
        ("bamba", ("mamba_n_groups", json!(3)), "mamba_n_groups"),
        ("bamba", ("mamba_d_state", huge.clone()), "mamba_d_state"),
        ("bamba", ("mamba_d_conv", json!(1 << 20)), "mamba_d_conv"),
        ("bamba", ("time_step_limit", json!([1.0])), "time_step_limit"),
        ("bamba", ("time_step_limit", json!([1.0, 0.5])), "time_step_limit"),
        ("jamba", ("attn_layer_period", json!(0)), "attn_layer_period"),
        ("jamba", ("mamba_dt_rank", json!(-1)), "mamba_dt_rank"),
        ("jamba", ("mamba_expand", huge.clone()), "mamba_expand"),
        ("lfm2", ("conv_L_cache", json!(0)), "conv_L_cache"),
        ("lfm2", ("block_ffn_dim_multiplier", json!(1e30)), "intermediate_size"),
        ("qwen3_next", ("linear_num_value_heads", json!(3)), "linear_num_value_heads"),
        ("qwen3_next", ("linear_key_head_dim", huge.clone()), "linear_key_head_dim"),
        ("falcon_h1", ("ssm_multipliers", json!([1.0])), "ssm_multipliers"),
        ("falcon_h1", ("key_multiplier", json!(0.0)), "key_multiplier"),
        ("granitemoehybrid_moe", ("layer_types", json!(["mamba"])), "layer_types"),
        ("nemotron_h", ("hybrid_override_pattern", json!("M")), "hybrid_override_pattern"),
        ("nemotron_h", ("hybrid_override_pattern", json!("?MMMM")), "hybrid_override_pattern"),
        ("nemotron_h", ("hybrid_override_pattern", json!("M-M*-M-M*-")), "hybrid_override_pattern"),
        ("nemotron_h_moe", ("n_group", json!(3)), "n_group"),
        ("nemotron_h_moe", ("topk_group", json!(2)), "topk_group"),
        ("nemotron_h_moe", ("moe_latent_size", huge.clone()), "moe_latent_size"),
        ("nemotron_h", ("mamba_hidden_act", json!("gelu")), "mamba_hidden_act"),
        ("mamba", ("hidden_act", json!("gelu")), "hidden_act"),
        ("falcon_mamba", ("mixer_rms_eps", json!(0.0)), "mixer_rms_eps"),
        ("lfm2_moe", ("num_experts_per_tok", json!(7)), "num_experts_per_tok"),
        ("nemotron_h_moe", ("routed_scaling_factor", json!(1e30)), "routed_scaling_factor"),
        // Patterns with an item too few, too many, or of another kind.
        ("bamba", ("attn_layer_indices", json!([9])), "attn_layer_indices"),
        ("bamba", ("attn_layer_indices", json!([2, 2, 2, 2, 2])), "attn_layer_indices"),
        ("lfm2", ("layer_types", json!(vec!["conv"; 6])), "layer_types"),
        ("lfm2", ("layer_types", json!(["conv", "conv", "full_attention", "conv", "?"])), "layer_types[4]"),
        ("qwen3_next", ("mlp_only_layers", json!([7])), "mlp_only_layers"),
        ("zamba2_2blocks", ("layers_block_type", json!(["mamba"])), "layers_block_type"),
        ("zamba2_2blocks", ("layers_block_type", json!(vec!["mamba"; 6])), "layers_block_type"),
        ("zamba2_2blocks", ("layers_block_type", json!(vec!["m"; 5])), "layers_block_type[0]"),
        ("gemma3", ("layer_types", json!(vec!["full_attention"; 99])), "layer_types"),
        // Numbers that 64 bits hold and 32 do not, or not what they are multiplied with.
        ("bamba", ("rms_norm_eps", json!(1e-46)), "rms_norm_eps"),
        ("bamba", ("rms_norm_eps", json!(1e308)), "rms_norm_eps"),
        ("bamba", ("final_logit_softcapping", json!(1e308)), "final_logit_softcapping"),
        ("bamba", ("time_step_limit", json!([-2.0, -1.0])), "time_step_limit"),
        ("bamba", ("time_step_limit", json!([1e38, 1e38])), "time_step_limit"),
        ("bamba", ("partial_rotary_factor", json!(0.0)), "partial_rotary_factor"),
        ("granitemoehybrid_moe", ("embedding_multiplier", json!(1e38)), "embedding_multiplier"),
        ("granitemoehybrid_moe", ("attention_multiplier", json!(1e308)), "attention_multiplier"),
        ("granitemoehybrid_moe", ("logits_scaling", json!(1e-308)), "logits_scaling"),
        ("falcon_h1", ("ssm_multipliers", json!([1.0, 1.0, 1e38, 1.0, 1.0])), "ssm_multipliers"),
        ("gemma3", ("query_pre_attn_scalar", json!(1e-308)), "query_pre_attn_scalar"),
    ] {
        let error = refusal(name, std::slice::from_ref(&change)).to_string();
        assert!(error.contains("config.json") && error.contains(named), "{change:?}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_refused_by_name() {
    let error = refusal("llama_gqa", &[("num_hidden_layers", json!(4))]);
    match &error {
        ModelError::MissingTensor { tensor, expected, .. } => {
            assert_eq!(
                (tensor.as_str(), &expected[..]),
                ("model.layers.3.input_layernorm.weight", &[64][..])
            );
        }
        _ => panic!("{error}"),
    }
    let error = refusal("llama_gqa", &[("intermediate_size", json!(1 << 23))]);
    match &error {
        ModelError::TensorShape { tensor, expected, found, .. } => {
            assert_eq!(tensor, "model.layers.0.mlp.gate_proj.weight");
            assert_eq!((&expected[..], &found[..]), (&[1 << 23, 64][..], &[160, 64][..]));
        }
        _ => panic!("{error}"),
    }
    let error = refusal("llama_gqa", &[("attention_bias", json!(true))]).to_string();
    assert!(error.contains("self_attn.q_proj.bias"), "{error}");
    // Float weights where packed ones are announced.
    let config = json!({"quant_method": "bitnet", "linear_class": "autobitlinear"});
    let error = refusal("bitnet_float", &[("quantization_config", config)]).to_string();
    assert!(error.contains("q_proj.weight"), "{error}");
}

#[test]
fn patterns_of_blocks_that_the_tensors_do_not_follow_are_refused_by_name() {
    for (name, change, missing) in [
        ("bamba", ("attn_layer_indices", json!([1])), "layers.1.self_attn.q_proj.weight"),
        ("bamba", ("attn_layer_indices", json!([])), "layers.2.mamba.in_proj.weight"),
        ("nemotron_h_moe", ("hybrid_override_pattern", json!("EM*ME")), "layers.0.mixer.gate.weight"),
        ("nemotron_h_moe", ("moe_latent_size", json!(16)), "layers.1.mixer.fc1_latent_proj.weight"),
        ("lfm2_moe", ("num_dense_layers", json!(2)), "layers.1.feed_forward.w1.weight"),
    ] {
        let error = refusal(name, std::slice::from_ref(&change)).to_string();
        assert!(error.contains("missing") && error.contains(missing), "{change:?}: {error}");
    }
}

#[test]
fn tensors_that_the_configuration_has_no_use_for_are_refused_by_name() {
    for (name, changes, tensor) in [
        ("bamba", vec![("num_hidden_layers", json!(3))], "model.layers.3."),
        ("bamba", vec![("mamba_conv_bias", json!(false))], "model.layers.0.mamba.conv1d.bias"),
        ("lfm2", vec![("num_hidden_layers", json!(1)), ("layer_types", json!(["conv"]))], "model.layers."),
        ("falcon_h1_norm", vec![("mamba_rms_norm", json!(false))], "mamba.norm.weight"),
        ("jamba", vec![("mamba_conv_bias", json!(false))], "mamba.conv1d.bias"),
        ("nemotron_h_moe", vec![("moe_shared_expert_intermediate_size", json!(0))], "shared_experts."),
    ] {
        let error = refusal(name, &changes).to_string();
        let is_told = error.contains("expected no such tensor by the configuration, found one of shape [");
        assert!(
            is_told && error.contains("model.safetensors") && error.contains(tensor),
            "{changes:?}: {error}"
        );
    }
}

#[test]
fn tensors_that_no_recurrence_can_have_are_refused_by_name() {
    // As many numbers in another order, which nothing else would notice.
    let error = refusal_with("bamba", &[], |name, tensor| {
        if name == "model.layers.0.mamba.conv1d.weight" {
            tensor.shape.reverse();
        }
    });
    let ModelError::TensorShape { tensor, expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!(tensor, "model.layers.0.mamba.conv1d.weight");
    assert_eq!((&expected[..], &found[..]), (&[160, 4][..], &[4, 1, 160][..]));
    let error = refusal_with("jamba", &[], |name, tensor| {
        if name == "model.layers.0.mamba.A_log" {
            tensor.shape.reverse();
        }
    });
    assert!(matches!(&error, ModelError::TensorShape { expected, .. } if expected == &[128, 8]), "{error}");
    // The exponent of a logarithm that 32 bits do not hold.
    let error = refusal_with("bamba", &[], |name, tensor| {
        if name == "model.layers.1.mamba.A_log" {
            let value = [0u8, 0, 0x7f, 0x43];
            tensor.bytes[..2].copy_from_slice(&value[2..]);
        }
    });
    let error = error.to_string();
    let is_told = error.contains("expected logarithms of rates that 32 bits hold, found 255");
    assert!(is_told && error.contains("model.layers.1.mamba.A_log"), "{error}");
}

#[test]
fn an_unknown_architecture_is_not_supported() {
    let error = refusal("llama_gqa", &[("model_type", json!("gpt2"))]);
    assert!(matches!(&error, ModelError::NotSupported { found, .. } if found == "gpt2"), "{error}");
    assert!(
        error.to_string().contains("not supported") && error.to_string().contains("qwen3_moe"),
        "{error}"
    );
}
