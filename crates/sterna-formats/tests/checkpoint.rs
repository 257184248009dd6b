//! Checkpoints as whole directories: the recorded ones open, broken ones say what is wrong and where.

use std::fs;
use std::path::{Path, PathBuf};

use sterna_formats::hf::ConfigFile;
use sterna_formats::{Checkpoint, Config, OtherType, TensorType};
use sterna_tensor::DType;
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints")
}

fn config(checkpoint: &Checkpoint) -> &ConfigFile {
    match checkpoint.config() {
        Config::Hf(config) => config,
        Config::Gguf(_) => panic!("not a GGUF file"),
    }
}

/// A safetensors file of `U8` tensors `[1]`, holding 0, 1, 2, …
fn weights(names: &[&str]) -> Vec<u8> {
    let entry = |(i, name): (usize, &&str)| {
        format!(r#""{name}": {{"dtype": "U8", "shape": [1], "data_offsets": [{i}, {}]}}"#, i + 1)
    };
    let header = format!("{{{}}}", names.iter().enumerate().map(entry).collect::<Vec<_>>().join(", "));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..names.len()).map(|i| i as u8));
    bytes
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn error_of(path: &Path) -> String {
    Checkpoint::open(path).unwrap_err().to_string()
}

#[track_caller]
fn assert_parts(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn every_recorded_checkpoint_opens_with_both_configs() {
    let mut n_checkpoints = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        n_checkpoints += 1;
        for name in ["config.json", "config_v5.json"] {
            let checkpoint = Checkpoint::open_hf(&dir, name).unwrap();
            let view = config(&checkpoint).view();
            let shape = [view.usize("vocab_size").unwrap(), view.usize("hidden_size").unwrap()];
            let embedding = ["model.embed_tokens.weight", "backbone.embeddings.weight"];
            let embedding = embedding.into_iter().find_map(|name| checkpoint.get(name)).unwrap();
            assert_eq!(embedding.shape, shape, "{}", dir.display());
            assert!(embedding.to_f32().unwrap().iter().all(|x| x.is_finite()));
        }
        let checkpoint = Checkpoint::open(&dir).unwrap();
        assert_eq!(checkpoint.generation_config().unwrap().eos_token_ids.len(), 1);
        assert!(checkpoint.tokenizer_json().unwrap().is_none());
        assert!(checkpoint.chat_template().unwrap().is_none());
    }
    assert_ne!(n_checkpoints, 0, "no checkpoint in {}", fixtures().display());
}

#[test]
fn shards_are_one_set_of_tensors() {
    let checkpoint = Checkpoint::open(&fixtures().join("llama_h256_sharded")).unwrap();
    let mut files: Vec<_> = checkpoint.tensors().map(|tensor| tensor.file.to_string()).collect();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), 3);
    let n_elements: usize = checkpoint.tensors().map(|tensor| tensor.n_elements()).sum();
    assert_eq!(n_elements, 853_248, "total_parameters of the index");
}

#[test]
fn packed_ternary_weights_are_carried_as_bytes() {
    let checkpoint = Checkpoint::open(&fixtures().join("bitnet_packed")).unwrap();
    let weight = checkpoint.tensor("model.layers.0.self_attn.q_proj.weight").unwrap();
    assert_eq!(weight.ty, TensorType::Other(OtherType::U8));
    assert_eq!(weight.shape, [16, 64]);
    let scale = checkpoint.tensor("model.layers.0.self_attn.q_proj.weight_scale").unwrap();
    assert_eq!(scale.ty, TensorType::Dense(DType::BF16));
    assert!(scale.to_f32().unwrap()[0] > 0.0);
}

#[test]
fn what_is_not_a_checkpoint_is_told_apart() {
    let dir = directory(&[("model.safetensors", &weights(&["a"])), ("notes.txt", b"hello")]);
    let message = error_of(dir.path());
    assert_parts(&message, &["config.json", "model.safetensors.index.json", ".gguf", "missing"]);
    let message = error_of(&dir.path().join("model.safetensors"));
    assert_parts(&message, &["model.safetensors", "give its directory", &dir.path().display().to_string()]);
    let message = error_of(&dir.path().join("notes.txt"));
    assert_parts(&message, &["notes.txt", "GGUF"]);
    let message = error_of(&dir.path().join("absent"));
    assert_parts(&message, &["absent"]);

    let dir = directory(&[("config.json", b"{}")]);
    assert_parts(&error_of(dir.path()), &["model.safetensors or model.safetensors.index.json", "missing"]);

    let dir = directory(&[("a.gguf", b"x"), ("b.gguf", b"x")]);
    assert_parts(&error_of(dir.path()), &["a.gguf", "b.gguf", "one model"]);
    let dir = directory(&[("a-00001-of-00002.gguf", b"x"), ("a-00002-of-00002.gguf", b"x")]);
    assert_parts(&error_of(dir.path()), &["a-00001-of-00002.gguf"]);
}

