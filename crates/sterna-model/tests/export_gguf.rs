//! A checkpoint and the GGUF file that it was exported to are the same network.

mod common;

use std::collections::HashSet;
use std::path::Path;

use common::{CONFIGS, GGUF_HYBRIDS, directory, expected, gguf_checkpoints, max_difference, native, open};
use sterna_formats::{Checkpoint, GgmlType, Tensor, TensorType};
use sterna_model::export::gguf::{GgufExport, Options, is_expressible};
use sterna_model::export::{Export, Written};
use sterna_model::{ModelError, Reference, Spec};
use sterna_tensor::{DType, PackedFormat};

fn export(
    checkpoint: &Checkpoint,
    path: &Path,
    options: Options,
) -> Result<(Checkpoint, Vec<Written>), ModelError> {
    let mut export: Box<dyn Export> = Box::new(GgufExport::create(checkpoint, path, options)?);
    let n_tensors = export.n_tensors();
    let mut written = Vec::new();
    while let Some(tensor) = export.step()? {
        written.push(tensor);
    }
    assert_eq!(written.len(), n_tensors);
    let n_bytes = export.finish()?;
    assert_eq!(n_bytes, std::fs::metadata(path).unwrap().len());
    Ok((Checkpoint::open(path).unwrap(), written))
}

fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    Reference::load(checkpoint).unwrap().forward(ids).unwrap()
}

#[test]
fn floats_of_every_family_give_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for name in gguf_checkpoints() {
        for config in CONFIGS {
            let origin = open(name, config);
            let (exported, written) = export(&origin, &path, Options::default()).unwrap();
            assert!(written.iter().all(|tensor| tensor.error == 0.0), "{name}");
            let ids = expected(name).input_ids;
            let difference = max_difference(&logits(&exported, &ids), &logits(&origin, &ids));
            // GGUF files hold divisors of frequencies, and the parameters of YaRN, in single precision.
            let limit = if ["llama3_rope", "qwen3_yarn"].contains(&name) { 1e-4 } else { 0.0 };
            assert!(difference <= limit, "{name}, {config}: logits differ by {difference}");
        }
    }
}

#[test]
fn hybrids_give_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    for (name, architecture) in GGUF_HYBRIDS {
        let path = dir.path().join("model.gguf");
        let origin = open(name, CONFIGS[0]);
        let (exported, _) = export(&origin, &path, Options { exact: true }).unwrap();
        let sterna_formats::Config::Gguf(metadata) = exported.config() else {
            panic!("{name}: no GGUF file")
        };
        assert_eq!(metadata.get::<&str>("general.architecture").unwrap(), Some(architecture), "{name}");
        // Blocks without heads of keys are recurrent, but where a list says which ones are.
        let n_kv_heads = metadata.get::<usize>(&format!("{architecture}.attention.head_count_kv"));
        let is_one_number = ["falcon-h1", "mamba", "mamba2", "qwen3next"].contains(&architecture);
        assert_eq!(n_kv_heads.is_ok(), is_one_number, "{name}");
        let expected = expected(name);
        let difference = max_difference(&logits(&exported, &expected.input_ids), &expected.logits);
        assert!(difference <= 2e-3, "{name}: logits differ by {difference}");
        // And of that file, a native one and its export.
        let native = native::in_floats(&exported, dir.path(), "model.sterna");
        assert_eq!(logits(&native, &expected.input_ids), logits(&exported, &expected.input_ids), "{name}");
        let again = dir.path().join("again.gguf");
        let (again, _) = export(&native, &again, Options { exact: true }).unwrap();
        assert_eq!(logits(&again, &expected.input_ids), logits(&exported, &expected.input_ids), "{name}");
    }
}

#[test]
fn a_file_whose_blocks_do_not_agree_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let (exported, _) = export(&open("bamba", CONFIGS[0]), &path, Options { exact: true }).unwrap();
    let error = |edit: &dyn Fn(&Tensor) -> Option<Tensor>| {
        let tensors = exported.tensors().filter_map(edit).collect();
        let checkpoint = Checkpoint::of_parts(&path, exported.config().clone(), tensors);
        Reference::load(&checkpoint).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error(&|tensor| Some(tensor.clone())), "");
    let message = error(&|tensor| (tensor.name != "blk.1.ssm_conv1d.bias").then(|| tensor.clone()));
    assert!(message.contains("\"blk.1.ssm_conv1d.bias\" is missing (expected shape [160])"), "{message}");
    // A state would grow without end.
    let message = error(&|tensor| {
        let mut bytes = tensor.data.to_vec();
        if tensor.name == "blk.0.ssm_a" {
            bytes[3] ^= 0x80;
        }
        Some(Tensor { data: bytes.into(), ..tensor.clone() })
    });
    assert!(message.contains("\"blk.0.ssm_a\": expected rates not above zero, found "), "{message}");
}

