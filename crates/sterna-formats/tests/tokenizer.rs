//! Tokenizers give the ids that Python's `tokenizers` give, from either kind of file, and take any input in time.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::gguf::{ARRAY, BOOL, Builder, F32, array};
use serde_json::Value;
use sterna_formats::gguf::Gguf;
use sterna_formats::{Special, Tokenizer};

/// Type id of `i32`, which only `token_type` has.
const I32: u32 = 5;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap()).unwrap()
}

/// Compares with every reference of `name`; returns how many there are.
fn compare(name: &str, tokenizer: &Tokenizer) -> usize {
    let references = std::fs::read_to_string(fixture(&format!("{name}.jsonl"))).unwrap();
    for line in references.lines() {
        let reference: Value = serde_json::from_str(line).unwrap();
        let text = reference["text"].as_str().unwrap();
        let ids = |key: &str| serde_json::from_value::<Vec<u32>>(reference[key].clone()).unwrap();
        assert_eq!(tokenizer.encode(text, Special::Text).unwrap(), ids("ids"), "{name}, plain: {text:?}");
        assert_eq!(tokenizer.encode(text, Special::Parse).unwrap(), ids("ids_special"), "{name}: {text:?}");
        assert_eq!(tokenizer.encode_with_bos(text).unwrap(), ids("ids_bos"), "{name}, BOS: {text:?}");
        let decoded = tokenizer.decode(&ids("ids_special"));
        assert_eq!(decoded, reference["decoded"].as_str().unwrap(), "{name}, decoded: {text:?}");
        let mut stream = tokenizer.stream();
        let mut streamed: String = ids("ids_special").iter().filter_map(|&id| stream.push(id)).collect();
        streamed.extend(stream.finish());
        assert_eq!(streamed, decoded, "{name}, streamed: {text:?}");
    }
    references.lines().count()
}

#[test]
fn tokenizer_json_gives_the_reference_ids() {
    for name in ["byte_level", "digits", "sentence_piece"] {
        let tokenizer = Tokenizer::from_file(&fixture(&format!("{name}.json"))).unwrap();
        assert_eq!(compare(name, &tokenizer), 92);
    }
}

