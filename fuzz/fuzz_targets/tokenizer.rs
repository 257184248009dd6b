//! Tokenizers: any text gives a tokenizer that encodes and decodes, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sterna_formats::{Special, Tokenizer};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Ok(tokenizer) = Tokenizer::from_json("tokenizer.json", &text) else { return };
    // The file itself is as odd a text as any; its tokens are in it.
    let text: String = text.chars().take(1000).collect();
    for special in [Special::Parse, Special::Text] {
        let Ok(ids) = tokenizer.encode(&text, special) else { continue };
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        let _ = tokenizer.decode(&ids);
    }
});
