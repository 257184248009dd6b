//! The metadata of a GGUF file: those of the origin where that was a GGUF file, made from configuration and tokenizer
//! where it was not.

use sterna_formats::gguf::{Entries, Metadata};
use sterna_formats::{Checkpoint, Tokenizer};

use crate::arch::GgufForm;
use crate::arch::to_gguf::{Divisors, hyper_parameters};
use crate::error::Result;
use crate::spec::Spec;

const ALIGNMENT: &str = "general.alignment";

/// The version of the block types' layout that is current; llama.cpp asks for it in files with such types.
const QUANTIZATION_VERSION: u32 = 2;

/// Those of a GGUF checkpoint, whose tensors are copied.
pub(super) fn copied(origin: &Metadata) -> Result<Entries> {
    Ok(Entries::of(origin, |key| !is_of_file(key))?)
}

/// Those of the GGUF file that a native file was made of, for other weights.
pub(super) fn of_origin(origin: &Metadata) -> Result<Entries> {
    Ok(Entries::of(origin, |key| !is_of_file(key) && !is_of_weights(key))?)
}

/// Those that say what `config.json` and its siblings say; and what of it tensors must say.
pub(super) fn made(
    checkpoint: &Checkpoint,
    spec: &Spec,
    architecture: &'static str,
    form: &GgufForm,
) -> Result<(Entries, Vec<Divisors>)> {
    let mut entries = Entries::default();
    entries.push("general.architecture", architecture);
    entries.push("general.type", "model");
    entries.push("general.name", &*name(checkpoint)?);
    let divisors = hyper_parameters(spec, architecture, form, &mut entries);
    if checkpoint.tokenizer_json()?.is_none() {
        // So llama.cpp loads the file, and takes ids.
        entries.push("tokenizer.ggml.model", "no_vocab");
        return Ok((entries, divisors));
    }
    let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
    entries.append(tokenizer.to_gguf(spec.vocab_size)?);
    if let Some(template) = checkpoint.chat_template()? {
        entries.push("tokenizer.chat_template", &*template);
    }
    Ok((entries, divisors))
}

/// Appends what is said of the weights: `file_type` is llama.cpp's number for the type that most have.
pub(super) fn describe_weights(entries: &mut Entries, file_type: u32) {
    entries.push("general.quantization_version", &QUANTIZATION_VERSION);
    entries.push("general.file_type", &file_type);
}

/// Keys that belong to the file that they are in.
fn is_of_file(key: &str) -> bool {
    key == ALIGNMENT || key.starts_with("split.")
}

/// Keys that say how weights are stored.
fn is_of_weights(key: &str) -> bool {
    ["general.file_type", "general.quantization_version"].contains(&key) || key.starts_with("quantize.")
}

/// What to call the model: as its origin is called.
fn name(checkpoint: &Checkpoint) -> Result<String> {
    if let Some(native) = checkpoint.native() {
        return Ok(native.about()?.origin);
    }
    let path = checkpoint.path();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Ok(path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
}