/// What llama.cpp asks of these files, as far as it is not what it asks of others.
#[test]
fn tensors_of_hybrids_are_as_llama_cpp_wants_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for (name, tensor, shape) in [
        ("bamba", "blk.0.ssm_in.weight", &[296, 64][..]),
        ("bamba", "blk.0.ssm_conv1d.weight", &[160, 4]),
        ("bamba", "blk.0.ssm_dt.bias", &[8]),
        ("bamba", "blk.0.ssm_a", &[8, 1]),
        ("bamba", "blk.0.ssm_d", &[8, 1]),
        ("bamba", "blk.0.ssm_norm.weight", &[1, 128]),
        ("mamba2", "blk.0.ssm_norm.weight", &[2, 64]),
        ("jamba", "blk.0.ssm_a", &[128, 8]),
        ("jamba", "blk.0.ssm_x.weight", &[20, 128]),
        ("jamba", "blk.1.ffn_up_exps.weight", &[4, 64, 64]),
        ("falcon_h1", "blk.0.ffn_norm", &[64]),
        ("lfm2", "token_embd_norm.weight", &[64]),
        ("lfm2", "blk.0.shortconv.conv.weight", &[64, 3]),
        ("lfm2", "blk.0.shortconv.in_proj.weight", &[192, 64]),
        ("lfm2_moe", "blk.1.exp_probs_b.bias", &[6]),
        ("lfm2_moe", "blk.1.ffn_gate_exps.weight", &[6, 32, 64]),
        ("mamba", "blk.0.ssm_conv1d.weight", &[128, 4]),
        ("mamba", "blk.0.ssm_dt.weight", &[128, 4]),
        ("nemotron_h", "blk.1.attn_norm.weight", &[64]),
        ("nemotron_h_latent", "blk.1.ffn_latent_down.weight", &[32, 64]),
        ("nemotron_h_latent", "blk.1.ffn_latent_up.weight", &[64, 32]),
        ("nemotron_h_latent", "blk.1.ffn_up_exps.weight", &[8, 32, 32]),
        ("nemotron_h_moe", "blk.1.exp_probs_b.bias", &[8]),
        ("qwen3_next", "blk.0.attn_qkv.weight", &[128, 64]),
        ("qwen3_next", "blk.0.attn_gate.weight", &[64, 64]),
        ("qwen3_next", "blk.0.ssm_ba.weight", &[8, 64]),
        ("qwen3_next", "blk.0.post_attention_norm.weight", &[64]),
        ("qwen3_next", "blk.0.ffn_gate_inp_shexp.weight", &[64]),
        ("qwen3_next", "blk.3.attn_q.weight", &[256, 64]),
        ("qwen3_next_bias", "blk.1.attn_q.bias", &[256]),
    ] {
        let (exported, _) = export(&open(name, CONFIGS[0]), &path, Options::default()).unwrap();
        let found = exported.get(tensor).map(|tensor| tensor.shape.as_slice());
        assert_eq!(found, Some(shape), "{name}: {tensor}");
    }
}

/// Quantized matrices keep their codes, in one tensor with others and where factors are multiplied into scales.
#[test]
fn quantized_hybrids_are_near() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for (name, _) in GGUF_HYBRIDS {
        let format: PackedFormat = "s8g32".parse().unwrap();
        let packed = native::packed(&open(name, CONFIGS[0]), dir.path(), "packed.sterna", format);
        let (exported, written) = export(&packed, &path, Options::default()).unwrap();
        let n = written.iter().filter(|tensor| tensor.to == "Q8_0").count();
        assert!(n > 0, "{name}: {written:?}");
        let is_scaled = name.starts_with("falcon");
        let worst = written.iter().map(|tensor| tensor.error).fold(0.0, f64::max);
        assert!(if is_scaled { worst < 1e-3 } else { worst == 0.0 }, "{name}: {worst}");
        let ids = expected(name).input_ids;
        let difference = max_difference(&logits(&exported, &ids), &logits(&packed, &ids));
        assert!(difference <= if is_scaled { 2e-2 } else { 0.0 }, "{name}: {difference}");
    }
}

