//! The sampling that a model's files recommend.

use sterna_formats::{Checkpoint, FormatError};
use sterna_model::sampling::SamplingOptions;

/// `generation_config.json` or the `general.sampling.*` keys of a GGUF file, over Sterna's defaults.
///
/// `do_sample: false`, which many files hold only because it is the library's default, is not taken as a recommendation to be
/// greedy.
///
/// # Errors
/// The file is malformed.
pub fn recommended_sampling(checkpoint: &Checkpoint) -> Result<SamplingOptions, FormatError> {
    let said = checkpoint.generation_config()?;
    let base = SamplingOptions::default();
    let options = SamplingOptions {
        temperature: said.temperature.unwrap_or(base.temperature),
        top_k: said.top_k.unwrap_or(base.top_k),
        top_p: said.top_p.unwrap_or(base.top_p),
        min_p: said.min_p.unwrap_or(base.min_p),
        repeat_penalty: said.repetition_penalty.unwrap_or(base.repeat_penalty),
        ..base.clone()
    };
    // Numbers that no sampler can use recommend nothing.
    Ok(if options.validate().is_ok() { options } else { base })
}
