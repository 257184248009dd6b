//! Compare a tokenizer with recorded reference ids.
//!
//! A reference is a JSON object per line: `text`; `ids` (special tokens as plain text), `ids_special` (parsed) and
//! `ids_bos` (parsed, BOS and EOS as the file asks), all from llama.cpp; `hf_special`, what Hugging Face gives
//! where it differs; `roundtrip`, whether decoding gives the text back.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use sterna_formats::{Checkpoint, Special, Tokenizer};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// GGUF file, or directory with a tokenizer.json
    model: PathBuf,
    /// Reference texts and ids, one JSON object per line
    references: PathBuf,
}

#[derive(serde::Deserialize)]
struct Reference {
    text: String,
    ids: Vec<u32>,
    ids_special: Vec<u32>,
    ids_bos: Vec<u32>,
    hf_special: Option<Vec<u32>>,
    roundtrip: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&args.model)?;
    let start = Instant::now();
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint)?;
    println!("{} tokens, read in {:.0?}", tokenizer.vocab_size(), start.elapsed());
    let lines = std::fs::read_to_string(&args.references)
        .with_context(|| format!("cannot read {}", args.references.display()))?;
    let (mut texts, mut mismatches) = (0, 0);
    for (number, line) in (1..).zip(lines.lines()) {
        let place = || format!("{} line {number}", args.references.display());
        let reference: Reference = serde_json::from_str(line).with_context(place)?;
        texts += 1;
        for mismatch in compare(&tokenizer, &reference)? {
            mismatches += 1;
            println!("{}: {mismatch}", place());
        }
    }
    println!("{texts} texts, {mismatches} mismatches");
    ensure!(texts > 0 && mismatches == 0, "{mismatches} of the ids and texts differ from the reference");
    Ok(())
}

/// What of `reference` the tokenizer does not reproduce.
fn compare(tokenizer: &Tokenizer, reference: &Reference) -> anyhow::Result<Vec<String>> {
    let Reference { text, ids, ids_special, ids_bos, hf_special, roundtrip } = reference;
    // Where the two differ Hugging Face is followed. It is recorded for parsed text only; but text in which it finds
    // no special token has the same ids either way, and after BOS. (llama.cpp also spares tokens that only look
    // special, such as `</s>` in Gemma's vocabulary, in plain text.)
    let wanted = |llama_cpp| hf_special.as_ref().unwrap_or(llama_cpp);
    let parsed = wanted(ids_special);
    let plain = if parsed.iter().any(|&id| tokenizer.is_special(id)) { ids } else { parsed };
    let mut mismatches = Vec::new();
    let mut expect = |what: &str, found: &[u32], wanted: &[u32]| {
        if found != wanted {
            mismatches.push(format!("{text:?}: {what} are {found:?}, should be {wanted:?}"));
        }
    };
    expect("ids of plain text", &tokenizer.encode(text, Special::Text)?, plain);
    expect("ids", &tokenizer.encode(text, Special::Parse)?, parsed);
    expect("ids with BOS", &tokenizer.encode_with_bos(text)?, wanted(ids_bos));
    if *roundtrip {
        // llama.cpp's ids, since Hugging Face's may be those of a normalized text.
        let decoded = [("decoded", tokenizer.decode(ids)), ("streamed", streamed(tokenizer, ids))];
        for (what, found) in decoded.into_iter().filter(|(_, found)| found != text) {
            mismatches.push(format!("{text:?}: {what} as {found:?}"));
        }
    }
    Ok(mismatches)
}

/// The text of `ids`, each fed alone.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
    text.extend(stream.finish());
    text
}