#[test]
fn codes_and_scales_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for (name, format, ty) in [
        ("llama_gqa", "s4g32", GgmlType::Q4_0),
        ("llama_gqa", "s2g32", GgmlType::Q4_0),
        ("llama_tied_fp16", "s3g96", GgmlType::Q4_0),
        ("qwen2", "a2g64", GgmlType::Q4_0),
        ("qwen3", "a3g128", GgmlType::Q4_0),
        ("phi3_plain", "a4g32", GgmlType::Q5_0),
        ("gemma3", "a4g128", GgmlType::Q5_0),
        ("mistral_swa", "s5g64", GgmlType::Q5_0),
        ("qwen3_moe", "s6g64", GgmlType::Q8_0),
        ("smollm3", "s8g32", GgmlType::Q8_0),
        ("llama_gqa", "t2g32", GgmlType::Q4_0),
    ] {
        let format: PackedFormat = format.parse().unwrap();
        let packed = native::packed(&open(name, CONFIGS[0]), dir.path(), "packed.sterna", format);
        let (exported, written) = export(&packed, &path, Options { exact: true }).unwrap();
        let n = written.iter().filter(|tensor| tensor.to == ty.name()).count();
        assert!(n > 0 && written.iter().all(|tensor| tensor.error == 0.0), "{name}, {format}: {n}");
        let types = exported.tensors().map(|tensor| tensor.ty);
        let others = types.filter(|found| *found != TensorType::Ggml(ty)).collect::<Vec<_>>();
        assert!(others.iter().all(|ty| *ty == TensorType::Dense(DType::F32)), "{name}, {format}: {others:?}");
        let ids = expected(name).input_ids;
        assert_eq!(logits(&exported, &ids), logits(&packed, &ids), "{name}, {format}");
    }
}

#[test]
fn parts_of_one_tensor_may_have_formats_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for (name, parts, usual, other, ty, exact) in [
        ("phi3_plain", "attn_v", "s4g32", "s6g64", "Q8_0", "Q8_0"),
        ("phi3_plain", "ffn_up", "s4g32", "a4g64", "Q4_1", "Q5_0"),
        ("phi3_plain", "attn_k", "a4g32", "s6g32", "Q8_0", "Q8_0"),
        ("qwen3_moe", "ffn_down_exps.3", "s4g32", "s5g32", "Q5_0", "Q5_0"),
    ] {
        let [usual, other]: [PackedFormat; 2] = [usual, other].map(|format| format.parse().unwrap());
        let of = |tensor: &str| if tensor.contains(parts) { other } else { usual };
        let packed = native::packed_by(&open(name, CONFIGS[0]), dir.path(), "packed.sterna", of);
        let case = format!("{name}, {parts} {other} among {usual}");
        for (ty, options) in [(ty, Options::default()), (exact, Options { exact: true })] {
            let (exported, written) = export(&packed, &path, options).unwrap();
            let is_there = written.iter().any(|tensor| tensor.shape.len() > 1 && tensor.to == ty);
            assert!(is_there, "{case}: {written:?}");
            assert!(written.iter().all(|tensor| tensor.error < 1e-3), "{case}: {written:?}");
            if options.exact {
                assert!(written.iter().all(|tensor| tensor.error == 0.0), "{case}: {written:?}");
                let ids = expected(name).input_ids;
                assert_eq!(logits(&exported, &ids), logits(&packed, &ids), "{case}");
            }
        }
    }
}

#[test]
fn checkpoints_of_other_tools_keep_their_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let ids: Vec<u32> = (1..20).collect();
    for (name, usual, exact) in [
        ("awq_gemm", &["Q4_1"][..], "Q5_0"),
        ("awq_gemm_rows", &["Q4_1"], "Q5_0"),
        ("awq_gemv", &["Q4_1"], "Q5_0"),
        ("gptq_v1", &["Q4_0", "Q8_0"], "Q8_0"),
        ("gptq_v1_asymmetric", &["Q4_0", "Q4_1", "F16"], "F32"),
        ("gptq_v2_asymmetric", &["Q4_1"], "Q5_0"),
        ("gptq_v2_as_v1", &["Q4_0"], "Q4_0"),
        ("gptq_act_order", &["F16"], "F32"),
        ("compressed_asymmetric", &[], "F32"),
        ("compressed_symmetric", &[], "F32"),
        ("mlx_f16", &["Q4_1", "Q5_1", "F16"], "F32"),
        ("mlx_bf16", &["Q4_1", "F16"], "F32"),
        ("mlx_f32", &["Q4_1"], "F32"),
    ] {
        let origin = Checkpoint::open(&directory("../quantized").join(name)).unwrap();
        let (exported, written) = export(&origin, &path, Options { exact: true }).unwrap();
        let is_quantized = |tensor: &&Written| tensor.from.contains("-bit");
        let of_type = written.iter().filter(is_quantized).filter(|tensor| tensor.to == exact);
        assert!(of_type.count() > 0, "{name}: {written:?}");
        assert!(written.iter().all(|tensor| tensor.error == 0.0), "{name}: {written:?}");
        assert_eq!(logits(&exported, &ids), logits(&origin, &ids), "{name}");

        match export(&origin, &path, Options::default()) {
            Ok((exported, written)) => {
                let types: HashSet<&str> =
                    written.iter().filter(is_quantized).map(|tensor| &*tensor.to).collect();
                assert_eq!(types, usual.iter().copied().collect(), "{name}: {written:?}");
                for tensor in &written {
                    assert!(tensor.error < 1e-3, "{name}: {written:?}");
                    let error = relative_error(&origin, &exported, &tensor.name);
                    assert!((error - tensor.error).abs() < 1e-6, "{name}, {tensor:?}: {error}");
                }
            }
            // One of their matrices has scales that are tiny on purpose.
            Err(error) => {
                assert!(usual.is_empty(), "{name}: {error}");
                assert!(error.to_string().contains("an exact export keeps them"), "{name}: {error}");
            }
        }
    }
}

