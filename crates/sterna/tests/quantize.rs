//! `sterna quantize` on tiny checkpoints: what it can be asked for, and what is left when it is stopped.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Home, bytewise};
use serde_json::Value;

/// Some English, long enough to be calibration text.
const TEXT: &str = include_str!("../../sterna-quant/src/calibration/prose.txt");

/// What `inspect` says of `model`.
fn inspect(home: &Home, model: &str) -> Value {
    serde_json::from_str(&home.ok(&["inspect", model, "--verify", "--tensors", "--json"], "")).expect("JSON")
}

fn path_in(home: &Home, name: &str) -> String {
    home.path().join(name).display().to_string()
}

#[test]
fn a_recipe_says_everything_layer_by_layer() {
    let home = Home::new();
    let (recipe, small) = (path_in(&home, "recipe.toml"), path_in(&home, "small.sterna"));
    let text = "method = \"gptq\"\nbody = \"a4g32\"\nembedding = \"s8g32\"\nhead = \"s6g32\"\n\
                [layers]\n\"blk.0.*\" = \"s5g64\"\n\"blk.*.ffn_down.weight\" = \"a3g32\"\n";
    fs::write(&recipe, text).expect("a file");
    home.ok(&["quantize", &bytewise(&home, "llama_gqa"), "-o", &small, "--recipe", &recipe], "");
    let tensors = inspect(&home, &small)["tensors"].clone();
    let types = tensors.as_array().expect("tensors").iter();
    let type_of = |name: &str| {
        let tensor = types.clone().find(|tensor| tensor["name"] == name).expect(name);
        tensor["type"].as_str().expect("a type").to_owned()
    };
    assert_eq!(type_of("blk.0.attn_q.weight"), "s5g64");
    assert_eq!(type_of("blk.0.ffn_down.weight"), "a3g32");
    assert_eq!(type_of("blk.1.attn_q.weight"), "a4g32");
    assert_eq!(type_of("token_embd.weight"), "s8g32");

    fs::write(&recipe, text.replace("a4g32", "a7g32")).expect("a file");
    let error =
        home.error(&["quantize", &bytewise(&home, "llama_gqa"), "-o", &small, "--recipe", &recipe], "");
    assert!(error.contains("recipe.toml") && error.contains("a7g32"), "{error}");
}

#[test]
fn a_budget_of_bits_is_kept_and_spent() {
    let home = Home::new();
    for (name, budget) in [("llama_gqa", 5.0), ("gemma3", 6.5), ("qwen3_moe", 5.5), ("zamba2_adapter", 6.0)] {
        let small = path_in(&home, "small.sterna");
        home.ok(&["quantize", &bytewise(&home, name), "-o", &small, "--bpw", &budget.to_string()], "");
        let bits = inspect(&home, &small)["bits_per_weight"].as_f64().expect("a number");
        assert!(bits <= budget && bits > 0.9 * budget, "{name}: {bits} of {budget}");
    }
    let small = path_in(&home, "less.sterna");
    let error = home.error(&["quantize", &bytewise(&home, "llama_gqa"), "-o", &small, "--bpw", "2"], "");
    assert!(error.contains("at least"), "{error}");
    assert!(!Path::new(&small).exists());
}