#[test]
fn a_shard_outside_the_directory_is_refused() {
    let outside = directory(&[("w.safetensors", &weights(&["a"]))]);
    let absolute = outside.path().join("w.safetensors").display().to_string();
    let shards = [
        "../w.safetensors",
        "x/../../w.safetensors",
        "..",
        "",
        ".",
        "C:w",
        "..\\\\w",
        "/etc/passwd",
        &absolute,
    ];
    for shard in shards {
        let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
        let dir = directory(&[("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())]);
        assert_parts(&error_of(dir.path()), &["index.json", "weight_map[\"a\"]", "inside the directory"]);
    }
}

#[test]
fn a_shard_in_a_folder_is_fine() {
    let index =
        br#"{"metadata": {"total_size": 2}, "weight_map": {"a": "x/1.safetensors", "b": "x/1.safetensors"}}"#;
    let dir = directory(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("x/1.safetensors", &weights(&["b", "a"])),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.tensor("a").unwrap().data[..], [1]);
    assert_parts(&checkpoint.tensor("c").unwrap_err().to_string(), &["tensor c", "missing"]);
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let open = |index: &str, first: &[&str], second: &[&str]| {
        let dir = directory(&[
            ("config.json", b"{}"),
            ("model.safetensors.index.json", index.as_bytes()),
            ("1.safetensors", &weights(first)),
            ("2.safetensors", &weights(second)),
        ]);
        error_of(dir.path())
    };
    let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    assert_parts(&open(index, &["x"], &["b"]), &["1.safetensors", "tensor x", "listed in the index"]);
    assert_parts(&open(index, &["a"], &["a", "b"]), &["2.safetensors", "tensor a", "1.safetensors"]);
    assert_parts(&open(index, &[], &["b"]), &["1.safetensors", "tensor a", "missing"]);
    let twice = r#"{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}"#;
    assert_parts(&open(twice, &["a"], &["a"]), &["tensor a", "twice"]);
    assert_parts(&open(r#"{"weight_map": {"a": 3}}"#, &["a"], &[]), &["index.json", "string"]);
    assert_parts(&open(r#"{"metadata": {}}"#, &["a"], &[]), &["index.json", "weight_map"]);
    let absent = r#"{"weight_map": {"a": "3.safetensors"}}"#;
    assert_parts(&open(absent, &["a"], &[]), &["3.safetensors"]);
}

#[test]
fn chat_templates_are_found_where_they_are_kept() {
    let template_of = |files: &[(&str, &[u8])]| {
        let mut all: Vec<(&str, &[u8])> = vec![("config.json", b"{}")];
        let weights = weights(&["a"]);
        all.push(("model.safetensors", &weights));
        all.extend(files);
        let dir = directory(&all);
        Checkpoint::open(dir.path()).unwrap().chat_template()
    };
    let named = br#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
    let plain: (&str, &[u8]) = ("tokenizer_config.json", br#"{"chat_template": "P"}"#);
    assert_eq!(template_of(&[]).unwrap(), None);
    assert_eq!(template_of(&[("tokenizer_config.json", b"{}")]).unwrap(), None);
    assert_eq!(template_of(&[plain]).unwrap().unwrap(), "P");
    assert_eq!(template_of(&[("tokenizer_config.json", named)]).unwrap().unwrap(), "D");
    assert_eq!(
        template_of(&[("chat_template.json", br#"{"chat_template": "J"}"#), plain]).unwrap().unwrap(),
        "J"
    );
    assert_eq!(template_of(&[("chat_template.jinja", "é".as_bytes()), plain]).unwrap().unwrap(), "é");
    let message =
        template_of(&[("tokenizer_config.json", br#"{"chat_template": 7}"#)]).unwrap_err().to_string();
    assert_parts(&message, &["tokenizer_config.json", "chat_template", "7"]);
    assert!(template_of(&[("chat_template.jinja", b"\xff")]).is_err());
}

#[test]
fn end_tokens_come_from_either_config() {
    let end_tokens = |config: &[u8], generation: Option<&[u8]>| {
        let weights = weights(&["a"]);
        let mut files: Vec<(&str, &[u8])> = vec![("config.json", config), ("model.safetensors", &weights)];
        files.extend(generation.map(|content| ("generation_config.json", content)));
        let dir = directory(&files);
        Checkpoint::open(dir.path()).unwrap().generation_config().unwrap().eos_token_ids
    };
    assert_eq!(end_tokens(br#"{"eos_token_id": 2}"#, None), [2]);
    assert_eq!(end_tokens(br#"{"eos_token_id": 2}"#, Some(b"{}")), [2]);
    assert_eq!(end_tokens(br#"{"eos_token_id": 2}"#, Some(br#"{"eos_token_id": [5, 6]}"#)), [5, 6]);
    assert_eq!(end_tokens(b"{}", None), [0u32; 0]);
}

#[test]
fn an_oversized_config_is_refused_without_parsing() {
    let config = vec![b' '; (4 << 20) + 1];
    let dir = directory(&[("config.json", &config), ("model.safetensors", &weights(&["a"]))]);
    assert_parts(&error_of(dir.path()), &["config.json", "size", "4194304"]);
}