/// The GGUF metadata that a converter would make of the fixture `name`.
fn converted(name: &str, model: &str, pre: &str) -> Builder {
    let json = json(name);
    let mut tokens: Vec<(String, u64)> = json["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (text.clone(), id.as_u64().unwrap()))
        .collect();
    let added = json["added_tokens"].as_array().unwrap();
    for token in added {
        let id = token["id"].as_u64().unwrap();
        tokens.retain(|(_, other)| *other != id);
        tokens.push((token["content"].as_str().unwrap().to_owned(), id));
    }
    tokens.sort_by_key(|(_, id)| *id);
    let types: Vec<u8> = tokens
        .iter()
        .flat_map(|(text, id)| {
            let kind: i32 = match added.iter().find(|token| token["id"] == *id) {
                Some(token) if token["special"] == true => 3,
                Some(_) => 4,
                None if model == "llama" && text.starts_with("<0x") => 6,
                None => 1,
            };
            kind.to_le_bytes()
        })
        .collect();
    let texts: Vec<&str> = tokens.iter().map(|(text, _)| text.as_str()).collect();
    let builder = Builder::new()
        .string("tokenizer.ggml.model", model)
        .string("tokenizer.ggml.pre", pre)
        .strings("tokenizer.ggml.tokens", &texts)
        .entry("tokenizer.ggml.token_type", ARRAY, &array(I32, texts.len() as u64, &types));
    if model == "llama" {
        let scores: Vec<u8> = (0..texts.len()).flat_map(|id| (-(id as f32)).to_le_bytes()).collect();
        return builder.entry("tokenizer.ggml.scores", ARRAY, &array(F32, texts.len() as u64, &scores));
    }
    let merges: Vec<String> = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    builder.strings("tokenizer.ggml.merges", &merges)
}

fn from_gguf(builder: &Builder) -> sterna_formats::Result<Tokenizer> {
    let gguf = Gguf::parse("model.gguf", Bytes::from(builder.build())).unwrap();
    Tokenizer::from_gguf(gguf.metadata())
}

#[test]
fn gguf_metadata_gives_the_ids_of_the_tokenizer_json_it_was_made_from() {
    let special = |name: &str, text: &str| {
        let json = json(name);
        let token = json["added_tokens"].as_array().unwrap().iter().find(|token| token["content"] == text);
        token.unwrap()["id"].as_u64().unwrap() as u32
    };
    // NFC, by which Qwen's ids differ from llama.cpp's, is among the references: `cafe` with a combining accent.
    let qwen = converted("byte_level", "gpt2", "qwen2")
        .u32("tokenizer.ggml.bos_token_id", special("byte_level", "<|endoftext|>"))
        .u32("tokenizer.ggml.eos_token_id", special("byte_level", "<|endoftext|>"))
        .entry("tokenizer.ggml.add_bos_token", BOOL, &[1]);
    let qwen = from_gguf(&qwen).unwrap();
    compare("byte_level", &qwen);
    let end = special("byte_level", "<|im_end|>");
    assert_eq!((qwen.eot(), qwen.is_end(end)), (Some(end), true));
    assert_eq!(qwen.special_tokens().len(), 3);
    assert_eq!(qwen.vocab_size(), 705);

    compare("digits", &from_gguf(&converted("digits", "gpt2", "smollm")).unwrap());

    let llama = from_gguf(&converted("sentence_piece", "llama", "default")).unwrap();
    compare("sentence_piece", &llama);
    assert_eq!((llama.bos(), llama.eos()), (Some(1), Some(2)));
    assert_eq!(llama.token_bytes(3 + 0xE4), Some(vec![0xE4]));
    assert_eq!(llama.token_bytes(u32::MAX), None);
}

/// What the tokenizer of a GGUF file is as a `tokenizer.json`, read back.
fn written(builder: &Builder) -> Tokenizer {
    let json = from_gguf(builder).unwrap().to_json().unwrap();
    Tokenizer::from_json("tokenizer.json", &json).unwrap()
}

#[test]
fn a_tokenizer_of_gguf_metadata_can_be_written_as_tokenizer_json() {
    let qwen = converted("byte_level", "gpt2", "qwen2");
    let end = from_gguf(&qwen).unwrap().token_id("<|endoftext|>").unwrap();
    let qwen = qwen.u32("tokenizer.ggml.bos_token_id", end).u32("tokenizer.ggml.eos_token_id", end);
    compare("byte_level", &written(&qwen.entry("tokenizer.ggml.add_bos_token", BOOL, &[1])));
    compare("digits", &written(&converted("digits", "gpt2", "smollm")));
    let llama = written(&converted("sentence_piece", "llama", "default"));
    compare("sentence_piece", &llama);
    assert_eq!(
        llama.vocab_size(),
        from_gguf(&converted("sentence_piece", "llama", "default")).unwrap().vocab_size()
    );
}

#[test]
fn tokens_that_only_fill_up_the_embedding_are_not_written() {
    let texts = ["a", "b", "[PAD2]", "ab", "[PAD4]", "[PAD5]"];
    let builder = Builder::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "gpt-2")
        .strings("tokenizer.ggml.tokens", &texts)
        .strings("tokenizer.ggml.merges", &["a b"]);
    let tokenizer = written(&builder);
    assert_eq!(tokenizer.vocab_size(), 4);
    assert_eq!(tokenizer.encode("abba", Special::Text).unwrap(), [3, 1, 0]);
}

#[test]
fn a_tokenizer_json_can_be_written_as_gguf_metadata() {
    for (name, model, pre) in [
        ("byte_level", "gpt2", "qwen2"),
        ("digits", "gpt2", "smollm"),
        ("sentence_piece", "llama", "default"),
    ] {
        let tokenizer = Tokenizer::from_file(&fixture(&format!("{name}.json"))).unwrap();
        // Two rows of the embedding belong to no token.
        let n_rows = tokenizer.vocab_size() + 2;
        let metadata = tokenizer.to_gguf(n_rows).unwrap().to_metadata("tokenizer.gguf").unwrap();
        assert_eq!(metadata.get::<&str>("tokenizer.ggml.model").unwrap(), Some(model));
        assert_eq!(metadata.get::<&str>("tokenizer.ggml.pre").unwrap(), Some(pre));
        let tokens = metadata.require::<Vec<&str>>("tokenizer.ggml.tokens").unwrap();
        assert_eq!((tokens.len(), tokens[n_rows - 1]), (n_rows, &*format!("[PAD{}]", n_rows - 1)));
        let read = Tokenizer::from_gguf(&metadata).unwrap();
        compare(name, &read);
        assert_eq!(read.bos(), tokenizer.bos());
        assert_eq!(read.encode_with_bos("a").unwrap(), tokenizer.encode_with_bos("a").unwrap());
    }
}

