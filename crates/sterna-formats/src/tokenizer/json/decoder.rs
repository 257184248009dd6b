//! The `decoder` of a `tokenizer.json`: how its tokens spell text.

use serde_json::Value;

use super::super::Spelling;
use super::kind;
use crate::error::{FormatError, Result};

pub(super) struct Decoder {
    pub(super) spelling: Spelling,
    pub(super) strips_leading_space: bool,
}

/// Reads the decoder, one of the few forms that BPE tokenizers have.
pub(super) fn read(file: &str, decoder: Option<&Value>) -> Result<Decoder> {
    let decoder = decoder.filter(|value| !value.is_null());
    let decoder = decoder.ok_or_else(|| FormatError::missing(file, "decoder"))?;
    let one = [decoder.clone()];
    let list = match decoder.get("decoders").and_then(Value::as_array) {
        Some(list) if kind(decoder) == "Sequence" => list,
        _ => &one[..],
    };
    let mut read = Decoder { spelling: Spelling::SentencePiece, strips_leading_space: false };
    for step in list {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let number = |key: &str| step.get(key).and_then(Value::as_u64);
        match kind(step) {
            "ByteLevel" => read.spelling = Spelling::ByteLevel,
            "ByteFallback" | "Fuse" => {}
            "Replace"
                if step.pointer("/pattern/String").and_then(Value::as_str) == Some("▁")
                    && text("content") == Some(" ") => {}
            "Strip" if text("content") == Some(" ") && number("stop") == Some(0) => {
                read.strips_leading_space = number("start") == Some(1);
            }
            "Metaspace" if text("replacement") == Some("▁") => {
                let never = text("prepend_scheme") == Some("never")
                    || step.get("add_prefix_space").and_then(Value::as_bool) == Some(false);
                read.strips_leading_space = !never;
            }
            _ => return Err(FormatError::unsupported(file, "decoder", step.to_string())),
        }
    }
    Ok(read)
}
