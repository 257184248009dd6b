//! The command over real models; `cargo xtask test` brings them and runs this.

mod common;

use common::{Home, fixture};
use serde_json::Value;

/// The path of `smollm2`, `gemma3` or `qwen25`.
fn model(name: &str) -> String {
    let directory = std::env::var("STERNA_TEST_MODELS")
        .unwrap_or_else(|_| panic!("STERNA_TEST_MODELS is not set; `cargo xtask models` brings the models"));
    let path = std::path::Path::new(&directory).join(format!("{name}.gguf"));
    assert!(path.is_file(), "{} is missing; `cargo xtask models` brings it", path.display());
    path.display().to_string()
}

fn reference(name: &str) -> Value {
    let path = fixture("real").join(name).join("reference.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the reference")).expect("JSON")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// The least margin over the second best token, in logits, that rounding cannot turn: float arithmetic over exactly the
/// reference's weights is off by far less.
const MARGIN: f64 = 0.05;

/// How many greedy tokens must agree.
fn certain(margins: &Value) -> usize {
    let margins = margins.as_array().expect("margins");
    margins.iter().take_while(|margin| margin.as_f64().is_some_and(|margin| margin > MARGIN)).count()
}

/// `found` agrees with `expected` as far as the first `n_tokens` tokens reach, which is at least that many characters.
fn assert_agrees(found: &str, expected: &str, n_tokens: usize, total: usize) {
    match n_tokens >= total {
        true => assert_eq!(found, expected),
        false => assert_eq!(
            found.chars().take(n_tokens).collect::<String>(),
            expected.chars().take(n_tokens).collect::<String>()
        ),
    }
}

#[test]
fn greedy_answers_are_the_reference_answers() {
    let home = Home::new();
    let model = model("smollm2");
    for chat in reference("smollm2")["dequantised_fp32"]["chats"].as_array().expect("chats") {
        let content = |role: &str| {
            let messages = chat["messages"].as_array().expect("messages");
            messages
                .iter()
                .find(|message| message["role"] == role)
                .and_then(|message| message["content"].as_str())
        };
        let mut args = vec!["run", &model, content("user").expect("a question"), "--temp", "0", "-n", "64"];
        args.extend(["--precision", "float", "--kv", "f32", "--json"]);
        args.extend(content("system").into_iter().flat_map(|system| ["--system", system]));
        let output = json(&home.ok(&args, ""));
        assert_eq!(
            output["prompt_tokens"].as_u64(),
            chat["prompt_ids"].as_array().map(|ids| ids.len() as u64)
        );
        let total = chat["stops_at"].as_u64().map_or(64, |n| n as usize);
        assert_agrees(
            output["text"].as_str().expect("text"),
            chat["text"].as_str().expect("text"),
            certain(&chat["margins"]),
            total,
        );
    }
}

#[test]
fn greedy_continuations_are_the_reference_continuations() {
    let home = Home::new();
    for name in ["gemma3", "qwen25"] {
        let reference = reference(name);
        let text = |field: &str| reference[field].as_str().expect("text");
        // The reference continues the first 64 tokens of the passage, which end here.
        let end = text("passage").find(" that could").expect("the words") + " that could".len();
        let prompt = &text("passage")[..end];
        let mut args =
            vec!["run", "--raw", "--temp", "0", "-n", "32", "--precision", "float", "--kv", "f32", "--json"];
        let model = model(name);
        args.extend([model.as_str(), prompt]);
        let output = json(&home.ok(&args, ""));
        assert_eq!(
            output["prompt_tokens"].as_u64(),
            reference["input_ids"].as_array().map(|ids| ids.len() as u64)
        );
        let found = output["text"].as_str().expect("text");
        // The reference's text leaves out Gemma's tokens of several newlines.
        let (found, expected) = (found.replace('\n', ""), text("greedy_text").replace('\n', ""));
        assert_agrees(&found, &expected, certain(&reference["margins"]), 32);
    }
}

#[test]
fn prompts_come_from_arguments_files_and_pipes() {
    let home = Home::new();
    let model = model("smollm2");
    let file = home.path().join("prompt.txt");
    std::fs::write(&file, "Say hello.\n").expect("written");
    let common = ["--temp", "0", "-n", "8"];
    let run = |args: &[&str], stdin: &str| home.ok(&[&["run", &model], args, &common].concat(), stdin);
    let from_argument = run(&["Say hello."], "");
    assert!(from_argument.ends_with('\n') && from_argument.len() > 1);
    assert_eq!(run(&["-f", &file.display().to_string()], ""), from_argument);
    assert_eq!(run(&[], "Say hello.\n"), from_argument);
    assert_eq!(run(&["-f", "-"], "Say hello."), from_argument);
}

