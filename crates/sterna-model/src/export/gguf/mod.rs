//! A checkpoint as a GGUF file.
//!
//! A GGUF checkpoint is copied. Of any other, the metadata are made or taken from the origin, and the tensors get the names, the order of rows and the types that
//! llama.cpp expects: weights of a few bits keep their codes and scales wherever a block type of 32 can hold them.

mod check;
mod encode;
mod layout;
mod metadata;
mod plan;

use std::path::Path;

use sterna_formats::gguf::{Entries, Writer};
use sterna_formats::{Checkpoint, Config};

use super::{Export, Written, check_projections};
use crate::arch::{self, FactorsInGguf};
use crate::error::{ModelError, Result};
use plan::Planned;

/// What may be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Every weight stays what it is. Weights of four bits with zero points become Q5_0 in place of the smaller Q4_1, whose
    /// minima are rounded; those with scales of `f32`, and those that no block of 32 holds, become F32.
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

/// Whether the network and the tokenizer of `checkpoint` can be expressed in a GGUF file, whatever its weights become.
///
/// # Errors
/// Those of [`GgufExport::create`], but for weights and the file itself.
pub fn is_expressible(checkpoint: &Checkpoint) -> Result<()> {
    let is_copy = matches!(checkpoint.config(), Config::Gguf(_)) && checkpoint.native().is_none();
    if !is_copy {
        plan(checkpoint, checkpoint.path(), Options::default())?;
    }
    Ok(())
}

impl GgufExport {
    /// Begins to write `checkpoint` to `path`.
    ///
    /// # Errors
    /// Those of loading, and when the checkpoint cannot be expressed in a GGUF file, which is said by name.
    pub fn create(checkpoint: &Checkpoint, path: &Path, options: Options) -> Result<GgufExport> {
        let (entries, tensors) = match (checkpoint.config(), checkpoint.native()) {
            (Config::Gguf(origin), None) => (metadata::copied(origin)?, plan::copy(checkpoint)),
            _ => plan(checkpoint, path, options)?,
        };
        let infos = tensors.iter().map(|tensor| tensor.info.clone()).collect();
        let writer = Writer::create(path, &entries, infos)?;
        Ok(GgufExport { writer, tensors, done: 0 })
    }
}

/// What a GGUF file at `path` will hold, which has been compared with what the checkpoint says.
fn plan(checkpoint: &Checkpoint, path: &Path, options: Options) -> Result<(Entries, Vec<Planned>)> {
    let reading = arch::read(checkpoint)?;
    check_projections(checkpoint.path(), &reading.spec)?;
    let Some(architecture) = reading.gguf.architecture else {
        let (expected, found) = ("one that llama.cpp knows", reading.spec.architecture);
        return Err(ModelError::field(checkpoint.path(), "architecture", expected, found));
    };
    let spec = if reading.gguf.factors == FactorsInGguf::InWeights {
        layout::folded(&reading.spec)
    } else {
        reading.spec.clone()
    };
    let mut tensors = plan::tensors(checkpoint, &reading, options)?;
    let mut entries = match checkpoint.config() {
        Config::Gguf(origin) => metadata::of_origin(origin)?,
        Config::Hf(_) => {
            let (entries, divisors) = metadata::made(checkpoint, &spec, architecture, &reading.gguf)?;
            tensors.extend(divisors.into_iter().map(Planned::from));
            entries
        }
    };
    metadata::describe_weights(&mut entries, plan::file_type(&tensors));
    let read_back = entries.to_metadata(&path.display().to_string())?;
    check::says_the_same(path, &spec, read_back, &tensors)?;
    Ok((entries, tensors))
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
            from: tensor.original_type(),
            to: tensor.info.ty.to_string(),
            error: error.relative(),
        }))
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        Ok(self.writer.finish()?)
    }
}
