//! The text that a quantized model is fitted to: a file, what comes with sterna, or what the model writes itself.

use std::fs;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use sterna::{Checkpoint, Tokenizer};
use sterna_quant::calibration;

use super::own_text;

/// Tokens of a piece of text.
pub(super) const SEQUENCE: usize = 512;

/// Most tokens of text that is there, and of text that has to be written first.
const READ_TOKENS: usize = 16 << 10;
const WRITTEN_TOKENS: usize = 4 << 10;

/// Pieces of the text that `source` names (see `--calib`), at most `most` tokens in all; none when interrupted.
pub(super) fn sequences(
    source: &str,
    most: Option<usize>,
    checkpoint: &Checkpoint,
    n_threads: usize,
    cancel: &AtomicBool,
) -> anyhow::Result<Option<Vec<Vec<u32>>>> {
    let text = match source {
        "none" => return Ok(Some(Vec::new())),
        "self" => {
            return own_text::sequences(
                checkpoint.path(),
                SEQUENCE,
                most.unwrap_or(WRITTEN_TOKENS),
                n_threads,
                cancel,
            );
        }
        "builtin" => calibration::builtin(),
        file => fs::read_to_string(file).with_context(|| format!("calibration text {file}"))?,
    };
    let tokens = Tokenizer::from_checkpoint(checkpoint)?.encode_with_bos(&text)?;
    Ok(Some(calibration::sequences(&tokens, SEQUENCE, most.unwrap_or(READ_TOKENS))?))
}
