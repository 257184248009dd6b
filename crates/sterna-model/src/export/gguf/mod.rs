//! A checkpoint as a GGUF file.
//!
//! A GGUF checkpoint is copied. Of any other the tensors get the names, the order of rows and the types that
//! llama.cpp expects: weights of a few bits keep their codes and scales wherever a block type of 32 can hold them.

mod encode;
mod plan;

use std::path::Path;

use sterna_formats::gguf::{Entries, Writer};
use sterna_formats::{Checkpoint, Config};

use super::{Export, Written};
use crate::error::{ModelError, Result};
use plan::Planned;

/// What may be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Weights of four bits with zero points become Q5_0, which holds them exactly, in place of the smaller Q4_1, whose
    /// minima are rounded.
    pub exact: bool,
}

/// A GGUF file that is being written.
#[derive(Debug)]
pub struct GgufExport {
    writer: Writer,
    tensors: Vec<Planned>,
    /// Tensors written.
    done: usize,
}

/// The version of the block types' layout that is current; llama.cpp asks for it in files with such types.
const QUANTIZATION_VERSION: u32 = 2;

impl GgufExport {
    /// Begins to write `checkpoint` to `path`.
    ///
    /// # Errors
    /// Those of loading, and when the checkpoint cannot be expressed in a GGUF file, which is said by name.
    pub fn create(checkpoint: &Checkpoint, path: &Path, options: Options) -> Result<GgufExport> {
        let Config::Gguf(metadata) = checkpoint.config() else {
            return Err(ModelError::field(
                checkpoint.path(),
                "configuration",
                "that of a GGUF file",
                "another",
            ));
        };
        let is_copy = checkpoint.native().is_none();
        let tensors = if is_copy { plan::copy(checkpoint) } else { plan::tensors(checkpoint, options)? };
        let mut entries = Entries::of(metadata, |key| {
            !key.starts_with("split.") && key != ALIGNMENT && (is_copy || !is_of_weights(key))
        })?;
        if !is_copy {
            entries.push("general.quantization_version", &QUANTIZATION_VERSION);
            entries.push("general.file_type", &plan::file_type(&tensors));
        }
        let infos = tensors.iter().map(|tensor| tensor.info.clone()).collect();
        let writer = Writer::create(path, &entries, infos)?;
        Ok(GgufExport { writer, tensors, done: 0 })
    }
}

const ALIGNMENT: &str = "general.alignment";

/// Keys that say how the weights of the origin were stored.
fn is_of_weights(key: &str) -> bool {
    ["general.file_type", "general.quantization_version"].contains(&key) || key.starts_with("quantize.")
}

impl Export for GgufExport {
    fn n_tensors(&self) -> usize {
        self.tensors.len()
    }

    fn step(&mut self) -> Result<Option<Written>> {
        let Some(tensor) = self.tensors.get(self.done) else { return Ok(None) };
        let error = tensor.write(&mut self.writer)?;
        self.done += 1;
        Ok(Some(Written {
            name: tensor.info.name.clone(),
            shape: tensor.info.shape.clone(),
            from: tensor.from(),
            to: tensor.info.ty.to_string(),
            error: error.relative(),
        }))
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        Ok(self.writer.finish()?)
    }
}
