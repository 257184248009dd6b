//! Quantized layers on their way into a native file.

use std::collections::HashMap;
use std::path::Path;

use sterna::{Checkpoint, Pool, RowOrder, Tensor, TensorType};
use sterna_formats::FormatError;
use sterna_formats::native::{About, Documents, Resumed, Writer};
use sterna_model::layerwise::FloatLinear;
use sterna_model::native::CanonicalTensor;
use sterna_quant::pipeline::Sink;
use sterna_quant::recipe::Recipe;
use sterna_quant::rounding::Quantized;
use sterna_quant::{QuantError, Result};
use sterna_tensor::{DType, PackedFormat};

use super::resume::Progress;
use crate::cli::quality::Quality;

/// A native file that is being written.
pub(super) struct NativeSink<'a> {
    writer: Writer,
    pool: &'a Pool,
    /// By name, mapped where an earlier run wrote it.
    written: HashMap<String, Option<Tensor>>,
}

impl<'a> NativeSink<'a> {
    /// Begins the file with the documents of `checkpoint`.
    pub(super) fn create(
        path: &Path,
        checkpoint: &Checkpoint,
        pool: &'a Pool,
    ) -> anyhow::Result<NativeSink<'a>> {
        let writer = Writer::create(path, &Documents::of(checkpoint)?)?;
        Ok(NativeSink { writer, pool, written: HashMap::new() })
    }

    /// Goes on with the file that an earlier run left, if there is one; returns what that run noted last.
    pub(super) fn resume(
        path: &Path,
        pool: &'a Pool,
    ) -> anyhow::Result<Option<(NativeSink<'a>, serde_json::Value)>> {
        let Some(Resumed { writer, state, tensors }) = Writer::resume(path)? else { return Ok(None) };
        let written = tensors.into_iter().map(|tensor| (tensor.name.clone(), Some(tensor))).collect();
        Ok(Some((NativeSink { writer, pool, written }, state)))
    }

    /// What an earlier run wrote under `name`.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(Some(tensor)) = self.written.get(name) else { return Ok(None) };
        let wrong = |error: FormatError| QuantError::Written(error.to_string());
        let values = match tensor.ty {
            TensorType::Packed(_) => {
                let matrix = tensor.matrix(RowOrder::AsStored, self.pool).map_err(wrong)?;
                let mut values = vec![0.0; matrix.rows() * matrix.cols()];
                values.chunks_exact_mut(matrix.cols()).enumerate().for_each(|(r, row)| matrix.row(r, row));
                values
            }
            _ => tensor.to_f32().map_err(wrong)?,
        };
        Ok(Some(values))
    }

    /// Notes how far things are, so that a later run can go on from here.
    pub(super) fn checkpoint(&mut self, progress: &Progress) -> anyhow::Result<()> {
        Ok(self.writer.checkpoint(&serde_json::to_value(progress)?)?)
    }

    /// Copies a tensor that the quantizer makes nothing of: ternary weights, and divisors of rotary frequencies.
    pub(super) fn add_if_missing(&mut self, tensor: &CanonicalTensor, recipe: &Recipe) -> anyhow::Result<()> {
        if self.written.contains_key(&tensor.name) {
            return Ok(());
        }
        let is_smallest = recipe.grid_of(&tensor.name, recipe.body).is_five_to_a_byte();
        let format = if is_smallest { PackedFormat::trits } else { PackedFormat::ternary };
        match tensor.ternary(format, self.pool)? {
            Some(weights) => weights.write(&tensor.name, &mut self.writer)?,
            None => self.floats(&tensor.name, &[tensor.cols], &tensor.load()?)?,
        }
        Ok(())
    }

    /// Completes the file.
    pub(super) fn finish(
        self,
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        quality: &Quality,
    ) -> anyhow::Result<()> {
        let origin = checkpoint.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let recipe = serde_json::to_value(recipe)?;
        self.writer.finish(&About {
            origin,
            recipe,
            quality: serde_json::to_value(quality)?,
            ..About::default()
        })?;
        Ok(())
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.add(name, shape, TensorType::Dense(DType::F32), &bytes)
    }

    fn add(&mut self, name: &str, shape: &[usize], ty: TensorType, bytes: &[u8]) -> Result<()> {
        self.written.insert(name.to_owned(), None);
        self.writer.add(name, shape, ty, bytes).map_err(|error| QuantError::Output(error.to_string()))
    }
}

impl Sink for NativeSink<'_> {
    fn vector(&mut self, name: &str, values: &[f32]) -> Result<()> {
        self.floats(name, &[values.len()], values)
    }

    fn float(&mut self, layer: &FloatLinear) -> Result<()> {
        self.floats(&layer.name, &[layer.rows, layer.cols], &layer.weight)
    }

    fn matrix(&mut self, name: &str, matrix: &Quantized) -> Result<()> {
        let packed = matrix.pack(self.pool)?;
        let shape = [matrix.rows, matrix.cols];
        self.add(name, &shape, TensorType::Packed(matrix.format), packed.as_bytes())
    }
}