/// How far the values of a tensor of `after` are from those of `before`, in relation to these.
fn relative_error(before: &Checkpoint, after: &Checkpoint, name: &str) -> f64 {
    let [before, after] = [before, after].map(|checkpoint| {
        let tensors = sterna_model::native::tensors(checkpoint).unwrap();
        tensors.iter().find(|tensor| tensor.name == name).unwrap().load().unwrap()
    });
    let sum = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let error = sum(&mut before.iter().zip(&after).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (error / sum(&mut before.iter().map(|a| f64::from(*a)))).sqrt()
}

#[test]
fn minima_of_four_bits_are_rounded_unless_all_is_to_be_exact() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let packed = native::packed(
        &open("llama_gqa", CONFIGS[0]),
        dir.path(),
        "packed.sterna",
        "a4g128".parse().unwrap(),
    );
    let (exported, written) = export(&packed, &path, Options::default()).unwrap();
    let worst = written.iter().map(|tensor| tensor.error).fold(0.0, f64::max);
    assert!(worst > 0.0 && worst < 1e-3, "{worst}");
    for tensor in written.iter().filter(|tensor| tensor.to == "Q4_1") {
        let error = relative_error(&packed, &exported, &tensor.name);
        assert!((error - tensor.error).abs() < 1e-6, "{}: {error}, said {}", tensor.name, tensor.error);
    }
}

#[test]
fn a_gguf_file_is_copied_and_a_native_one_made_of_it_keeps_its_metadata() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["llama3_rope", "phi3_longrope_long", "gemma3", "qwen3_moe"] {
        let [first, copy, again] =
            ["first", "copy", "again"].map(|name| dir.path().join(format!("{name}.gguf")));
        let (gguf, _) = export(&open(name, CONFIGS[0]), &first, Options::default()).unwrap();
        export(&gguf, &copy, Options::default()).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&copy).unwrap(), "{name}");

        let format = PackedFormat::Q8_0;
        let packed = native::packed(&gguf, dir.path(), "packed.sterna", format);
        let (exported, _) = export(&packed, &again, Options::default()).unwrap();
        assert_eq!(Spec::of(&exported).unwrap(), Spec::of(&gguf).unwrap(), "{name}");
        let ids = expected(name).input_ids;
        assert_eq!(logits(&exported, &ids), logits(&packed, &ids), "{name}");
    }
}

#[test]
fn what_metadata_cannot_say_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (name, from, to, complaint) in [
        ("qwen2", r#"_window": false"#, r#"_window": true"#, "block 1"),
        ("qwen3_moe", r#""norm_topk_prob": true"#, r#""norm_topk_prob": false"#, "block 0"),
        (
            "gemma3",
            r#""hidden_activation": "gelu_pytorch_tanh""#,
            r#""hidden_activation": "silu""#,
            "block 0",
        ),
        ("gemma3_linear_rope", "", "", "scale: 0.158"),
    ] {
        let config = std::fs::read_to_string(directory(name).join(CONFIGS[0])).unwrap();
        assert!(config.contains(from), "{name}: {config}");
        let changed = dir.path().join(name);
        std::fs::create_dir(&changed).unwrap();
        std::fs::copy(directory(name).join("model.safetensors"), changed.join("model.safetensors")).unwrap();
        let config =
            config.replace(from, to).replace(r#""max_window_layers": 28"#, r#""max_window_layers": 1"#);
        let config = config.replace(r#""sliding_window": null"#, r#""sliding_window": 8"#);
        std::fs::write(changed.join("config.json"), config).unwrap();
        let path = dir.path().join("model.gguf");
        let changed = Checkpoint::open(&changed).unwrap();
        assert!(is_expressible(&open(name, CONFIGS[0])).is_ok() != from.is_empty(), "{name}");
        assert!(is_expressible(&changed).is_err(), "{name}");
        let error = export(&changed, &path, Options::default()).unwrap_err();
        assert!(error.to_string().contains(complaint), "{name}: {error}");
        assert!(!path.exists() && !dir.path().join("model.gguf.part").exists());
    }
}
