//! `--to gguf`: one file for llama.cpp.

use std::path::Path;

use anyhow::ensure;
use sterna::Checkpoint;
use sterna_model::export::Export;
use sterna_model::export::gguf::{GgufExport, Options};

/// Refuses other names than those of GGUF files: by them programs know what a file is.
pub(super) fn check_path(output: &Path) -> anyhow::Result<()> {
    let is_gguf = output.extension().is_some_and(|extension| extension == "gguf");
    ensure!(is_gguf, "{}: expected a name that ends in .gguf", output.display());
    Ok(())
}

/// Begins the file at `output`.
pub(super) fn begin(checkpoint: &Checkpoint, output: &Path, exact: bool) -> anyhow::Result<Box<dyn Export>> {
    Ok(Box::new(GgufExport::create(checkpoint, output, Options { exact })?))
}
