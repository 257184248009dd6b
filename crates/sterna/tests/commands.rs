//! The command over tiny checkpoints without tokenizers: everything but text.

mod common;

use std::io::Read;
use std::process::{Command, Stdio};

use common::{Home, checkpoint};
use serde_json::Value;
use sterna::{Isa, Tuning};
use sterna_tensor::{KernelChoice, KernelFamily};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn wrong_usage_exits_with_2() {
    let home = Home::new();
    for args in [
        &["frobnicate"][..],
        &["run"],
        &["run", "m", "p", "--temp", "warm"],
        &["run", "m", "p", "-n", "0"],
        &["run", "m", "p", "-f", "file"],
        &["bench"],
        &["bench", "m", "-t", "0"],
        &["chat", "m", "--kv", "q4"],
    ] {
        let (code, stdout, stderr) = home.run(args, "");
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}");
        assert!(stderr.contains("error:"), "{args:?}: {stderr}");
    }
}

#[test]
fn help_and_version_succeed() {
    let home = Home::new();
    assert!(home.ok(&["--help"], "").contains("chat"));
    assert!(home.ok(&["--version"], "").starts_with("sterna "));
    for verb in ["chat", "run", "inspect", "bench", "eval", "pull", "list", "rm", "completions"] {
        assert!(home.ok(&[verb, "--help"], "").contains("Usage: sterna"), "{verb}");
    }
}

#[test]
fn inspect_describes_a_network() {
    let home = Home::new();
    let text = home.ok(&["inspect", &checkpoint("qwen3_moe")], "");
    assert!(text.contains("qwen3_moe") && text.contains("experts") && text.contains("BF16"), "{text}");
    assert!(!text.contains("model.norm.weight"));
    let text = home.ok(&["inspect", &checkpoint("qwen3_moe"), "--tensors"], "");
    assert!(text.contains("model.norm.weight"), "{text}");
}

