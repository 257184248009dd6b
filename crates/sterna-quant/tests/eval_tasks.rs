//! Tasks over a tiny checkpoint: what is asked, what counts, and which lines are refused.

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::model;
use sterna_formats::Tokenizer;
use sterna_model::{KvType, Logits, State, Workspace, forward};
use sterna_quant::eval::EvalError;
use sterna_quant::eval::task::{Metric, Subject, Task, TaskKind, TaskOptions};

/// One token per byte, as GPT-2 spells them: 256 tokens, of which a checkpoint of 384 uses the first.
fn tokenizer() -> Tokenizer {
    let spelled = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let before = (0..byte).filter(|b| !printable(b)).count() as u32;
            char::from_u32(256 + before).unwrap()
        }
    };
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..=255u8).map(|byte| (spelled(byte).to_string(), byte.into())).collect();
    let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": level,
        "post_processor": null, "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    Tokenizer::from_json("bytes.json", &json.to_string()).unwrap()
}

fn write(directory: &Path, lines: &str) -> std::path::PathBuf {
    let path = directory.join("task.jsonl");
    std::fs::write(&path, lines).unwrap();
    path
}

fn run(kind: TaskKind, lines: &str, options: TaskOptions) -> Vec<Metric> {
    let directory = tempfile::tempdir().unwrap();
    let task = Task::open(kind, &write(directory.path(), lines), None).unwrap();
    let ((model, compute), tokenizer, never) = (model("gemma3"), tokenizer(), AtomicBool::new(false));
    let mut subject = Subject::new(&model, &compute, &tokenizer, 512, KvType::F32, &never);
    task.run(&mut subject, options, &mut ()).unwrap()
}

/// `-ln p` of each byte of `text` after the first, by plain loops.
fn nlls(text: &str) -> Vec<f64> {
    let (model, compute) = model("gemma3");
    let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    let logits = forward(&model, &compute, &mut state, &mut workspace, &tokens, Logits::All).unwrap();
    let rows = logits.chunks_exact(384).zip(&tokens[1..]);
    let nll = |(row, next): (&[f32], &u32)| {
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        sum.ln() - f64::from(row[*next as usize])
    };
    rows.map(nll).collect()
}

#[test]
fn the_last_word_is_scored_with_its_space() {
    let text = "a stone that shines";
    let metrics = run(TaskKind::Lambada, &format!("{{\"text\": \"{text}\"}}\n"), TaskOptions::default());
    assert_eq!((metrics[0].name, metrics[1].name), ("accuracy", "perplexity"));
    let expected: f64 = nlls(text)[text.len() - 8..].iter().sum();
    assert!((metrics[1].values[0] - expected).abs() < 1e-3, "{} {expected}", metrics[1].values[0]);
}

#[test]
fn the_likeliest_choice_is_taken_by_total_and_by_byte() {
    let (context, choices) = ("The sky looked", ["blue", "dark and very wide", "x"]);
    let of = |choice: &str| -> f64 { nlls(&format!("{context} {choice}"))[context.len() - 1..].iter().sum() };
    let totals = choices.map(of);
    let least = |values: &[f64; 3]| (0..3).min_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap();
    let by_byte = [0, 1, 2].map(|i| totals[i] / choices[i].len() as f64);
    for answer in 0..3 {
        let item = serde_json::json!({"context": context, "choices": choices, "answer": answer});
        let metrics = run(TaskKind::Choice, &item.to_string(), TaskOptions::default());
        assert_eq!(metrics[0].name, "accuracy, normalized");
        assert_eq!(metrics[0].values, [f64::from(u8::from(least(&by_byte) == answer))]);
        assert_eq!(metrics[1].values, [f64::from(u8::from(least(&totals) == answer))]);
    }
}

#[test]
fn an_item_longer_than_the_context_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let line = format!("{{\"text\": \"{} end\"}}", "a".repeat(600));
    let task = Task::open(TaskKind::Lambada, &write(directory.path(), &line), None).unwrap();
    let ((model, compute), tokenizer, never) = (model("gemma3"), tokenizer(), AtomicBool::new(false));
    let mut subject = Subject::new(&model, &compute, &tokenizer, 512, KvType::F32, &never);
    let error = task.run(&mut subject, TaskOptions::default(), &mut ()).unwrap_err();
    assert!(error.to_string().contains("603 tokens") && error.to_string().contains("512"), "{error}");
}

#[test]
fn code_is_run_only_when_that_is_allowed() {
    let item = serde_json::json!({
        "task_id": "t/0", "prompt": "def f():\n    return 1\n#", "entry_point": "f",
        "test": "def check(f):\n    assert f() == 1\n",
    });
    let options = TaskOptions { max_tokens: Some(1), run_code: true };
    // What comes after `#` is a comment, whatever it is, unless it ends the line.
    let metrics = run(TaskKind::HumanEval, &item.to_string(), options);
    assert_eq!((metrics[0].name, metrics[0].values.len()), ("pass@1", 1));

    let directory = tempfile::tempdir().unwrap();
    let task = Task::open(TaskKind::HumanEval, &write(directory.path(), &item.to_string()), None).unwrap();
    let ((model, compute), tokenizer, never) = (model("gemma3"), tokenizer(), AtomicBool::new(false));
    let mut subject = Subject::new(&model, &compute, &tokenizer, 512, KvType::F32, &never);
    let error = task.run(&mut subject, TaskOptions::default(), &mut ()).unwrap_err();
    assert!(matches!(error, EvalError::CodeNotAllowed { .. }), "{error}");
}

#[test]
fn bad_lines_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let good = "{\"text\": \"two words\"}\n";
    let open = |lines: &[u8], limit| {
        let path = directory.path().join("task.jsonl");
        std::fs::write(&path, lines).unwrap();
        Task::open(TaskKind::Lambada, &path, limit)
    };
    let lines = [good.as_bytes(), b"\n", b"{\"text\": 3}\n"].concat();
    let error = open(&lines, None).unwrap_err().to_string();
    assert!(error.contains("task.jsonl: line 3:") && error.contains("string"), "{error}");
    assert_eq!(open(&lines, Some(1)).unwrap().n_items(), 1);

    let broken = [good.as_bytes(), b"{\"text\": \"\xff\"}"].concat();
    assert!(open(&broken, None).unwrap_err().to_string().contains("line 2"));
    let long = [good.as_bytes(), &[b' '; 2 << 20]].concat();
    assert!(open(&long, None).unwrap_err().to_string().contains("line 2: expected at most"));
    assert!(matches!(open(b"\n \n", None), Err(EvalError::NoItems { .. })));
    let missing = Task::open(TaskKind::Gsm8k, Path::new("no/such.jsonl"), None).unwrap_err();
    assert!(missing.to_string().contains("such.jsonl"), "{missing}");
}

#[test]
fn a_prompt_longer_than_the_context_is_an_error() {
    let line = r#"{"question": "What is 2 + 2?", "answer": "It is 4.\n#### 4"}"#;
    // The four examples take more bytes than the checkpoint's context has tokens.
    let directory = tempfile::tempdir().unwrap();
    let task = Task::open(TaskKind::Gsm8k, &write(directory.path(), line), None).unwrap();
    let ((model, compute), tokenizer, never) = (model("gemma3"), tokenizer(), AtomicBool::new(false));
    let mut subject = Subject::new(&model, &compute, &tokenizer, 512, KvType::F32, &never);
    let error = task.run(&mut subject, TaskOptions::default(), &mut ()).unwrap_err();
    assert!(error.to_string().contains("context holds 512"), "{error}");
}
