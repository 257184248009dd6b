//! A fixture converted to GGUF, as llama.cpp's converter would name, permute and shift it, gives the same logits.

mod common;

use common::gguf::GgufWriter;
use common::{CONFIGS, expected, max_difference, open, tolerance};
use sterna_formats::{Checkpoint, OtherType, Tensor, TensorType};
use sterna_model::spec::{AttentionSpec, MixerSpec, Spec};
use sterna_model::{KvType, LoadOptions, Logits, Model, Reference, State, Workspace, forward};
use sterna_tensor::{Compute, Precision};

/// Hugging Face names without `model.layers.N.`, and GGUF names without `blk.N.`.
const NAMES: [(&str, &str); 18] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.attn_sub_norm", "attn_sub_norm"),
    ("mlp.ffn_sub_norm", "ffn_sub_norm"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];

/// The number of the type in tensor tables.
const I2_S: u32 = 36;

#[test]
fn a_checkpoint_and_its_gguf_agree() {
    for (name, architecture) in [
        ("llama_gqa", "llama"),
        ("llama3_rope", "llama"),
        ("mistral_swa", "llama"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen3"),
        ("qwen3_yarn", "qwen3"),
        ("qwen3_moe", "qwen3moe"),
        ("phi3_plain", "phi3"),
        ("phi3_longrope_long", "phi3"),
        ("gemma3", "gemma3"),
        ("smollm3", "smollm3"),
        ("bitnet_float", "bitnet-b1.58"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = convert(&open(name, CONFIGS[0]), architecture).write(dir.path());
        let checkpoint = Checkpoint::open(&path).unwrap();
        let expected = expected(name);
        let of_gguf = Reference::load(&checkpoint).unwrap().forward(&expected.input_ids).unwrap();
        let difference = max_difference(&of_gguf, &expected.logits);
        assert!(difference <= 2e-3, "{name} as {architecture}: the oracle differs by {difference}");

        let compute = Compute::new(2, Precision::Float);
        let model = Model::load(&checkpoint, &LoadOptions::default(), &compute).unwrap();
        let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
        let ids = &expected.input_ids;
        let logits = forward(&model, &compute, &mut state, &mut workspace, ids, Logits::All).unwrap();
        let difference = max_difference(logits, &expected.logits);
        assert!(difference <= 2e-3, "{name} as {architecture}: the fast path differs by {difference}");

        // And so does the native file of it, which has neither permuted rows nor stacked experts.
        let native = common::native::in_floats(&checkpoint, dir.path(), "model.sterna");
        assert_eq!(Spec::of(&native).unwrap(), Spec::of(&checkpoint).unwrap(), "{name} as {architecture}");
        let oracle = Reference::load(&native).unwrap().forward(&expected.input_ids).unwrap();
        assert_eq!(oracle, of_gguf, "{name} as {architecture}, native");
    }
}

/// Ternary weights as bitnet.cpp writes them are those of the checkpoint, and their inputs are rounded per token.
#[test]
fn a_ternary_checkpoint_and_its_i2_s_agree() {
    let name = "bitnet_packed";
    let original = open(name, CONFIGS[0]);
    let expected = expected(name);
    let ids = &expected.input_ids;
    let oracle = Reference::load(&original).unwrap().forward(ids).unwrap();
    for architecture in ["bitnet-b1.58", "bitnet-25"] {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&convert(&original, architecture).write(dir.path())).unwrap();
        let ternary = checkpoint.tensors().filter(|tensor| tensor.ty == TensorType::I2S);
        assert_eq!(ternary.count(), 7 * 3);
        assert_eq!(Reference::load(&checkpoint).unwrap().forward(ids).unwrap(), oracle);
        for precision in [Precision::Int8, Precision::Float] {
            let compute = Compute::new(2, precision);
            let model = Model::load(&checkpoint, &LoadOptions::default(), &compute).unwrap();
            let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
            let logits = forward(&model, &compute, &mut state, &mut workspace, ids, Logits::All).unwrap();
            let difference = max_difference(logits, &expected.logits);
            assert!(difference <= tolerance(name), "{precision:?}: the fast path differs by {difference}");
        }
    }
}

/// The packed ternary `weight` of a Hugging Face checkpoint as I2_S, with its shape.
fn i2_s(weight: &Tensor, scale: f32) -> (Vec<usize>, Vec<u8>) {
    let (stored_rows, cols) = (weight.shape[0], weight.shape[1]);
    let mut data = vec![0; stored_rows * cols + 32];
    for i in 0..4 * stored_rows * cols {
        let (row, col) = (i / cols, i % cols);
        let code = weight.data[row % stored_rows * cols + col] >> (2 * (row / stored_rows)) & 3;
        data[(i >> 7) * 32 + (i & 31)] |= code << (6 - 2 * (i >> 5 & 3));
    }
    data[stored_rows * cols..][..4].copy_from_slice(&scale.to_le_bytes());
    (vec![4 * stored_rows, cols], data)
}

fn convert(checkpoint: &Checkpoint, architecture: &str) -> GgufWriter {
    let spec = Spec::of(checkpoint).unwrap();
    let mut file = GgufWriter::default();
    metadata(&mut file, checkpoint, &spec, architecture);
    let is_permuted = ["llama", "smollm3"].contains(&architecture);
    let is_gemma = architecture == "gemma3";
    let mut experts: Vec<(String, usize, Vec<usize>, Vec<f32>)> = Vec::new();
    for tensor in checkpoint.tensors().filter(|tensor| !tensor.name.ends_with("weight_scale")) {
        let is_ternary = tensor.ty == TensorType::Other(OtherType::U8);
        let mut values = if is_ternary { Vec::new() } else { tensor.to_f32().unwrap() };
        if is_gemma && tensor.name.ends_with("norm.weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        let Some(rest) = tensor.name.strip_prefix("model.layers.") else {
            let name = match tensor.name.as_str() {
                "model.embed_tokens.weight" => "token_embd.weight",
                "model.norm.weight" => "output_norm.weight",
                "lm_head.weight" => "output.weight",
                other => panic!("{other}"),
            };
            file.tensor(name, &tensor.shape, &values);
            continue;
        };
        let (block, rest) = rest.split_once('.').unwrap();
        let (stem, kind) = rest.rsplit_once('.').unwrap();
        if let Some(expert) = stem.strip_prefix("mlp.experts.") {
            let (expert, part) = expert.split_once('.').unwrap();
            let part = part.strip_suffix("_proj").unwrap();
            let name = format!("blk.{block}.ffn_{part}_exps.weight");
            experts.push((name, expert.parse().unwrap(), tensor.shape.clone(), values));
            continue;
        }
        let attention = attention_of(&spec, block.parse().unwrap());
        match stem {
            "self_attn.q_proj" if is_permuted => values = permuted(&values, attention.n_heads, &tensor.shape),
            "self_attn.k_proj" if is_permuted => {
                values = permuted(&values, attention.n_kv_heads, &tensor.shape)
            }
            _ => {}
        }
        let name = match stem {
            "post_attention_layernorm" if is_gemma => "post_attention_norm",
            _ => NAMES.iter().find(|(hf, _)| *hf == stem).unwrap().1,
        };
        let name = format!("blk.{block}.{name}.{kind}");
        if is_ternary {
            let scale = checkpoint.get(&format!("{}_scale", tensor.name)).unwrap().to_f32().unwrap()[0];
            let (shape, data) = i2_s(tensor, scale);
            file.stored(&name, &shape, I2_S, &data);
        } else {
            file.tensor(&name, &tensor.shape, &values);
        }
    }
    experts.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    for stack in experts.chunk_by(|a, b| a.0 == b.0) {
        let values: Vec<f32> = stack.iter().flat_map(|(.., values)| values).copied().collect();
        file.tensor(&stack[0].0, &[stack.len(), stack[0].2[0], stack[0].2[1]], &values);
    }
    file
}

fn attention_of(spec: &Spec, block: usize) -> &AttentionSpec {
    match &spec.blocks[block].mixer {
        MixerSpec::Attention(attention) => attention,
        other => panic!("{other:?}"),
    }
}

/// Rows i and i + head_dim/2 of every head side by side.
fn permuted(values: &[f32], n_heads: usize, shape: &[usize]) -> Vec<f32> {
    let row_len = values.len() / shape[0];
    let head_dim = shape[0] / n_heads;
    let rows: Vec<&[f32]> = values.chunks_exact(row_len).collect();
    let heads = rows.chunks_exact(head_dim);
    heads.flat_map(|head| (0..head_dim).flat_map(|i| head[i / 2 + i % 2 * head_dim / 2])).copied().collect()
}

fn metadata(file: &mut GgufWriter, checkpoint: &Checkpoint, spec: &Spec, architecture: &str) {
    let sterna_formats::Config::Hf(config) = checkpoint.config() else { panic!("a Hugging Face checkpoint") };
    let config = config.view();
    file.str("general.architecture", architecture);
    let mut u32 = |key: &str, value: usize| file.u32(&format!("{architecture}.{key}"), value as u32);
    u32("block_count", spec.blocks.len());
    u32("context_length", spec.context_length);
    u32("embedding_length", spec.hidden_size);
    u32("feed_forward_length", config.usize("intermediate_size").unwrap());
    u32("attention.head_count", config.usize("num_attention_heads").unwrap());
    if let Some(head_dim) = config.opt_usize("head_dim").unwrap() {
        u32("attention.key_length", head_dim);
        u32("attention.value_length", head_dim);
    }
    if let Some(window) = config.opt_usize("sliding_window").unwrap() {
        u32("attention.sliding_window", window);
    }
    if let Some(pattern) = config.opt_usize("sliding_window_pattern").unwrap() {
        u32("attention.sliding_window_pattern", pattern);
    }
    if let Some(n_active) = config.opt_usize("num_experts_per_tok").unwrap() {
        u32("expert_count", config.usize("num_local_experts").unwrap());
        u32("expert_used_count", n_active);
        u32("expert_feed_forward_length", config.usize("moe_intermediate_size").unwrap());
    }
    let attention = attention_of(spec, 0);
    let rope = attention.rope.as_ref().unwrap();
    u32("rope.dimension_count", rope.n_dims);
    // One number for each block, as files with differing blocks have them.
    let n_kv_heads = vec![attention.n_kv_heads as u32; spec.blocks.len()];
    file.u32s(&format!("{architecture}.attention.head_count_kv"), &n_kv_heads);
    file.f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"), spec.norm_eps);
    file.f32(&format!("{architecture}.rope.freq_base"), config.f32("rope_theta").unwrap());
    let Some(scaling) = config.opt_sub("rope_scaling").unwrap() else { return };
    let kind = scaling.str(if scaling.has("type") { "type" } else { "rope_type" }).unwrap();
    match kind {
        "yarn" => {
            file.str(&format!("{architecture}.rope.scaling.type"), "yarn");
            file.f32(&format!("{architecture}.rope.scaling.factor"), scaling.f32("factor").unwrap());
            let original = scaling.u32("original_max_position_embeddings").unwrap();
            file.u32(&format!("{architecture}.rope.scaling.original_context_length"), original);
        }
        "longrope" => {
            let original = config.u32("original_max_position_embeddings").unwrap();
            file.u32(&format!("{architecture}.rope.scaling.original_context_length"), original);
            file.f32(&format!("{architecture}.rope.scaling.attn_factor"), rope.attention_factor());
            for (name, field) in [("long", "long_factor"), ("short", "short_factor")] {
                let divisors = scaling.f32s(field).unwrap();
                file.tensor(&format!("rope_factors_{name}.weight"), &[divisors.len()], &divisors);
            }
        }
        "llama3" => {
            // The converter writes what the frequencies were divided by.
            let plain = sterna_model::rope::RopeSpec {
                scaling: sterna_model::rope::RopeScaling::None,
                ..rope.clone()
            };
            let scaled = rope.frequencies(Default::default());
            let divisors: Vec<f32> =
                plain.frequencies(Default::default()).iter().zip(&scaled).map(|(a, b)| a / b).collect();
            file.tensor("rope_freqs.weight", &[divisors.len()], &divisors);
        }
        other => panic!("{other}"),
    }
}
