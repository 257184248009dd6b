//! `sterna eval` over tiny checkpoints with a tokenizer of single bytes.

mod common;

use std::path::{Path, PathBuf};

use common::{Home, bytewise};
use serde_json::{Value, json};

/// The model's context is 2048, its vocabulary 256.
const SMALL: &str = "llama_tied_fp16";

fn write(home: &Home, name: &str, content: &str) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, content).expect("written");
    path.display().to_string()
}

/// 1,000 bytes of prose.
fn text(home: &Home) -> String {
    write(home, "text.txt", &"The ferry leaves when the tide allows it, never before. ".repeat(18)[..1000])
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn perplexity_has_its_windows_and_its_error() {
    let home = Home::new();
    let (model, text) = (bytewise(&home, SMALL), text(&home));
    let report = read(&home.ok(&["eval", &model, "--text", &text, "--window", "100", "--json"], ""));
    let result = &report["models"][0];
    assert_eq!(
        result["text"]["of"],
        json!({"file": "text.txt", "window": 100, "n_windows": 10, "n_scored": 490})
    );
    // Random weights are sure of what is wrong: more perplexed than there are tokens.
    let perplexity = &result["text"]["perplexity"];
    assert!((256.0..1e6).contains(&number(&perplexity["value"])), "{perplexity}");
    assert!(number(&perplexity["standard_error"]) > 0.0);
    assert_eq!(number(&result["bits_per_weight"]), 16.0);
    assert!(result["text"]["comparison"].is_null());

    let args = ["eval", &model, "--text", &text, "--window", "100", "--windows", "3", "--markdown"];
    let table = home.ok(&args, "");
    assert!(table.contains("3 windows of 100 tokens, 147 scored") && table.contains("| -"), "{table}");
}

#[test]
fn a_model_beside_itself_loses_nothing_and_the_second_time_comes_from_the_cache() {
    let home = Home::new();
    let (model, text) = (bytewise(&home, SMALL), text(&home));
    let lines: String = (1..5).map(|i| format!("{{\"text\": \"the tide is {i} hours late\"}}\n")).collect();
    let lambada = format!("lambada={}", write(&home, "late.jsonl", &lines));
    let args = [
        "eval",
        &model,
        "--against",
        &model,
        "--text",
        &text,
        "--window",
        "64",
        "--task",
        &lambada,
        "--json",
    ];
    let first = read(&home.ok(&args, ""));
    let [reference, result] = [&first["models"][0], &first["models"][1]];
    assert_eq!(
        (&reference["is_reference"], &result["is_reference"]),
        (&Value::from(true), &Value::from(false))
    );
    let comparison = &result["text"]["comparison"];
    assert!(number(&comparison["divergence"]["max"]) < 1e-6, "{comparison}");
    assert_eq!(number(&comparison["divergence"]["same_top"]["value"]), 1.0);
    assert_eq!(number(&comparison["retention"]["value"]), 1.0);
    assert_eq!(reference["text"]["perplexity"], result["text"]["perplexity"]);
    let perplexity = &result["tasks"][0]["metrics"][1];
    assert_eq!(
        (&perplexity["name"], number(&perplexity["retention"]["value"])),
        (&Value::from("perplexity"), 1.0)
    );
    assert_eq!(result["tasks"][0]["of"]["n_items"], 4);

    let cache = home.path().join("cache").join("eval");
    assert_eq!(files(&cache).len(), 1);
    let second = read(&home.ok(&args, ""));
    assert_eq!(second["models"][1]["text"], first["models"][1]["text"]);

    let (home, mut args) = (Home::new(), args.to_vec());
    args.push("--no-cache");
    assert_eq!(read(&home.ok(&args, ""))["models"][1]["text"], first["models"][1]["text"]);
    assert_eq!(files(home.path()), Vec::<PathBuf>::new());
}

#[test]
fn earlier_results_are_shown_on_one_page() {
    let home = Home::new();
    let (model, text) = (bytewise(&home, SMALL), text(&home));
    let args = ["eval", &model, "--against", &model, "--text", &text, "--window", "64", "--json"];
    let earlier = write(&home, "earlier.json", &home.ok(&args, ""));
    let page = home.path().join("page.html").display().to_string();
    let table = home.ok(&["eval", "--add", &earlier, "--html", &page], "");
    assert!(table.contains("llama_tied_fp16 (reference)") && table.contains("KL divergence"), "{table}");
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.contains("<svg") && html.contains("bits per weight") && html.ends_with("</html>\n"));
    assert!(!html.contains("<script") && !html.contains("http"), "{html}");
    let left =
        files(home.path()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "part"));
    assert_eq!(left.count(), 0);

    let other = write(&home, "other.json", "{\"version\": 99, \"models\": []}");
    assert!(home.error(&["eval", "--add", &other], "").contains("other.json: version: expected 1, found 99"));
    assert!(home.error(&["eval", "--add", &text], "").contains("text.txt"));
}

/// Ctrl-C in the middle of writing the cache.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let home = Home::new();
    let model = bytewise(&home, SMALL);
    let text = write(&home, "long.txt", &"The ferry leaves when the tide allows it. ".repeat(50_000));
    let mut child = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .args(["eval", &model, "--against", &model, "--text", &text, "--window", "256"])
        .env("STERNA_HOME", home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sterna starts");
    let cache = home.path().join("cache").join("eval");
    let start = Instant::now();
    while !cache.exists() || files(&cache).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is written");
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill starts").success());
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert_eq!(files(&cache), Vec::<PathBuf>::new());
}

#[test]
fn what_cannot_be_judged_is_said() {
    let home = Home::new();
    let (model, text) = (bytewise(&home, SMALL), text(&home));
    let error = home.error(&["eval", &model, "--text", &text, "--window", "2k"], "");
    assert!(error.contains("the text has 1000 tokens, but one window takes 2048"), "{error}");
    let error = home.error(&["eval", &model, "--text", "no/such.txt"], "");
    assert!(error.contains("no/such.txt"), "{error}");
    let bad = format!("choice={}", write(&home, "bad.jsonl", "\n{\"question\": \"?\"}\n"));
    let error = home.error(&["eval", &model, "--task", &bad], "");
    assert!(error.contains("bad.jsonl: line 2: missing field `choices`"), "{error}");
    let other = bytewise(&home, "qwen3");
    let error = home.error(&["eval", &model, "--against", &other, "--text", &text, "--window", "64"], "");
    assert!(error.contains("cannot be compared"), "{error}");
    for wrong in [
        &["eval", "m"][..],
        &["eval", "--text", "t"],
        &["eval", "m", "--task", "mmlu=x"],
        &["eval", "m", "--task", "humaneval=x"],
        &["eval", "m", "--text", "t", "--against-precision", "int8"],
        &["eval", "m", "--text", "t", "--cache", "d", "--no-cache"],
    ] {
        assert_eq!(home.run(wrong, "").0, 2, "{wrong:?}");
    }
}
