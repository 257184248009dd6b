//! A checkpoint and the native file made of it are the same network.

mod common;

use common::{CONFIGS, expected, max_difference, native, open};
use sterna_formats::native::{About, Documents, Writer};
use sterna_formats::{Checkpoint, TensorType};
use sterna_model::native::{TensorKind, tensors};
use sterna_model::{KvType, LoadOptions, Logits, Model, Reference, Spec, State, Workspace, forward};
use sterna_tensor::{Compute, PackedFormat, Precision};

/// Logits `[ids.len(), vocab_size]` of the fast path.
fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    let compute = Compute::new(2, Precision::Float);
    let model = Model::load(checkpoint, &LoadOptions::default(), &compute).unwrap();
    let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
    forward(&model, &compute, &mut state, &mut workspace, ids, Logits::All).unwrap().to_vec()
}

#[test]
fn floats_give_the_same_logits_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "llama_gqa",
        "llama3_rope",
        "llama_h256_sharded",
        "llama_tied_fp16",
        "mistral_swa",
        "gemma3",
        "gemma3_linear_rope",
        "phi3_plain",
        "phi3_longrope_long",
        "qwen2",
        "qwen3_moe",
        "smollm3",
        "bitnet_float",
    ] {
        for config in CONFIGS {
            let origin = open(name, config);
            let native = native::in_floats(&origin, dir.path(), "model.sterna");
            assert_eq!(Spec::of(&native).unwrap(), Spec::of(&origin).unwrap(), "{name}, {config}");
            let ids = expected(name).input_ids;
            let oracles = [&origin, &native].map(|it| Reference::load(it).unwrap().forward(&ids).unwrap());
            assert_eq!(oracles[0], oracles[1], "{name}, {config}: the oracle");
            assert_eq!(logits(&origin, &ids), logits(&native, &ids), "{name}, {config}: the fast path");
        }
    }
}

#[test]
fn packed_matrices_give_the_logits_of_the_values_they_stand_for() {
    let dir = tempfile::tempdir().unwrap();
    for (name, format) in [
        ("llama_gqa", "a4g128"),
        ("llama_tied_fp16", "a3g64"),
        ("gemma3", "s8g32"),
        ("phi3_plain", "a4g32"),
        ("qwen3_moe", "s6g64"),
    ] {
        let origin = open(name, CONFIGS[0]);
        let format: PackedFormat = format.parse().unwrap();
        let packed = native::packed(&origin, dir.path(), "packed.sterna", format);
        let floats = native::in_floats(&packed, dir.path(), "floats.sterna");
        let n_packed = packed.tensors().filter(|tensor| tensor.ty == TensorType::Packed(format)).count();
        assert!(n_packed * 2 > packed.tensors().len(), "{name}: {n_packed} packed tensors");

        let ids = expected(name).input_ids;
        let oracles = [&packed, &floats].map(|it| Reference::load(it).unwrap().forward(&ids).unwrap());
        assert_eq!(oracles[0], oracles[1], "{name}: the oracle");
        let difference = max_difference(&logits(&packed, &ids), &oracles[0]);
        assert!(difference <= 2e-3, "{name}: the fast path differs by {difference}");
        let rounding = max_difference(&oracles[0], &expected(name).logits);
        assert!(rounding > 0.0 && rounding < 20.0, "{name}: rounding moved a logit by {rounding}");
    }
}

#[test]
fn tied_matrices_are_in_the_file_once() {
    let dir = tempfile::tempdir().unwrap();
    for (name, is_tied) in [("llama_tied_fp16", true), ("llama_gqa", false)] {
        let origin = open(name, CONFIGS[0]);
        let list = tensors(&origin).unwrap();
        assert_eq!(list.iter().any(|tensor| tensor.kind == TensorKind::Head), !is_tied);
        let native = native::in_floats(&origin, dir.path(), "model.sterna");
        assert_eq!(native.get("output.weight").is_none(), is_tied);
        assert_eq!(native.tensors().len(), list.len());
    }
}

#[test]
fn rows_can_be_had_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let origin = open("phi3_plain", CONFIGS[0]);
    let packed = native::packed(&origin, dir.path(), "model.sterna", PackedFormat::Q8_0);
    for checkpoint in [&origin, &packed] {
        for tensor in tensors(checkpoint).unwrap().iter().filter(|it| it.kind != TensorKind::Vector) {
            let all = tensor.load().unwrap();
            let rows = (0..tensor.rows).flat_map(|row| tensor.load_rows(row..row + 1).unwrap());
            assert!(rows.eq(all.iter().copied()), "{}", tensor.name);
            assert!(tensor.load_rows(0..tensor.rows + 1).is_err());
        }
    }
}

#[test]
fn ternary_weights_have_no_place_in_native_files() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bitnet_online", "bitnet_packed"] {
        let origin = open(name, CONFIGS[0]);
        let error = tensors(&origin).unwrap_err().to_string();
        assert!(error.contains("projections: expected"), "{error}");

        let path = dir.path().join("model.sterna");
        let writer = Writer::create(&path, &Documents::of(&origin).unwrap()).unwrap();
        writer.finish(&About::default()).unwrap();
        let error = Spec::of(&Checkpoint::open(&path).unwrap()).unwrap_err().to_string();
        assert!(error.contains("config.json: quantization_config.quant_method"), "{error}");
    }
}
