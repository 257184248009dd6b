//! Guessing ahead from the command line: counted, checked, and without a trace in the text.

mod common;

use common::{Home, bytewise};
use serde_json::Value;

const SMALL: &str = "llama_tied_fp16";

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn guesses_are_counted_and_change_no_text() {
    let home = Home::new();
    let model = bytewise(&home, SMALL);
    let run = |flags: &[&str]| {
        let prompt = "one two three one two three one two";
        let args = ["run", &model, prompt, "--raw", "-n", "60", "--seed", "3", "--json"];
        json(&home.ok(&[&args[..], flags].concat(), ""))
    };
    for temperature in ["0", "0.9"] {
        let temperature = ["--temp", temperature];
        let plain = run(&[&temperature[..], &["--no-lookup"]].concat());
        assert_eq!(plain["speculation"]["guessed_tokens"], 0);
        for flags in [&[][..], &["--draft", &model], &["--no-lookup", "--draft", &model]] {
            let found = run(&[&temperature[..], flags].concat());
            assert_eq!(found["text"], plain["text"], "{flags:?}");
            let count = |name: &str| found["speculation"][name].as_u64().expect("a count");
            assert!(count("accepted_tokens") <= count("guessed_tokens"));
            let generated = found["generated_tokens"].as_u64().expect("a count");
            assert_eq!(count("passes") + count("accepted_tokens") + 1, generated);
        }
    }
}

#[test]
fn a_draft_model_must_speak_the_same_tokens() {
    let home = Home::new();
    let model = bytewise(&home, SMALL);
    let other = bytewise(&home, "qwen3");
    let tokenizer = std::path::Path::new(&other).join("tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).expect("a tokenizer");
    std::fs::write(&tokenizer, text.replace(r#""A":65"#, r#""~":65"#).replace(r#""~":126"#, r#""A":126"#))
        .expect("written");
    let error = home.error(&["run", &model, "hi", "--raw", "--draft", &other], "");
    assert!(error.contains("token 65 is expected to be \"A\", found \"~\""), "{error}");
}

#[test]
fn bench_compares_guessing_with_plain_decoding() {
    let home = Home::new();
    let model = bytewise(&home, SMALL);
    let args = ["bench", &model, "--speculation", "-n", "16", "-r", "2", "-t", "1"];
    let report = json(&home.ok(&[&args[..], &["-o", "json"]].concat(), ""));
    let tasks = report["tasks"].as_array().expect("tasks");
    assert!(tasks.len() >= 4);
    for task in tasks {
        assert_eq!(task["ratio"].as_array().map(Vec::len), Some(2));
        assert!(task["passes"].as_u64() > Some(0));
    }
    assert!(home.ok(&args, "").contains("| guesses right |"));
}
