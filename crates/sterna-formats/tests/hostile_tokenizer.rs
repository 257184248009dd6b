//! Broken tokenizers and chat templates by the ten thousand: each is refused, or works, without a panic.

mod common;

use std::path::PathBuf;
use std::time::SystemTime;

use common::{Rng, mutate};
use serde_json::Value;
use sterna_formats::{ChatTemplate, Message, RenderOptions, Tokenizer};

const N_MUTATIONS: usize = 10_000;

/// A tokenizer of a dozen tokens that uses most of what a `tokenizer.json` can say.
const TOKENIZER: &str = r#"{"added_tokens": [
    {"id": 9, "content": "<s>", "special": true, "lstrip": true, "rstrip": false, "normalized": false},
    {"id": 10, "content": "AB", "special": false, "single_word": true, "normalized": true}],
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"},
    {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
    {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\s+(?!\\S)"}, "behavior": "Isolated", "invert": false}]},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [9], "tokens": ["<s>"]}}},
  "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "unk_token": "u", "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
    "vocab": {"u": 0, "a": 1, "b": 2, "▁": 3, "ab": 4, "▁ab": 5, "<0xC3>": 6, "<0xA9>": 7, "<0x0A>": 8},
    "merges": ["a b", ["▁", "ab"]]}}"#;

#[test]
fn mutated_tokenizers_are_refused_or_work() {
    let seed = TOKENIZER.as_bytes();
    assert!(Tokenizer::from_json("seed", TOKENIZER).is_ok());
    let mut rng = Rng::new(11);
    let mut n_read = 0;
    for _ in 0..N_MUTATIONS {
        let text = String::from_utf8_lossy(&mutate(seed, &mut rng)).into_owned();
        let Ok(tokenizer) = Tokenizer::from_json("mutated", &text) else { continue };
        n_read += 1;
        for text in ["<s>ab AB Ab é\n12 \u{301}x", "", "abab<s> <s>"] {
            let ids = tokenizer.encode_with_bos(text).unwrap();
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
            let decoded = tokenizer.decode(&ids);
            assert!(decoded.len() < 1000, "{decoded}");
        }
    }
    assert!(n_read > N_MUTATIONS / 100, "only {n_read} were readable: the test tests the JSON parser");
}

#[test]
fn mutated_templates_are_refused_or_render() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/templates/cases.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let seeds: Vec<&str> =
        fixture["templates"].as_object().unwrap().values().map(|source| source.as_str().unwrap()).collect();
    let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi")];
    let mut options = RenderOptions::reply();
    options.now = SystemTime::UNIX_EPOCH;
    let mut rng = Rng::new(12);
    let mut n_rendered = 0;
    for round in 0..N_MUTATIONS {
        let seed = seeds[round % seeds.len()];
        let source = String::from_utf8_lossy(&mutate(seed.as_bytes(), &mut rng)).into_owned();
        let Ok(template) = ChatTemplate::new("mutated", source, "<s>", "</s>") else { continue };
        n_rendered += usize::from(template.render(&messages, &options).is_ok());
    }
    assert!(n_rendered > N_MUTATIONS / 100, "only {n_rendered} rendered");
}
