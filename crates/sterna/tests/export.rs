//! `sterna export`, and `sterna quantize --format`, over tiny checkpoints with a tokenizer of single bytes.

mod common;

use common::{Home, bytewise};
use serde_json::Value;

const SMALL: &str = "llama_tied_fp16";

fn path(home: &Home, name: &str) -> String {
    home.path().join(name).display().to_string()
}

/// What the model says.
fn text(home: &Home, model: &str) -> String {
    let args = ["run", model, "--raw", "The ferry", "--temp", "0", "-n", "24", "--precision", "float"];
    home.ok(&[&args[..], &["--kv", "f32"]].concat(), "")
}

#[test]
fn an_exported_model_says_the_same() {
    let home = Home::new();
    let (origin, out) = (bytewise(&home, SMALL), path(&home, "out.gguf"));
    let (code, stdout, stderr) = home.run(&["export", &origin, "--to", "gguf", "-o", &out], "");
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("F16 to F16, exactly") && stderr.contains("out.gguf: "), "{stderr}");
    assert_eq!(text(&home, &out), text(&home, &origin));
}

#[test]
fn an_exported_folder_says_the_same() {
    let home = Home::new();
    let (origin, out) = (bytewise(&home, SMALL), path(&home, "dense"));
    home.ok(&["export", &origin, "--to", "hf", "-o", &out], "");
    assert_eq!(text(&home, &out), text(&home, &origin));

    let (native, out) = (path(&home, "native.sterna"), path(&home, "mlx"));
    let rounding = ["--method", "rtn", "--symmetric", "--group", "32", "--calib", "none"];
    home.ok(&[&["quantize", &origin, "-o", &native], &rounding[..]].concat(), "");
    home.ok(&[&["quantize", &origin, "-o", &out, "--format", "mlx"], &rounding[..]].concat(), "");
    assert_eq!(text(&home, &out), text(&home, &native));

    let error = home.error(&["export", &native, "--to", "awq", "-o", &out], "");
    assert!(error.contains("new or empty"), "{error}");
    let error = home.error(&["export", &origin, "--to", "awq", "-o", &path(&home, "awq")], "");
    assert!(error.contains("sterna quantize") && error.contains("found F16"), "{error}");
}

#[test]
fn json_tells_what_became_of_every_tensor() {
    let home = Home::new();
    let (origin, out) = (bytewise(&home, SMALL), path(&home, "out.gguf"));
    let json = home.ok(&["export", &origin, "--to", "gguf", "-o", &out, "--json"], "");
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let size = std::fs::metadata(&out).expect("the file").len();
    assert_eq!((&report["n_bytes"], &report["exact"]), (&size.into(), &true.into()));
    let first = &report["tensors"][0];
    assert_eq!((&first["name"], &first["from"]), (&"token_embd.weight".into(), &"F16".into()));
    assert_eq!(first["shape"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_model_is_quantized_and_exported_in_one_go() {
    let home = Home::new();
    let (origin, out) = (bytewise(&home, SMALL), path(&home, "out.gguf"));
    let native = path(&home, "native.sterna");
    let rounding = ["--method", "rtn", "--symmetric", "--group", "32", "--calib", "none"];
    home.ok(&[&["quantize", &origin, "-o", &native], &rounding[..]].concat(), "");
    home.ok(&[&["quantize", &origin, "-o", &out, "--format", "gguf"], &rounding[..]].concat(), "");
    assert_eq!(text(&home, &out), text(&home, &native));
    let left: Vec<_> = std::fs::read_dir(home.path()).expect("a directory").collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn wrong_names_and_formats_are_refused_before_anything_is_done() {
    let home = Home::new();
    let (origin, out) = (bytewise(&home, SMALL), path(&home, "out.bin"));
    let error = home.error(&["export", &origin, "--to", "gguf", "-o", &out], "");
    assert!(error.contains("out.bin: expected a name that ends in .gguf"), "{error}");
    let error = home.error(&["quantize", &origin, "-o", &out, "--format", "gguf"], "");
    assert!(error.contains("expected a name that ends in .gguf"), "{error}");
    let error = home.error(&["quantize", &origin, "-o", &out], "");
    assert!(error.contains("expected a name that ends in .sterna"), "{error}");
    let (code, _, error) = home.run(&["export", &origin, "--to", "onnx", "-o", &out], "");
    assert!(code == 2 && error.contains("gguf"), "{error}");
    let missing = path(&home, "no/such/directory/out.gguf");
    assert!(home.error(&["export", &origin, "--to", "gguf", "-o", &missing], "").contains("out.gguf.part"));
    assert_eq!(std::fs::read_dir(home.path()).expect("a directory").count(), 1);
}