#[test]
fn a_tokenizer_that_cuts_as_no_other_is_not_written_as_gguf_metadata() {
    let json = std::fs::read_to_string(fixture("digits.json")).unwrap();
    let json = json.replace(r#""individual_digits":true"#, r#""individual_digits":false"#);
    let tokenizer = Tokenizer::from_json("tokenizer.json", &json).unwrap();
    let message = tokenizer.to_gguf(tokenizer.vocab_size()).unwrap_err().to_string();
    assert!(message.starts_with("tokenizer.json: pre_tokenizer: a way to cut text"), "{message}");
}

#[test]
fn steps_that_no_gguf_file_asks_for_are_not_written() {
    let digits = Tokenizer::from_file(&fixture("digits.json")).unwrap();
    assert!(digits.to_json().unwrap_err().to_string().contains("pre_tokenizer"));
}

#[test]
fn a_stream_skips_special_tokens_and_goes_on_where_text_ended() {
    let llama = Tokenizer::from_file(&fixture("sentence_piece.json")).unwrap();
    let ids = llama.encode("lazy <s>dog", Special::Parse).unwrap();
    let read = |mut stream: sterna_formats::TokenStream| {
        ids.iter().filter_map(|&id| stream.push(id)).collect::<String>()
    };
    assert_eq!(read(llama.stream()), "lazy <s> dog");
    assert_eq!(read(llama.stream().skip_special()), "lazy  dog");
    assert_eq!(read(llama.stream().continuing()), " lazy <s> dog");
}

/// Inputs that make a careless tokenizer quadratic or deep, each a mebibyte.
#[test]
fn huge_inputs_take_time_in_proportion() {
    let size = 1 << 20;
    let mut rng = common::Rng::new(5);
    let random: Vec<u8> = (0..size).map(|_| rng.next() as u8).collect();
    let texts = [
        "a".repeat(size),
        " ".repeat(size / 4),
        " ".repeat(size / 4) + "x",
        "\n".repeat(size / 4),
        "1".repeat(size),
        "'".repeat(size),
        "<".repeat(size),
        "\u{301}".repeat(size / 2),
        "日".repeat(size / 3),
        "lazy dog ".repeat(size / 9),
        String::from_utf8_lossy(&random).into_owned(),
    ];
    let tokenizers = [
        Tokenizer::from_file(&fixture("byte_level.json")).unwrap(),
        Tokenizer::from_file(&fixture("sentence_piece.json")).unwrap(),
        from_gguf(&converted("sentence_piece", "llama", "default")).unwrap(),
    ];
    for tokenizer in &tokenizers {
        for text in &texts {
            let start = Instant::now();
            let ids = tokenizer.encode(text, Special::Parse).unwrap();
            let decoded = tokenizer.decode(&ids);
            // Seconds would be enough; quadratic takes hours.
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}: {:?}", &text[..3], start.elapsed());
            assert!(decoded.len() * 3 >= text.len(), "{:?}", &text[..3]);
        }
    }
}

/// Patterns look behind runs of spaces, for which the regular expressions keep a step for each. Where those are too
/// many, there is an error, not another cut.
#[test]
fn a_run_of_millions_of_spaces_is_refused() {
    let tokenizer = Tokenizer::from_file(&fixture("byte_level.json")).unwrap();
    let message = tokenizer.encode(&" ".repeat(4 << 20), Special::Parse).unwrap_err().to_string();
    assert!(message.contains("pre_tokenizer"), "{message}");
}