#[test]
fn the_next_budget_begins_with_what_was_measured() {
    let quantize = |home: &Home, budget: &str| {
        let small = path_in(home, "small.sterna");
        home.ok(&["quantize", &bytewise(home, "llama_gqa"), "-o", &small, "--bpw", budget], "");
        fs::read(small).expect("a file")
    };
    let (home, other) = (Home::new(), Home::new());
    quantize(&other, "6");
    let measured: Vec<_> = fs::read_dir(other.path().join("cache/quantize"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(measured.len(), 1);
    let expected = quantize(&home, "5");
    assert!(quantize(&other, "5") == expected);
    let text = fs::read_to_string(&measured[0]).expect("text");
    fs::write(&measured[0], &text[..text.len() / 2]).expect("a file");
    assert!(quantize(&other, "5") == expected);
    assert_eq!(fs::read_to_string(&measured[0]).expect("text"), text);
}

#[test]
fn calibration_text_may_be_the_models_own_or_none() {
    let home = Home::new();
    let small = path_in(&home, "small.sterna");
    let model = bytewise(&home, "llama_gqa");
    home.ok(&["quantize", &model, "-o", &small, "--calib", "self", "--calib-tokens", "100"], "");
    inspect(&home, &small);
    home.ok(&["quantize", &model, "-o", &small, "--calib", "none"], "");
    inspect(&home, &small);
    let error = home.error(&["quantize", &model, "-o", &small, "--calib", "none", "--method", "awq"], "");
    assert!(error.contains("calibration text"), "{error}");
    let error = home.error(&["quantize", &model, "-o", &small, "--calib", "none", "--bpw", "5"], "");
    assert!(error.contains("calibration text"), "{error}");
    let short = path_in(&home, "short.txt");
    fs::write(&short, "too short").expect("a file");
    let error = home.error(&["quantize", &model, "-o", &small, "--calib", &short], "");
    assert!(error.contains("tokens"), "{error}");
}

#[test]
fn a_run_that_is_killed_again_and_again_makes_the_same_file() {
    let home = Home::new();
    let text = path_in(&home, "text");
    fs::write(&text, TEXT).expect("a file");
    let model = bytewise(&home, "qwen3_moe");
    let whole = path_in(&home, "whole.sterna");
    let common = ["--calib", &text, "--bpw", "5.5", "-t", "1"];
    let mut args = vec!["quantize", &model, "-o", &whole];
    args.extend(common);
    home.ok(&args, "");

    let killed = path_in(&home, "killed.sterna");
    fs::write(&killed, "an older file").expect("a file");
    // The first run's measurement is not to be found.
    let other = Home::new();
    args[3] = &killed;
    args.push("--resume");
    let mut kills = 0;
    loop {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sterna"))
            .args(&args)
            .env("STERNA_HOME", other.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sterna starts");
        // A little longer each time, so that every run comes further than the one before, and the last one to the end.
        std::thread::sleep(Duration::from_millis(20 + 50 * kills));
        child.kill().expect("a child");
        if child.wait().expect("a child").success() {
            break;
        }
        assert!(fs::read(&killed).expect("the older file") == b"an older file", "after {kills} kills");
        kills += 1;
    }
    assert!(kills > 2, "{kills} kills");
    assert!(fs::read(&whole).expect("a file") == fs::read(&killed).expect("a file"));
    let names =
        fs::read_dir(home.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains(".part")));
}

#[test]
fn another_request_does_not_go_on_with_the_file() {
    let home = Home::new();
    let small = path_in(&home, "small.sterna");
    let model = bytewise(&home, "llama_gqa");
    // A run that fails at its very end, because the place of the file is taken by a folder.
    fs::create_dir(&small).expect("a folder");
    fs::write(Path::new(&small).join("file"), "").expect("a file");
    home.error(&["quantize", &model, "-o", &small, "--calib", "none"], "");
    assert!(Path::new(&format!("{small}.part.json")).exists());
    let error =
        home.error(&["quantize", &model, "-o", &small, "--calib", "none", "--bits", "3", "--resume"], "");
    assert!(error.contains("another way of rounding"), "{error}");
    fs::remove_dir_all(&small).expect("a folder");
    home.ok(&["quantize", &model, "-o", &small, "--calib", "none", "--resume"], "");
    inspect(&home, &small);
}

/// What `quantize BITNET -o OUT ARGS` makes, and what it says on the way.
fn quantize_bitnet(home: &Home, name: &str, file: &str, args: &[&str]) -> (String, String) {
    let out = path_in(home, file);
    let (code, _, told) =
        home.run(&[&["quantize", &bytewise(home, name), "-o", &out, "--embed-bits", "8"], args].concat(), "");
    assert_eq!(code, 0, "{told}");
    (out, told)
}

/// The types of all ternary matrices of `model`, and of its embedding, each once.
fn types_of(home: &Home, model: &str) -> Vec<String> {
    let report = inspect(home, model);
    let matrices = report["tensors"].as_array().expect("tensors").iter();
    let mut types: Vec<String> = matrices
        .filter(|tensor| tensor["shape"].as_array().is_some_and(|shape| shape.len() == 2))
        .map(|tensor| tensor["type"].as_str().expect("a type").to_owned())
        .collect();
    types.sort();
    types.dedup();
    types
}

#[test]
fn ternary_weights_stay_as_they_are() {
    let home = Home::new();
    let says = |model: &str| {
        let args = ["run", model, "--raw", "The ferry", "--temp", "0", "-n", "24", "--kv", "f32"];
        home.ok(&args, "")
    };
    let recipe = path_in(&home, "recipe.toml");
    let text = "method = \"auto\"\nbody = \"t1g256\"\nembedding = \"s8g32\"\nhead = \"s8g32\"\n";
    fs::write(&recipe, text).expect("a file");
    for name in ["bitnet_online", "bitnet_packed"] {
        let (usual, told) = quantize_bitnet(&home, name, "usual.sterna", &[]);
        assert!(told.contains("weights -1, 0 and 1 stay as they are"), "{told}");
        assert!(!told.contains("errors add up"), "{told}");
        assert_eq!(types_of(&home, &usual), ["s8g32", "t2g160a8", "t2g64a8"]);
        let report = home.ok(&["inspect", &usual], "");
        assert!(report.contains("2-bit x int8 dot") && report.contains("rounded per token"), "{report}");

        // Whatever is asked of others.
        let (other, _) = quantize_bitnet(&home, name, "other.sterna", &["--bits", "3", "--method", "gptq"]);
        assert_eq!(types_of(&home, &other), types_of(&home, &usual));
        let small = path_in(&home, "small.sterna");
        home.ok(&["quantize", &bytewise(&home, name), "-o", &small, "--recipe", &recipe], "");
        assert_eq!(types_of(&home, &small), ["s8g32", "t1g160a8", "t1g64a8"]);
        assert_eq!(says(&small), says(&usual));
        // And back.
        let again = path_in(&home, "again.sterna");
        home.ok(&["quantize", &small, "-o", &again, "--embed-bits", "8"], "");
        assert_eq!(types_of(&home, &again), types_of(&home, &usual));
        assert_eq!(says(&again), says(&usual));
    }
}

#[test]
fn a_budget_counts_ternary_weights_as_they_are() {
    let home = Home::new();
    let model = bytewise(&home, "bitnet_packed");
    let small = path_in(&home, "small.sterna");
    home.ok(&["quantize", &model, "-o", &small, "--bpw", "4"], "");
    let bits = inspect(&home, &small)["bits_per_weight"].as_f64().expect("a number");
    assert!(bits <= 4.0 && bits > 3.0, "{bits}");
    assert!(types_of(&home, &small).contains(&"t2g64a8".to_owned()));
    let error = home.error(&["quantize", &model, "-o", &small, "--bpw", "2"], "");
    assert!(error.contains("at least"), "{error}");
}

#[test]
fn a_ternary_file_is_the_same_from_any_number_of_threads_and_after_a_stop() {
    let home = Home::new();
    let (one, _) = quantize_bitnet(&home, "bitnet_packed", "one.sterna", &["-t", "1"]);
    let (two, _) = quantize_bitnet(&home, "bitnet_packed", "two.sterna", &["-t", "2"]);
    let expected = fs::read(&one).expect("a file");
    assert!(fs::read(&two).expect("a file") == expected);
    // A run that fails at its very end, because the place of the file is taken by a folder.
    let stopped = path_in(&home, "stopped.sterna");
    fs::create_dir_all(Path::new(&stopped).join("folder")).expect("a folder");
    let model = bytewise(&home, "bitnet_packed");
    let args = ["quantize", &model, "-o", &stopped, "--embed-bits", "8"];
    home.error(&args, "");
    assert!(Path::new(&format!("{stopped}.part.json")).exists());
    fs::remove_dir_all(&stopped).expect("a folder");
    home.ok(&[&args[..], &["--resume"]].concat(), "");
    assert!(fs::read(&stopped).expect("a file") == expected);
}

#[test]
fn ternary_weights_are_not_exported() {
    let home = Home::new();
    let (native, _) = quantize_bitnet(&home, "bitnet_packed", "native.sterna", &[]);
    for (to, out) in [("gguf", "out.gguf"), ("awq", "awq"), ("mlx", "mlx"), ("hf", "hf")] {
        let out = path_in(&home, out);
        let error = home.error(&["export", &native, "--to", to, "-o", &out], "");
        assert!(
            error.contains("native.sterna: projections: expected weights that are no ternary"),
            "{error}"
        );
        if to != "hf" {
            let model = bytewise(&home, "bitnet_packed");
            let error = home.error(&["quantize", &model, "-o", &out, "--format", to], "");
            assert!(error.contains("--format") && error.contains("-1, 0 and 1"), "{error}");
        }
        assert!(!Path::new(&out).exists(), "{out}");
    }
}