#[test]
fn json_tells_counts_and_times() {
    let home = Home::new();
    let output =
        json(&home.ok(&["run", &model("smollm2"), "Count to ten.", "-n", "5", "--json", "--seed", "7"], ""));
    assert_eq!((&output["finish_reason"], &output["generated_tokens"]), (&"length".into(), &5.into()));
    assert_eq!(output["sampling"]["seed"], 7);
    for time in ["load_seconds", "time_to_first_token_seconds", "decode_seconds", "decode_tokens_per_second"]
    {
        assert!(output[time].as_f64().is_some_and(|value| value > 0.0), "{time}: {output}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_foreseen() {
    let home = Home::new();
    let manual = fixture("../../docs/tuning.md").display().to_string();
    for name in ["smollm2", "gemma3", "qwen25"] {
        let model = model(name);
        let found =
            json(&home.ok(&["run", &model, "-f", &manual, "-n", "1", "--context", "8192", "--json"], ""));
        let n_tokens = found["prompt_tokens"].to_string();
        let expected = json(&home.ok(&["inspect", &model, "--context", &n_tokens, "--json"], ""));
        let bytes = |value: &Value| value.as_f64().expect("bytes");
        let (expected, found) = (bytes(&expected["memory"]["total_bytes"]), bytes(&found["peak_rss_bytes"]));
        assert!((expected / found - 1.0).abs() < 0.04, "{name}: {expected} expected, {found} found");
    }
}

#[test]
fn a_seed_gives_the_same_text_at_any_number_of_threads() {
    let home = Home::new();
    let model = model("smollm2");
    let run = |seed: &str, threads: &str| {
        let args =
            ["run", &model, "Tell me a story.", "--temp", "1.2", "-n", "24", "--seed", seed, "-t", threads];
        home.ok(&args, "")
    };
    assert_eq!(run("5", "1"), run("5", "2"));
    assert_ne!(run("5", "1"), run("6", "1"));
}

#[test]
fn a_stop_string_ends_the_text() {
    let home = Home::new();
    let args = ["run", &model("smollm2"), "--raw", "one two three four", "--temp", "0", "-n", "40", "--json"];
    let whole = json(&home.ok(&args, ""))["text"].as_str().expect("text").to_owned();
    let stop: String = whole.chars().skip(6).take(4).collect();
    let cut = json(&home.ok(&[&args[..], &["--stop", &stop]].concat(), ""));
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["text"].as_str(), whole.split(&stop).next());
}

#[test]
fn a_prompt_too_long_names_both_numbers() {
    let home = Home::new();
    let model = model("smollm2");
    let long = "word ".repeat(200);
    let error = home.error(&["run", &model, "--raw", &long, "--context", "64"], "");
    assert!(error.contains("the context holds 64") && error.contains("the prompt has 20"), "{error}");
    let error = home.error(&["chat", &model, "--context", "64"], &long);
    assert!(error.contains("the context holds 64") && error.contains("/clear"), "{error}");
}

#[test]
fn a_full_context_ends_the_answer_and_says_so() {
    let home = Home::new();
    let args =
        ["run", &model("smollm2"), "--raw", "Once upon a time", "--temp", "0", "--context", "24", "--json"];
    let output = json(&home.ok(&args, ""));
    assert_eq!(output["finish_reason"], "context");
    let count = |field: &str| output[field].as_u64().unwrap_or(0);
    assert_eq!(count("prompt_tokens") + count("generated_tokens"), 24);
}

#[test]
fn a_chat_goes_on_and_is_saved_and_loaded() {
    let home = Home::new();
    let model = model("smollm2");
    let file = home.path().join("chat.json").display().to_string();
    let chat = |stdin: &str| {
        let (code, stdout, stderr) = home.run(&["chat", &model, "--temp", "0", "-n", "12", "--stats"], stdin);
        assert_eq!(code, 0, "{stderr}");
        (stdout, stderr)
    };
    let (stdout, stderr) =
        chat(&format!("My name is Ada.\n/regen\nWhat is my name?\n/save {file}\n/bye\nnever read\n"));
    assert_eq!(stderr.matches("tok/s · first token").count(), 3, "{stderr}");
    let stats: Vec<&str> = stderr.lines().filter(|line| line.contains("first token")).collect();
    assert!(
        !stats[0].contains("reused") && stats[1].contains("reused") && stats[2].contains("reused"),
        "{stderr}"
    );

    let saved = json(&std::fs::read_to_string(&file).expect("saved"));
    let roles: Vec<&str> =
        saved["messages"].as_array().expect("messages").iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    let answers: Vec<&str> =
        [1, 3].into_iter().filter_map(|i: usize| saved["messages"][i]["content"].as_str()).collect();
    // The greedy answer comes twice: /regen repeats it.
    assert_eq!(stdout.matches(answers[0].trim()).count(), 2, "{stdout}");
    assert!(stdout.trim_end().ends_with(answers[1].trim()), "{stdout}");

    let (again, _) = chat(&format!("/load {file}\n/regen\n"));
    assert_eq!(again.trim_end(), answers[1].trim_end());
}

#[test]
fn mistakes_in_a_piped_chat_end_it() {
    let home = Home::new();
    let model = model("smollm2");
    assert!(home.error(&["chat", &model], "/frobnicate\n").contains("unknown command /frobnicate"));
    assert!(home.error(&["chat", &model], "/regen\n").contains("nothing to answer yet"));
    assert!(home.error(&["chat", &model], "/load /no/such/file\n").contains("/no/such/file"));
}

#[test]
fn an_exported_model_says_the_same() {
    let home = Home::new();
    let [native, exported] =
        ["native.sterna", "exported.gguf"].map(|name| home.path().join(name).display().to_string());
    let rounding = ["--method", "rtn", "--bits", "4", "--calib", "none"];
    home.ok(&[&["quantize", &model("smollm2"), "-o", &native], &rounding[..]].concat(), "");
    home.ok(&["export", &native, "--to", "gguf", "--exact", "-o", &exported], "");
    let text = |model: &str| {
        let args = ["run", model, "--raw", "The history of the steam engine", "--temp", "0", "-n", "48"];
        home.ok(&[&args[..], &["--precision", "float", "--kv", "f32"]].concat(), "")
    };
    assert_eq!(text(&exported), text(&native));
}

#[test]
fn bench_reads_a_real_model() {
    let home = Home::new();
    let report =
        json(&home.ok(&["bench", &model("smollm2"), "-p", "32", "-n", "4", "-r", "1", "-o", "json"], ""));
    assert_eq!(report["params"], 134_515_008);
    let per_token = report["weight_bytes_per_token"].as_u64().unwrap_or(0);
    assert!((90_000_000..110_000_000).contains(&per_token), "{per_token}");
}

#[test]
fn a_quantized_model_is_whole_and_not_far_from_its_original() {
    let home = Home::new();
    let original = model("smollm2");
    let small = home.path().join("small.sterna").display().to_string();
    home.ok(&["quantize", &original, "-o", &small, "--method", "rtn"], "");
    home.ok(&["inspect", &small, "--verify"], "");
    let answer = home.ok(&["run", &small, "Write a sentence about the sea.", "--temp", "0", "-n", "16"], "");
    assert!(answer.split_whitespace().count() > 5, "{answer}");

    let text = home.path().join("text");
    std::fs::write(&text, include_str!("../../sterna-quant/src/calibration/prose.txt")).expect("a text file");
    let text = text.display().to_string();
    let args =
        ["eval", &small, "--against", &original, "--text", &text, "--windows", "2", "--json", "--no-cache"];
    let report = json(&home.ok(&args, ""));
    let small =
        report["models"].as_array().expect("models").iter().find(|model| model["is_reference"] == false);
    let divergence = &small.expect("the small one")["text"]["comparison"]["divergence"];
    let (mean, same_top) = (&divergence["mean"]["value"], &divergence["same_top"]["value"]);
    // Rounding to nearest is the roughest way; other models would agree on one token in a hundred.
    assert!(mean.as_f64().is_some_and(|mean| (0.01..0.6).contains(&mean)), "{divergence}");
    assert!(same_top.as_f64().is_some_and(|same| same > 0.6), "{divergence}");
}