#[track_caller]
fn assert_refused(builder: &Builder, parts: &[&str]) {
    let message = from_gguf(builder).unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn bad_gguf_vocabularies_are_refused_by_key() {
    let types = |types: &[i32]| {
        let bytes: Vec<u8> = types.iter().flat_map(|kind| kind.to_le_bytes()).collect();
        array(I32, types.len() as u64, &bytes)
    };
    let scores = |n: usize| array(F32, n as u64, &vec![0; 4 * n]);
    let gpt2 = |tokens: &[&str], merges: &[&str]| {
        Builder::new()
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", "gpt-2")
            .strings("tokenizer.ggml.tokens", tokens)
            .strings("tokenizer.ggml.merges", merges)
    };
    let llama = |tokens: &[&str], kinds: &[i32], n_scores: usize| {
        Builder::new()
            .string("tokenizer.ggml.model", "llama")
            .strings("tokenizer.ggml.tokens", tokens)
            .entry("tokenizer.ggml.token_type", ARRAY, &types(kinds))
            .entry("tokenizer.ggml.scores", ARRAY, &scores(n_scores))
    };
    assert_refused(&Builder::new(), &["tokenizer.ggml.tokens is missing"]);
    assert_refused(&gpt2(&[], &[]), &["tokenizer.ggml.tokens: expected at least one token"]);
    assert_refused(&gpt2(&["a", "b", "a"], &[]), &["tokens element 2", "\"a\", which is also element 0"]);
    assert_refused(&gpt2(&["a", "b"], &["a b"]), &["merges element 0", "\"ab\", no token"]);
    assert_refused(&gpt2(&["a", "b", "ab"], &["a b", "a x"]), &["merges element 1", "\"x\", no token"]);
    assert_refused(&gpt2(&["a", "b", "ab"], &["ab"]), &["merges element 0"]);
    assert_refused(&gpt2(&["a"], &[]).u32("tokenizer.ggml.eos_token_id", 1), &["eos_token_id", "below 1"]);
    let add_bos = gpt2(&["a"], &[]).entry("tokenizer.ggml.add_bos_token", BOOL, &[1]);
    assert_refused(&add_bos, &["bos_token_id is missing"]);
    let pre = Builder::new()
        .string("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", &["a"])
        .string("tokenizer.ggml.pre", "unheard-of");
    assert_refused(&pre, &["tokenizer.ggml.pre", "\"unheard-of\" is not supported"]);
    let model =
        Builder::new().string("tokenizer.ggml.model", "rwkv").strings("tokenizer.ggml.tokens", &["a"]);
    assert_refused(&model, &["tokenizer.ggml.model", "\"rwkv\" is not supported"]);

    for bad in ["<0x-1>", "<0x+1>", "<0x0>", "<0x100>", "<0xGG>", "<0x>", "0x00", ""] {
        assert_refused(&llama(&[bad], &[6], 1), &["tokens element 0", "a byte token like <0x0A>"]);
    }
    assert_refused(&llama(&["a", "b"], &[1], 2), &["token_type", "2 types", "found 1 types"]);
    assert_refused(&llama(&["a", "b"], &[1, 1], 1), &["scores", "2 scores", "found 1 scores"]);
    let long = "x".repeat(1_000_000);
    assert_refused(&llama(&["a", &long], &[1, 3], 2), &["tokens element 1", "1000000 bytes"]);
    // A piece may be as long as it likes: it only ever merges from shorter ones.
    let tokenizer = from_gguf(&llama(&["x", "xx", &long], &[1, 1, 1], 3)).unwrap();
    assert_eq!(tokenizer.encode(&long, Special::Text).unwrap().len(), 500_000);
}

/// Merges that undo each other in text cannot loop: every merge makes a word shorter.
#[test]
fn merges_end_whatever_they_say() {
    let cyclic = Builder::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "gpt-2")
        .strings("tokenizer.ggml.tokens", &["a", "aa", "aaa", ""])
        .strings("tokenizer.ggml.merges", &["a a", "aa a", "a aa", "a a"]);
    let tokenizer = from_gguf(&cyclic).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("aaaaaaaa", Special::Text).unwrap()), "aaaaaaaa");
}

#[test]
fn bad_tokenizer_jsons_are_refused_by_field() {
    let refuse = |change: fn(&mut Value), parts: &[&str]| {
        let mut json = json("sentence_piece");
        change(&mut json);
        let message = Tokenizer::from_json("tokenizer.json", &json.to_string()).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    refuse(|json| json["model"]["type"] = "Unigram".into(), &["model.type", "Unigram", "not supported"]);
    refuse(|json| json["model"]["vocab"]["far"] = 4_000_000_000u32.into(), &["model.vocab", "4000000000"]);
    refuse(|json| json["model"]["vocab"]["far"] = (-1).into(), &["model.vocab.far", "an id"]);
    refuse(|json| json["model"]["vocab"]["twin"] = 300.into(), &["one token per id", "300 for both"]);
    refuse(|json| json["model"]["merges"][2] = "ab".into(), &["model.merges[2]"]);
    refuse(|json| json["model"]["merges"][2][0] = "nowhere".into(), &["model.merges[2]", "nowhere"]);
    refuse(|json| json["model"]["unk_token"] = "<nil>".into(), &["model.unk_token", "<nil>"]);
    refuse(|json| json["model"]["end_of_word_suffix"] = "</w>".into(), &["model.end_of_word_suffix"]);
    refuse(|json| json["added_tokens"][0]["id"] = 300.into(), &["added_tokens", "300"]);
    refuse(|json| json["added_tokens"][0]["content"] = "x".repeat(600).into(), &["added_tokens[0]", "600"]);
    refuse(|json| json["decoder"] = Value::Null, &["decoder is missing"]);
    refuse(|json| json["decoder"]["decoders"][0]["content"] = "_".into(), &["decoder", "not supported"]);
    refuse(|json| json["normalizer"]["type"] = "Precompiled".into(), &["Precompiled"]);
    refuse(|json| json["post_processor"]["type"] = "BertProcessing".into(), &["post_processor"]);
    refuse(|json| json["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 9999.into(), &["9999"]);
    let regex = r#"{"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false}"#;
    let mut split = json("digits");
    split["pre_tokenizer"] = serde_json::from_str(regex).unwrap();
    let message = Tokenizer::from_json("tokenizer.json", &split.to_string()).unwrap_err().to_string();
    assert!(message.contains("a regular expression"), "{message}");
    let deep = "[".repeat(100_000);
    assert!(Tokenizer::from_json("tokenizer.json", &deep).is_err());
}
