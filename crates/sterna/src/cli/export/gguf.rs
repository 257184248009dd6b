//! `--to gguf`: one file for llama.cpp.

use std::path::Path;

use anyhow::ensure;
use sterna::Checkpoint;
use sterna_model::export::Export;
use sterna_model::export::gguf::{GgufExport, Options};

/// Begins the file at `output`.
pub(super) fn create(checkpoint: &Checkpoint, output: &Path, exact: bool) -> anyhow::Result<Box<dyn Export>> {
    let is_gguf = output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    ensure!(is_gguf, "{}: expected a name that ends in .gguf", output.display());
    Ok(Box::new(GgufExport::create(checkpoint, output, Options { exact })?))
}
