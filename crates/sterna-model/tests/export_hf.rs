//! A checkpoint and the folder that it was exported to are the same network.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::{CONFIGS, expected, float_checkpoints, gguf_checkpoints, max_difference, native, open};
use half::f16;
use sterna_formats::hf::ConfigFile;
use sterna_formats::{Checkpoint, Config};
use sterna_model::export::gguf::{GgufExport, Options};
use sterna_model::export::hf::{HfExport, Target};
use sterna_model::export::{Export, Written};
use sterna_model::native::{TensorKind, tensors};
use sterna_model::{ModelError, Reference, Spec};

fn write(mut export: Box<dyn Export>) -> Result<Vec<Written>, ModelError> {
    let mut written = Vec::new();
    while let Some(tensor) = export.step()? {
        written.push(tensor);
    }
    assert_eq!(written.len(), export.n_tensors());
    export.finish()?;
    Ok(written)
}

/// Exports to a new folder in `dir`.
fn export(
    checkpoint: &Checkpoint,
    dir: &Path,
    target: Target,
) -> Result<(Checkpoint, Vec<Written>), ModelError> {
    let folder = new_path(dir);
    let written = write(Box::new(HfExport::create(checkpoint, &folder, target)?))?;
    Ok((Checkpoint::open(&folder).unwrap(), written))
}

/// A path in `dir` that nothing has.
fn new_path(dir: &Path) -> PathBuf {
    (0..).map(|n| dir.join(n.to_string())).find(|path| !path.exists()).unwrap()
}

fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    Reference::load(checkpoint).unwrap().forward(ids).unwrap()
}

fn config(checkpoint: &Checkpoint) -> &ConfigFile {
    match checkpoint.config() {
        Config::Hf(config) => config,
        Config::Gguf(_) => panic!("a folder has a config.json"),
    }
}

#[test]
fn floats_of_every_family_are_the_same_network_rounded_to_16_bits() {
    let dir = tempfile::tempdir().unwrap();
    for name in float_checkpoints() {
        for config in CONFIGS {
            let origin = open(name, config);
            let (exported, written) = export(&origin, dir.path(), Target::Dense).unwrap();
            assert_eq!(Spec::of(&exported).unwrap(), Spec::of(&origin).unwrap(), "{name}, {config}");
            assert!(written.iter().all(|tensor| tensor.error < 1e-3), "{name}: {written:?}");
            let ids = expected(name).input_ids;
            let difference = max_difference(&logits(&exported, &ids), &logits(&origin, &ids));
            assert!(difference < 0.05, "{name}, {config}: logits differ by {difference}");
        }
    }
}

#[test]
fn a_gguf_file_becomes_a_folder_with_a_configuration_that_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    // The scale of the scores of one, and BitNet's families, are not said in GGUF files.
    for name in gguf_checkpoints() {
        let origin = open(name, CONFIGS[0]);
        let path = new_path(dir.path()).with_extension("gguf");
        write(Box::new(GgufExport::create(&origin, &path, Options::default()).unwrap())).unwrap();
        let gguf = Checkpoint::open(&path).unwrap();
        let (exported, _) = export(&gguf, dir.path(), Target::Dense).unwrap();
        let [ours, theirs] = [&exported, &origin].map(|it| config(it).view());
        for field in ["model_type", "hidden_act", "hidden_activation"] {
            let [ours, theirs] = [&ours, &theirs].map(|view| view.opt_str(field).unwrap());
            assert!(theirs.is_none() || ours == theirs, "{name}: {field}: {ours:?}, not {theirs:?}");
        }
        assert_eq!(ours.strs("architectures").unwrap(), theirs.strs("architectures").unwrap());
        let [names, expected_names] = [&exported, &origin].map(|it| {
            let mut names: Vec<_> = it.tensors().map(|tensor| tensor.name.clone()).collect();
            names.sort();
            names
        });
        assert_eq!(names, expected_names, "{name}");
        let ids = expected(name).input_ids;
        let difference = max_difference(&logits(&exported, &ids), &logits(&gguf, &ids));
        assert!(difference < 0.05, "{name}: logits differ by {difference}");
    }
}

/// The values of all tensors, by canonical name.
fn values(checkpoint: &Checkpoint) -> HashMap<String, (TensorKind, Vec<f32>)> {
    let all = tensors(checkpoint).unwrap();
    all.into_iter().map(|tensor| (tensor.name.clone(), (tensor.kind, tensor.load().unwrap()))).collect()
}