#[test]
fn kernels_are_those_of_the_profile_and_a_bad_one_is_told() {
    let home = Home::new();
    let inspect = |isa: Option<&str>| {
        let mut command = home.sterna(&["inspect", &checkpoint("bitnet_packed"), "--json"]);
        isa.map(|isa| command.env("STERNA_ISA", isa));
        let output = command.output().expect("sterna starts");
        assert!(output.status.success(), "{output:?}");
        let report = json(&String::from_utf8_lossy(&output.stdout));
        let groups = report["groups"].as_array().expect("groups").clone();
        let group =
            groups.into_iter().find(|group| group["chosen_by"] != "only choice").expect("packed weights");
        (group, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(inspect(None).0["chosen_by"], "default");

    let device = sterna::this_device();
    let path = sterna::profile_path(&home.path().join("cache"), &device);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    let mut tuning = Tuning::default();
    tuning.set(
        2,
        KernelChoice {
            few: Some(Isa::Scalar),
            family: Some(KernelFamily::Lookup),
            ..KernelChoice::default()
        },
    );
    let json = sterna::tuning_profile::to_json(&tuning, &device).expect("JSON");
    std::fs::write(&path, &json).expect("a profile");
    let (group, _) = inspect(None);
    assert_eq!(group["chosen_by"], "profile");
    assert!(group["kernel"].to_string().contains("2-bit x int8 lookup, scalar"), "{group}");
    assert_eq!(inspect(Some("scalar")).0["chosen_by"], "STERNA_ISA");

    std::fs::write(&path, json.replace("\"version\": 2", "\"version\": 7")).expect("a profile");
    let (group, told) = inspect(None);
    assert_eq!(group["chosen_by"], "default");
    assert!(
        told.contains("ignoring what was tuned") && told.contains("version: expected 2, found 7"),
        "{told}"
    );
}

#[test]
fn inspect_counts_memory() {
    let home = Home::new();
    let memory = |args: &[&str]| {
        let model = checkpoint("llama_gqa");
        json(&home.ok(&[&["inspect", &model, "--json"], args].concat(), ""))["memory"].clone()
    };
    let (short, long) = (memory(&["--context", "256"]), memory(&["--context", "512"]));
    let f32 = memory(&["--context", "512", "--kv", "f32"]);
    let kv = |memory: &Value| memory["kv_bytes"].as_u64().unwrap_or(0);
    assert!(kv(&short) > 0);
    assert_eq!(kv(&long), 2 * kv(&short));
    assert_eq!(kv(&f32), 2 * kv(&long));
    let parts = ["weights", "embedding", "kv", "state", "scratch", "tokenizer", "program"];
    let sum = parts.iter().filter_map(|part| long[format!("{part}_bytes")].as_u64()).sum();
    assert_eq!(long["total_bytes"].as_u64(), Some(sum));
}

#[test]
fn inspect_names_the_kernels_of_each_instruction_set() {
    let home = Home::new();
    let output =
        home.sterna(&["inspect", &checkpoint("llama_gqa"), "--json"]).env("STERNA_ISA", "scalar").output();
    let report = json(&String::from_utf8(output.expect("sterna starts").stdout).expect("UTF-8"));
    assert_eq!(report["isa"], "scalar");
    assert!(report["groups"][0]["kernel"].as_str().is_some_and(|kernel| kernel.contains("scalar")));
}

#[test]
fn an_unknown_instruction_set_is_an_error() {
    let home = Home::new();
    let output = home.sterna(&["inspect", &checkpoint("llama_gqa")]).env("STERNA_ISA", "mmx").output();
    let output = output.expect("sterna starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mmx"));
}

#[test]
fn bench_times_prompts_and_generation() {
    let home = Home::new();
    let model = checkpoint("qwen3");
    let args = ["bench", &model, "-p", "8", "-n", "4", "-d", "0,8", "-r", "2", "-t", "1,2"];
    let report = json(&home.ok(&[&args[..], &["-o", "json"]].concat(), ""));
    let tests = report["tests"].as_array().expect("tests");
    let names: Vec<&str> = tests.iter().filter_map(|test| test["test"].as_str()).collect();
    let of_a_thread_count = ["pp8", "tg4", "pp8 @ d8", "tg4 @ d8"];
    assert_eq!(names, [of_a_thread_count, of_a_thread_count].concat());
    for test in tests {
        assert!(test["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
        assert_eq!(test["samples_ns"].as_array().map(Vec::len), Some(2));
    }
    assert!(tests[0]["ttft_ms"].is_f64() && tests[0]["read_gb_per_second"].is_null());
    assert!(tests[1]["ttft_ms"].is_null() && tests[1]["read_gb_per_second"].is_f64());
    assert!(report["memory_bandwidth_gb_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
}

/// A network of 150 million made-up weights, large beside the program.
const SHAPE: &str = r#"{"model_type": "llama", "vocab_size": 8192, "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 8, "hidden_act": "silu",
    "max_position_embeddings": 100, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}"#;

#[test]
fn bench_takes_shapes_and_made_up_contexts_and_foresees_their_memory() {
    let home = Home::new();
    let config = home.path().join("shape.json");
    std::fs::write(&config, SHAPE).expect("a file");
    let config = config.display().to_string();
    let args =
        ["bench", "--synthetic", &config, "--kv", "int8", "-p", "0", "-n", "1", "-d", "20480", "-r", "1"];
    let report = json(&home.ok(&[&args[..], &["-t", "1", "-o", "json"]].concat(), ""));
    assert_eq!((&report["context"], &report["kv_type"]), (&"made up".into(), &"int8".into()));
    let test = &report["tests"][0];
    // 2 layers, 8 heads of 128, keys and values of 8.5 bits.
    assert_eq!(test["kv_bytes_per_token"], 2 * 8 * 2 * (128 + 8) * 20480);
    let predicted = report["predicted_rss_bytes"].as_f64().expect("a prediction");
    if cfg!(target_os = "linux") {
        let found = test["rss_bytes"].as_f64().expect("Linux says");
        assert!((predicted / found - 1.0).abs() < 0.05, "predicted {predicted}, found {found}");
    }
}

#[test]
fn what_does_not_fit_in_memory_is_refused_before_it_is_made() {
    let home = Home::new();
    let config = home.path().join("shape.json");
    let large = SHAPE.replace(": 8192", ": 800000").replace("layers\": 2", "layers\": 1000");
    std::fs::write(&config, large).expect("a file");
    let (code, _, stderr) = home.run(&["bench", "--synthetic", &config.display().to_string()], "");
    if cfg!(any(target_os = "linux", target_os = "macos")) {
        assert_eq!(code, 1);
        assert!(stderr.contains("of memory") && stderr.contains("--ignore-memory"), "{stderr}");
    }
}

#[test]
fn bench_knows_the_limits_of_the_machine() {
    let home = Home::new();
    let limits = json(&home.ok(&["bench", "--limits", "-t", "1", "--json"], ""));
    let rates = &limits["rates"][0];
    let levels = limits["levels"].as_array().expect("levels");
    assert_eq!(levels.last().expect("memory")["name"], "memory");
    let read = rates["read_gb_per_second"].as_array().expect("a rate for each level");
    assert_eq!(read.len(), levels.len());
    assert!(read.iter().all(|rate| rate.as_f64().is_some_and(|rate| rate > 0.0)));

    let model = checkpoint("qwen3");
    let args = ["bench", &model, "--limits", "-p", "8", "-n", "4", "-r", "1", "-t", "1"];
    let text = home.ok(&args, "");
    assert!(text.contains("| int8 dot products, GOP/s") && text.contains(" of limit |"), "{text}");
    let report = json(&home.ok(&[&args[..], &["-o", "json"]].concat(), ""));
    assert_eq!(report["limits"]["rates"][0]["threads"], 1);
    assert!(report["multiply_adds_per_token"].as_u64() > Some(0));
}

#[test]
fn bench_needs_room_in_the_context() {
    let home = Home::new();
    let model = checkpoint("qwen3");
    let error = home.error(&["bench", &model, "-p", "20", "-n", "0", "-d", "10", "--context", "16"], "");
    assert!(error.contains("pp20 @ d10 needs 30 tokens but the context holds 16"), "{error}");
}

#[test]
fn a_longer_context_than_the_model_has_is_an_error() {
    let home = Home::new();
    let error = home.error(&["inspect", &checkpoint("llama_gqa"), "--context", "999k"], "");
    assert!(error.contains("1022976") && error.contains("trained for"), "{error}");
}

#[test]
fn a_missing_model_is_named_with_its_neighbours() {
    let home = Home::new();
    assert!(home.error(&["run", "smolm2-135m", "hi"], "").contains("did you mean smollm2-135m"));
    assert!(home.error(&["run", "smollm2-135m", "hi"], "").contains("sterna pull smollm2-135m"));
    assert!(home.error(&["inspect", "./no/such.gguf"], "").contains("./no/such.gguf"));
}

#[test]
fn offline_pulls_nothing() {
    let home = Home::new();
    assert!(home.error(&["pull", "smollm2-135m"], "").contains("offline"));
    assert!(home.error(&["chat"], "").contains("offline"));
}

#[test]
fn a_broken_file_is_an_error_in_one_line() {
    let home = Home::new();
    let file = home.path().join("broken.gguf");
    std::fs::write(&file, b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").expect("written");
    for verb in ["run", "inspect", "bench", "chat"] {
        let error = home.error(&[verb, &file.display().to_string()], "hi");
        assert!(error.contains("broken.gguf"), "{verb}: {error}");
        let errors: Vec<&str> = error.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{verb}: {error}");
    }
}

#[test]
fn text_needs_a_tokenizer() {
    let home = Home::new();
    let error = home.error(&["run", &checkpoint("qwen3"), "hi"], "");
    assert!(error.contains("tokenizer"), "{error}");
}

#[test]
fn a_local_model_is_pulled_listed_and_removed() {
    let home = Home::new();
    let path = home.ok(&["pull", &checkpoint("qwen3"), "--name", "tiny"], "");
    assert!(std::path::Path::new(path.trim()).exists(), "{path}");
    let listed = json(&home.ok(&["list", "--json"], ""));
    assert_eq!((&listed[0]["name"], &listed[0]["path"]), (&Value::from("tiny"), &Value::from(path.trim())));
    assert!(home.ok(&["list"], "").lines().any(|line| line.starts_with("tiny") && line.contains("yes")));
    assert!(home.ok(&["inspect", "tiny"], "").contains("qwen3"));
    home.ok(&["rm", "tiny"], "");
    assert!(home.error(&["rm", "tiny"], "").contains("tiny"));
}

#[test]
fn completions_are_for_each_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(home.ok(&["completions", shell], "").contains("inspect"), "{shell}");
    }
}

/// A pipe that its reader has closed: `sterna completions bash | head -1`.
#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sterna starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut stderr).expect("UTF-8");
    assert!(child.wait().expect("an end").success(), "{stderr}");
    assert_eq!(stderr, "");
}
