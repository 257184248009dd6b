//! A checkpoint and the native file made of it are the same network.

mod common;

use std::fs;
use std::path::Path;

use common::{CONFIGS, directory, expected, max_difference, native, open};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sterna_formats::native::{About, Documents, Writer};
use sterna_formats::{Checkpoint, Tensor, TensorType};
use sterna_model::native::{TensorKind, tensors};
use sterna_model::spec::{Projections, TernaryStorage};
use sterna_model::{KvType, LoadOptions, Logits, Model, Reference, Spec, State, Workspace, forward};
use sterna_tensor::{Compute, PackedFormat, Pool, Precision};

/// Logits `[ids.len(), vocab_size]` of the fast path.
fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    logits_in(checkpoint, ids, Precision::Float)
}

fn logits_in(checkpoint: &Checkpoint, ids: &[u32], precision: Precision) -> Vec<f32> {
    let compute = Compute::new(2, precision);
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

/// A BitNet with weights and scales as the class `BitLinear` stores them, whose scales divide.
fn bitnet_divided(dir: &Path) -> Checkpoint {
    for file in ["config.json", "model.safetensors"] {
        fs::copy(directory("bitnet_packed").join(file), dir.join(file)).unwrap();
    }
    let config = fs::read_to_string(dir.join("config.json")).unwrap();
    fs::write(dir.join("config.json"), config.replace("autobitlinear", "bitlinear")).unwrap();
    Checkpoint::open(dir).unwrap()
}

#[test]
fn ternary_weights_are_kept_to_the_bit_and_so_are_logits() {
    let dir = tempfile::tempdir().unwrap();
    let ids = expected("bitnet_online").input_ids;
    let storages =
        CONFIGS.iter().flat_map(|config| ["bitnet_online", "bitnet_packed"].map(|it| open(it, config)));
    for origin in storages.chain([bitnet_divided(dir.path())]) {
        for of_group in [PackedFormat::ternary, PackedFormat::trits] {
            let native = native::ternary(&origin, dir.path(), "model.sterna", of_group);
            let is_kept = |tensor: &&Tensor| matches!(tensor.ty, TensorType::Ternary(_));
            assert_eq!(native.tensors().filter(is_kept).count(), 7 * 3);
            assert_eq!(
                native.tensor("blk.0.ffn_down.weight").unwrap().ty,
                TensorType::Ternary(of_group(160).unwrap())
            );
            let projections = Spec::of(&native).unwrap().projections;
            assert_eq!(projections, Projections::Ternary { storage: TernaryStorage::ByType });

            let oracles = [&origin, &native].map(|it| Reference::load(it).unwrap().forward(&ids).unwrap());
            assert_eq!(oracles[0], oracles[1], "the oracle");
            for precision in [Precision::Float, Precision::Int8] {
                let [of_origin, of_native] = [&origin, &native].map(|it| logits_in(it, &ids, precision));
                assert_eq!(of_origin, of_native, "{precision:?}");
            }
            // What is made of the file again is the file.
            let again = native::ternary(&native, dir.path(), "again.sterna", of_group);
            assert_eq!(native.tensors().len(), again.tensors().len());
            for (a, b) in native.tensors().zip(again.tensors()) {
                assert_eq!((&a.name, a.ty, &a.data), (&b.name, b.ty, &b.data));
            }
        }
    }
}

#[test]
fn values_of_ternary_weights_are_those_of_their_codes() {
    let origin = open("bitnet_packed", CONFIGS[0]);
    for tensor in tensors(&origin).unwrap().iter().filter(|tensor| tensor.is_ternary()) {
        let weights = tensor.ternary(PackedFormat::trits, &Pool::new(1)).unwrap().unwrap();
        let codes = weights.matrix.unpack(0..tensor.rows).unwrap().codes;
        let values: Vec<f32> = codes.iter().map(|code| (f32::from(*code) - 1.0) * weights.scale).collect();
        assert_eq!(tensor.load().unwrap(), values, "{}", tensor.name);
        assert_eq!(tensor.load_rows(5..9).unwrap(), values[5 * tensor.cols..9 * tensor.cols]);
        let error = tensor.load_rows(0..tensor.rows + 1).unwrap_err().to_string();
        assert!(error.contains("_proj.weight") && error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn broken_ternary_weights_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let origin = open("bitnet_packed", CONFIGS[0]);
    let error_of = |change: &dyn Fn(&str, &mut Writer) -> bool| {
        let path = dir.path().join("model.sterna");
        let mut writer = Writer::create(&path, &Documents::of(&origin).unwrap()).unwrap();
        for tensor in tensors(&origin).unwrap() {
            if change(&tensor.name, &mut writer) {
                continue;
            }
            match tensor.ternary(PackedFormat::ternary, &Pool::new(1)).unwrap() {
                Some(weights) => weights.write(&tensor.name, &mut writer).unwrap(),
                None => writer.add_f32(&tensor.name, &tensor.shape(), &tensor.load().unwrap()).unwrap(),
            }
        }
        writer.finish(&About::default()).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let compute = Compute::new(1, Precision::Int8);
        let error = Model::load(&checkpoint, &LoadOptions::default(), &compute).unwrap_err().to_string();
        assert!(error.contains("model.sterna"), "{error}");
        error
    };
    let (name, format) = ("blk.1.attn_q.weight", PackedFormat::ternary(64).unwrap());
    let zeros = |rows| vec![0; format.n_bytes(rows, 64).unwrap()];
    let scaled = |shape: &[usize], scale: &[f32]| {
        error_of(&|found, writer| {
            if found == name {
                writer.add_f32("blk.1.attn_q.scale", shape, scale).unwrap();
                writer.add(name, &[64, 64], TensorType::Ternary(format), &zeros(64)).unwrap();
            }
            found == name
        })
    };
    let error = scaled(&[1], &[f32::NAN]);
    assert!(error.contains("blk.1.attn_q.scale"), "{error}");
    let error = scaled(&[2], &[1.0, 1.0]);
    assert!(
        error.contains("blk.1.attn_q.scale") && error.contains("[1]") && error.contains("[2]"),
        "{error}"
    );
    let error = error_of(&|found, writer| {
        if found == name {
            writer.add(name, &[32, 64], TensorType::Ternary(format), &zeros(32)).unwrap();
        }
        found == name
    });
    assert!(error.contains(name) && error.contains("[64, 64]") && error.contains("[32, 64]"), "{error}");
    let error = error_of(&|found, _| found == name);
    assert!(error.contains(name) && error.contains("missing"), "{error}");
}

#[test]
fn ternary_rows_that_are_no_whole_blocks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let origin = directory("bitnet_online");
    let config = fs::read_to_string(origin.join("config.json")).unwrap();
    fs::write(dir.path().join("config.json"), config.replace(": 160", ": 150")).unwrap();
    let file = fs::read(origin.join("model.safetensors")).unwrap();
    let tensors_of = SafeTensors::deserialize(&file).unwrap();
    let cut: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors_of
        .iter()
        .map(|(name, view)| {
            let shape: Vec<usize> = view.shape().iter().map(|&n| if n == 160 { 150 } else { n }).collect();
            let n_bytes = shape.iter().product::<usize>() * 2;
            (name, view.dtype(), shape, view.data()[..n_bytes].to_vec())
        })
        .collect();
    let views =
        cut.iter().map(|(name, ty, shape, data)| (*name, TensorView::new(*ty, shape.clone(), data).unwrap()));
    fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let error = tensors(&Checkpoint::open(dir.path()).unwrap()).unwrap_err().to_string();
    let is_told = error.contains("expected ternary rows of a multiple of 32 weights, found 150");
    assert!(is_told && error.contains("blk.0.ffn_down.weight"), "{error}");
}
