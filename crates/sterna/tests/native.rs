//! The command on native files.

mod common;

use std::path::Path;

use common::{Home, checkpoint};
use serde_json::Value;
use sterna::Checkpoint;
use sterna::native::{About, Documents, Writer};

/// A native file of the fixture `name`, in floats.
fn write(name: &str, path: &Path) {
    let origin = Checkpoint::open(Path::new(&checkpoint(name))).expect("a fixture");
    let mut writer =
        Writer::create(path, &Documents::of(&origin).expect("documents")).expect("a writable place");
    for tensor in sterna_model::native::tensors(&origin).expect("tensors") {
        let values = tensor.load().expect("weights");
        writer.add_f32(&tensor.name, &tensor.shape(), &values).expect("room");
    }
    let recipe = serde_json::json!({"method": "none"});
    let origin = "\u{1b}[31ma fixture".to_owned();
    writer.finish(&About { origin, recipe, ..About::default() }).expect("room");
}

#[test]
fn inspect_tells_what_a_native_file_says_and_verifies_it() {
    let home = Home::new();
    let path = home.path().join("model.sterna");
    write("qwen3_moe", &path);
    let model = path.display().to_string();
    let text = home.ok(&["inspect", &model, "--verify"], "");
    for part in
        ["native 1.4, by sterna", "made of        [31ma fixture", "\"none\"", "are as they were written"]
    {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    let report: Value = serde_json::from_str(&home.ok(&["inspect", &model, "--json"], "")).expect("JSON");
    assert_eq!(report["native"]["recipe"]["method"], "none");
    assert!(report["native"]["verified_bytes"].is_null());

    let mut bytes = std::fs::read(&path).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("room");
    home.ok(&["inspect", &model], "");
    let error = home.error(&["inspect", &model, "--verify"], "");
    assert!(error.contains("model.sterna: tensor ") && error.contains("SHA-256"), "{error}");
}

#[test]
fn only_native_files_can_be_verified() {
    let error = Home::new().error(&["inspect", &checkpoint("llama_gqa"), "--verify"], "");
    assert!(error.contains("only native files"), "{error}");
}

#[test]
fn a_native_file_is_run_as_its_origin_is() {
    let home = Home::new();
    let path = home.path().join("model.sterna");
    write("qwen3", &path);
    let bench = |model: &str| {
        let args = ["bench", model, "-p", "4", "-n", "2", "-r", "1", "-t", "1", "-o", "json"];
        serde_json::from_str::<Value>(&home.ok(&args, "")).expect("JSON")["tests"].as_array().map(Vec::len)
    };
    assert_eq!(bench(&path.display().to_string()), bench(&checkpoint("qwen3")));
}