#[test]
fn codes_and_scales_are_kept_and_what_has_none_is_rounded_to_16_bits() {
    let dir = tempfile::tempdir().unwrap();
    for (target, name, format) in [
        (Target::Awq, "llama_gqa", "a4g128"),
        (Target::Awq, "gemma3", "a4g64"),
        (Target::Awq, "qwen2", "s4g32"),
        (Target::Awq, "phi3_plain", "a4g32"),
        (Target::Awq, "qwen3_moe", "a4g32"),
        (Target::Gptq, "llama_gqa", "a4g128"),
        (Target::Gptq, "llama_tied_fp16", "s4g64"),
        (Target::Gptq, "gemma3", "a3g64"),
        (Target::Gptq, "phi3_plain", "s3g32"),
        (Target::Gptq, "qwen3", "a2g64"),
        (Target::Gptq, "mistral_swa", "s2g32"),
        (Target::Gptq, "qwen3_moe", "s8g32"),
        (Target::Mlx, "llama_gqa", "s4g128"),
        (Target::Mlx, "gemma3", "s8g32"),
        (Target::Mlx, "phi3_plain", "s6g64"),
        (Target::Mlx, "qwen2", "s5g32"),
        (Target::Mlx, "qwen3", "s3g64"),
        (Target::Mlx, "smollm3", "s2g32"),
    ] {
        let case = format!("{target:?} of {name} in {format}");
        let origin =
            native::packed(&open(name, CONFIGS[0]), dir.path(), "packed.sterna", format.parse().unwrap());
        let (exported, written) = export(&origin, dir.path(), target).unwrap();
        let (ours, theirs) = (values(&origin), values(&exported));
        assert_eq!(ours.len(), theirs.len(), "{case}");
        let is_coded = |kind| match kind {
            TensorKind::Projection => true,
            TensorKind::Embedding | TensorKind::Head => target == Target::Mlx,
            TensorKind::Router | TensorKind::Vector => false,
        };
        for (tensor, (kind, values)) in &ours {
            let found = &theirs[tensor].1;
            match is_coded(*kind) {
                true => assert_eq!(found, values, "{case}: {tensor}"),
                false => {
                    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / 1024.0 + 1e-6;
                    assert!(found.iter().zip(values).all(is_near), "{case}: {tensor}");
                }
            }
        }
        let n_kept =
            written.iter().filter(|tensor| tensor.error == 0.0 && !tensor.to.ends_with("16")).count();
        assert!(n_kept * 3 > written.len(), "{case}: {n_kept} of {}", written.len());
    }
}

#[test]
fn zero_points_become_biases_rounded_to_f16() {
    let dir = tempfile::tempdir().unwrap();
    let origin = open("llama_gqa", CONFIGS[0]);
    let origin = native::packed(&origin, dir.path(), "packed.sterna", "a4g128".parse().unwrap());
    let (exported, written) = export(&origin, dir.path(), Target::Mlx).unwrap();
    assert!(
        written.iter().all(|tensor| tensor.error < 1e-3) && written.iter().any(|tensor| tensor.error > 0.0)
    );
    let theirs = values(&exported);
    for (tensor, (_, values)) in values(&origin) {
        let largest = values.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
        let difference = max_difference(&theirs[&tensor].1, &values);
        assert!(difference <= largest * f16::EPSILON.to_f32(), "{tensor}: {difference} of {largest}");
    }
    // Read and written once more, biases are what they were.
    let (again, written) = export(&exported, dir.path(), Target::Mlx).unwrap();
    assert!(written.iter().all(|tensor| tensor.error == 0.0));
    assert_eq!(values(&again), theirs);
}

#[test]
fn groups_that_a_runtime_does_not_know_are_said_as_smaller_ones() {
    let dir = tempfile::tempdir().unwrap();
    let origin = open("llama_gqa", CONFIGS[0]);
    for format in ["a4g96", "a4g192", "a4g16384"] {
        let origin = native::packed(&origin, dir.path(), "packed.sterna", format.parse().unwrap());
        let (exported, _) = export(&origin, dir.path(), Target::Awq).unwrap();
        let quantization = config(&exported).view().sub("quantization_config").unwrap();
        let found = quantization.usize("group_size").unwrap();
        assert!([32, 64, 128].contains(&found), "{format}: {found}");
        let (ours, theirs) = (values(&origin), values(&exported));
        assert_eq!(ours["blk.0.ffn_down.weight"], theirs["blk.0.ffn_down.weight"], "{format}");
    }
}

#[test]
fn what_is_not_quantized_as_the_target_stores_it_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let floats = open("llama_gqa", CONFIGS[0]);
    for target in [Target::Awq, Target::Gptq, Target::Mlx] {
        let error = export(&floats, dir.path(), target).unwrap_err().to_string();
        assert!(error.contains("sterna quantize") && error.contains("found BF16"), "{error}");
    }
    let packed = native::packed(&floats, dir.path(), "packed.sterna", "a3g64".parse().unwrap());
    let error = export(&packed, dir.path(), Target::Awq).unwrap_err().to_string();
    assert!(error.contains("codes of 4 bits") && error.contains("found a3g64"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the native file is there");
}

#[test]
fn the_configuration_of_a_folder_is_kept_but_for_what_it_says_about_weights() {
    let dir = tempfile::tempdir().unwrap();
    let origin = open("qwen2", CONFIGS[0]);
    let packed = native::packed(&origin, dir.path(), "packed.sterna", "s4g32".parse().unwrap());
    let (exported, _) = export(&packed, dir.path(), Target::Gptq).unwrap();
    let view = config(&exported).view();
    let quantization = view.sub("quantization_config").unwrap();
    assert_eq!(quantization.str("checkpoint_format").unwrap(), "gptq");
    assert!(quantization.bool("sym").unwrap());
    assert_eq!(view.str("torch_dtype").unwrap(), "float16");
    // The codes of that folder, as floats again: nothing is left of the quantization.
    let (dense, _) = export(&exported, dir.path(), Target::Dense).unwrap();
    assert!(!config(&dense).view().has("quantization_config"));
    assert_eq!(Spec::of(&dense).unwrap(), Spec::of(&origin).unwrap());
}
