//! The tiny checkpoints with expected results that tests run on (`tests/fixtures/README.md`).
#![allow(dead_code, unreachable_pub)] // Every test file uses its own part.

pub mod gguf;
pub mod native;

use std::path::{Path, PathBuf};

use sterna_formats::{Checkpoint, Tensor, hf, mapped};

/// The checkpoints whose only mixer is attention, each with `config.json` and `config_v5.json`.
pub const ATTENTION_CHECKPOINTS: [&str; 18] = [
    "bitnet_float",
    "bitnet_online",
    "bitnet_packed",
    "gemma3",
    "gemma3_linear_rope",
    "llama3_rope",
    "llama_gqa",
    "llama_h256_sharded",
    "llama_tied_fp16",
    "mistral_swa",
    "phi3_longrope_long",
    "phi3_longrope_short",
    "phi3_plain",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "qwen3_yarn",
    "smollm3",
];

/// Those with recurrences.
pub const HYBRID_CHECKPOINTS: [&str; 15] = [
    "bamba",
    "falcon_h1_bias",
    "falcon_mamba",
    "granitemoehybrid_dense",
    "granitemoehybrid_moe",
    "lfm2_moe",
    "mamba",
    "mamba2",
    "nemotron_h",
    "nemotron_h_latent",
    "nemotron_h_moe",
    "qwen3_next_bias",
    "zamba2_2blocks",
    "zamba2_adapter",
    "zamba2_untied",
];

/// Those with recurrences that a GGUF file can express, and what llama.cpp calls the family.
pub const GGUF_HYBRIDS: [(&str, &str); 16] = [
    ("bamba", "granitehybrid"),
    ("falcon_h1", "falcon-h1"),
    ("falcon_h1_norm", "falcon-h1"),
    ("falcon_mamba", "mamba"),
    ("granitemoehybrid_dense", "granitehybrid"),
    ("granitemoehybrid_moe", "granitehybrid"),
    ("jamba", "jamba"),
    ("lfm2", "lfm2"),
    ("lfm2_moe", "lfm2moe"),
    ("mamba", "mamba"),
    ("mamba2", "mamba2"),
    ("nemotron_h", "nemotron_h"),
    ("nemotron_h_latent", "nemotron_h_moe"),
    ("nemotron_h_moe", "nemotron_h_moe"),
    ("qwen3_next", "qwen3next"),
    ("qwen3_next_bias", "qwen3next"),
];

/// All of them.
pub fn checkpoints() -> impl Iterator<Item = &'static str> {
    ATTENTION_CHECKPOINTS.into_iter().chain(HYBRID_CHECKPOINTS)
}

/// Those of attention whose weights are floats, not ternary.
pub fn float_checkpoints() -> impl Iterator<Item = &'static str> {
    ATTENTION_CHECKPOINTS.into_iter().filter(|name| !["bitnet_online", "bitnet_packed"].contains(name))
}

/// Those that a GGUF file can express: BitNet has no family there, and no Gemma there scales scores as this one does.
pub fn gguf_checkpoints() -> impl Iterator<Item = &'static str> {
    float_checkpoints().filter(|name| !["bitnet_float", "gemma3_linear_rope"].contains(name))
}

/// The two forms of configuration.
pub const CONFIGS: [&str; 2] = ["config.json", "config_v5.json"];

pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints").join(name)
}

pub fn open(name: &str, config: &str) -> Checkpoint {
    Checkpoint::open_hf(&directory(name), config).unwrap()
}

/// What the reference implementation computed.
pub struct Expected {
    pub input_ids: Vec<u32>,
    /// `[input_ids.len(), vocab_size]`.
    pub logits: Vec<f32>,
    pub greedy_ids: Vec<u32>,
}

pub fn expected(name: &str) -> Expected {
    let tensors = read(name, "expected.safetensors");
    let ids = |name: &str| {
        let (words, _) = find(&tensors, name).data.as_chunks::<8>();
        words.iter().map(|word| u32::try_from(i64::from_le_bytes(*word)).unwrap()).collect()
    };
    Expected {
        input_ids: ids("input_ids"),
        logits: find(&tensors, "logits").to_f32().unwrap(),
        greedy_ids: ids("greedy_ids"),
    }
}

/// What the reference implementation had at `site`, `[input_ids.len(), hidden_size]`.
pub fn hidden(name: &str, site: &str) -> Vec<f32> {
    find(&read(name, "hidden.safetensors"), site).to_f32().unwrap()
}

fn read(name: &str, file: &str) -> Vec<Tensor> {
    let path = directory(name).join(file);
    hf::read_safetensors(&path, &mapped::open(&path).unwrap()).unwrap()
}

fn find<'a>(tensors: &'a [Tensor], name: &str) -> &'a Tensor {
    tensors.iter().find(|tensor| tensor.name == name).unwrap()
}

/// How far logits may be from the reference's. Where activations are rounded on the way, one that falls to the other
/// side of a tie moves logits by up to 0.3.
pub fn tolerance(name: &str) -> f32 {
    match name {
        "bitnet_online" | "bitnet_packed" => 0.6,
        _ => 2e-3,
    }
}

pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst })
}
