//! Saved states from the command line: a text is read once.

mod common;

use std::path::Path;

use common::{Home, bytewise};
use serde_json::Value;

/// The model's context is 2048, its vocabulary 256.
const SMALL: &str = "llama_tied_fp16";

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// With a template for conversations.
fn chatty(home: &Home, name: &str) -> String {
    let model = bytewise(home, name);
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";
    std::fs::write(Path::new(&model).join("chat_template.jinja"), template).expect("written");
    model
}

fn run(home: &Home, model: &str, prompt: &str, flags: &[&str]) -> Value {
    let args = ["run", model, prompt, "--temp", "0", "-n", "8", "--json"];
    json(&home.ok(&[&args[..], flags].concat(), ""))
}

#[test]
fn a_text_is_read_once() {
    let home = Home::new();
    let model = bytewise(&home, SMALL);
    let file = home.path().join("text.state").display().to_string();
    let text = "The ferry leaves when the tide allows it, never before. ".repeat(10);
    let state = ["--raw", "--state", &file];
    let first = run(&home, &model, &text, &state);
    assert_eq!((&first["cached_tokens"], &first["prompt_tokens"]), (&0.into(), &text.len().into()));
    let written = std::fs::read(&file).expect("a state");
    let next = run(&home, &model, "And then?", &state);
    // All but the last token of the answer, and what is new.
    assert_eq!(next["cached_tokens"], text.len() + 7);
    assert_eq!(next["prompt_tokens"], text.len() + 8 + "And then?".len());
    assert_eq!(next["text"], run(&home, &model, "And then?", &state)["text"]);
    assert_eq!(std::fs::read(&file).expect("a state"), written, "a state that is there stays as it is");
}

#[test]
fn a_conversation_goes_on_in_another_program() {
    let home = Home::new();
    let model = chatty(&home, SMALL);
    let file = home.path().join("chat.state").display().to_string();
    let first = run(&home, &model, "What is a ferry?", &["--state", &file]);
    let second = run(&home, &model, "And a tide?", &["--state", &file]);
    assert!(second["cached_tokens"].as_u64() >= first["prompt_tokens"].as_u64());

    let chat = |lines: &str| home.run(&["chat", &model, "--temp", "0", "-n", "8", "--stats"], lines);
    let again = home.path().join("again.state").display().to_string();
    let (code, _, stderr) = chat(&format!("/load {file}\nAnd a tide?\n/save {again}\n"));
    assert!(code == 0 && stderr.contains("2 messages loaded") && stderr.contains(" reused)"), "{stderr}");
    let (code, _, stderr) = chat(&format!("/load {again}\nOne more?\n"));
    assert!(code == 0 && stderr.contains("4 messages loaded") && stderr.contains(" reused)"), "{stderr}");

    let messages = home.path().join("chat.json").display().to_string();
    let (code, _, stderr) = chat(&format!("/load {again}\n/save {messages}\n"));
    assert_eq!(code, 0, "{stderr}");
    let text = json(&std::fs::read_to_string(&messages).expect("JSON"));
    assert_eq!(text["messages"][2]["content"], "And a tide?");
    let (code, _, stderr) = chat(&format!("/load {messages}\nOne more?\n"));
    assert!(code == 0 && stderr.contains("4 messages loaded") && !stderr.contains(" reused)"), "{stderr}");
}

#[test]
fn other_files_are_refused_in_words() {
    let home = Home::new();
    let (model, other) = (bytewise(&home, SMALL), bytewise(&home, "qwen3"));
    let file = home.path().join("text.state").display().to_string();
    let args = |model: &str| ["run", model, "hi", "--raw", "-n", "2", "--state", &file].map(str::to_owned);
    let error = |model: &str| {
        let args = args(model);
        home.error(&args.each_ref().map(String::as_str), "")
    };
    home.ok(&args(&model).each_ref().map(String::as_str), "");
    assert!(error(&other).contains("text.state: model: expected that of this model, "));
    let bytes = std::fs::read(&file).expect("a state");
    std::fs::write(&file, &bytes[..bytes.len() - 30]).expect("written");
    assert!(error(&model).contains("text.state: size: expected "));
    std::fs::write(&file, "not a state").expect("written");
    let message = error(&model);
    assert!(message.contains("text.state: expected a saved state, or a conversation in JSON: "), "{message}");
    std::fs::write(&file, &bytes).expect("written");
    let few = ["run", &model, "hi", "--raw", "--state", &file, "--context", "3"];
    let message = home.error(&few, "");
    assert!(message.contains("text.state: sequence: expected less than 3 tokens, the context, found 3"));
}

/// Not after minutes of reading.
#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_is_computed() {
    let home = Home::new();
    let model = bytewise(&home, SMALL);
    let file = home.path().join("nowhere").join("text.state").display().to_string();
    let message = home.error(&["run", &model, "hi", "--raw", "--state", &file], "");
    assert!(message.contains("nowhere") && message.contains("No such file or directory"), "{message}");
    let files = || std::fs::read_dir(home.path()).expect("a directory").count();
    let before = files();
    let kept = home.path().join("kept.state").display().to_string();
    home.error(&["run", &model, &"x".repeat(5000), "--raw", "--state", &kept], "");
    assert_eq!(files(), before, "nothing is left of a state that was not written");
}

/// What is computed of a turn, where there is a recurrence.
#[test]
fn a_turn_of_a_hybrid_is_computed_once() {
    let home = Home::new();
    let model = chatty(&home, "bamba");
    let reused = |lines: &str| -> Vec<usize> {
        let args = ["chat", &model, "--temp", "0", "-n", "8", "--stats"];
        let (code, _, stderr) = home.run(&args, lines);
        assert_eq!(code, 0, "{stderr}");
        let prompts = stderr.lines().filter_map(|line| line.split("prompt ").nth(1));
        let reused = prompts.map(|prompt| match prompt.split_once(" reused") {
            Some((before, _)) => before.rsplit('(').next().and_then(|n| n.parse().ok()).expect("a number"),
            None => 0,
        });
        reused.collect()
    };
    let prompt = |message: &str| format!("user: {message}\nassistant:").len();
    let first = prompt("What is a ferry?");
    let file = home.path().join("chat.state").display().to_string();
    // The end of the first answer is marked where the second turn begins.
    let counts = reused(&format!("What is a ferry?\n/regen\nAnd a tide?\n/regen\n/save {file}\n"));
    assert_eq!(counts[..2], [0, first - 1]);
    assert!(counts[2] >= first - 1 && counts[3] > counts[2], "{counts:?}");
    let again = reused(&format!("/load {file}\n/regen\nOne more?\n"));
    assert_eq!(again[0], counts[3], "an answer is regenerated from a file as before");
    assert!(again[1] >= again[0], "{again:?}");
}
