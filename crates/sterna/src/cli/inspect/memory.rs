//! How much memory a network takes while it runs, as the system will count it, known before it is loaded.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use sterna::synthetic::Shape;
use sterna::{Checkpoint, Compute, EngineOptions, KvType, MAX_CHUNK, Spec};
use sterna_tensor::PackedFormat;

use super::kernels;
use crate::cli::units;

/// The command itself, with its threads.
const PROGRAM_BYTES: u64 = 13 << 20;

/// What the system maps around a byte of a file that is read: the rows of an embedding are far apart.
const BYTES_AROUND_A_ROW: f64 = (64 << 10) as f64;

/// A sequence that a model should at least be able to hold.
pub(super) const USUAL_CONTEXT: usize = 4096;

/// Bytes resident while running, expected.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct Memory {
    /// Tokens of the sequence.
    pub(super) context: usize,
    pub(super) kv_type: String,
    /// Matrices as they are multiplied, and vectors.
    pub(super) weights_bytes: u64,
    /// Of the embedding in its file, what so many tokens make the system map.
    pub(super) embedding_bytes: u64,
    pub(super) kv_bytes: u64,
    /// Of recurrences: the same at any length.
    pub(super) state_bytes: u64,
    /// What forward passes compute in.
    pub(super) scratch_bytes: u64,
    pub(super) program_bytes: u64,
    pub(in crate::cli) total_bytes: u64,
}

impl Memory {
    /// Of a checkpoint with a sequence of `context` tokens, read as a prompt is.
    pub(in crate::cli) fn of(
        checkpoint: &Checkpoint,
        spec: &Spec,
        compute: &Compute,
        context: usize,
        kv: KvType,
    ) -> Memory {
        let (mut weights, mut embedding) = (0, 0);
        for tensor in checkpoint.tensors() {
            let (used, size) = (kernels::of(tensor, spec, compute), tensor.n_bytes() as u64);
            let is_embedding = kernels::is_embedding(tensor);
            if is_embedding {
                embedding = size;
            }
            // Native files are multiplied where they are mapped, and their embedding with them.
            if !is_embedding || spec.tied_embeddings {
                weights += used.memory_bytes(size);
            }
            if is_embedding && spec.tied_embeddings && used.is_mapped {
                embedding = 0;
            }
        }
        let embedding = embedding as f64;
        let share = 1.0 - (-(context as f64) * BYTES_AROUND_A_ROW / embedding.max(1.0)).exp();
        Memory::new(spec, (MAX_CHUNK, context), kv, weights, (embedding * share) as u64)
    }

    /// Of the model at `path`, run with `options`: with as long a sequence as they ask for, or one of 4096 tokens, for more is taken
    /// only as a sequence grows.
    pub(in crate::cli) fn of_model(path: &Path, options: &EngineOptions) -> anyhow::Result<Memory> {
        let checkpoint = Checkpoint::open(path)?;
        let spec = Spec::of(&checkpoint)?;
        let context = options.context.unwrap_or(USUAL_CONTEXT).min(options.context_of(&spec)?);
        Ok(Memory::of(&checkpoint, &spec, &options.compute()?, context, options.kv))
    }

    /// Of made-up weights in `format`, and up to `chunk` tokens at once.
    pub(in crate::cli) fn of_shape(
        shape: &Shape,
        format: PackedFormat,
        chunk: usize,
        options: &EngineOptions,
    ) -> anyhow::Result<Memory> {
        let spec = shape.spec()?;
        let weights = shape.weight_bytes(format)? as u64;
        Ok(Memory::new(&spec, (chunk, spec.context_length), options.kv, weights, 0))
    }

    /// For people.
    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "memory         {} at {} tokens", units::bytes(self.total_bytes), self.context)?;
        for (what, bytes) in [
            ("weights", self.weights_bytes),
            ("rows of the embedding, in the file", self.embedding_bytes),
            (&format!("keys and values ({})", self.kv_type), self.kv_bytes),
            ("states of recurrences (f32)", self.state_bytes),
            ("scratch", self.scratch_bytes),
            ("program", self.program_bytes),
        ] {
            if bytes > 0 {
                writeln!(out, "{:14} {:>9}  {what}", "", units::bytes(bytes))?;
            }
        }
        Ok(())
    }

    fn new(
        spec: &Spec,
        (chunk, context): (usize, usize),
        kv: KvType,
        weights_bytes: u64,
        embedding_bytes: u64,
    ) -> Memory {
        let kv_bytes = spec.kv_bytes(kv, context) as u64;
        let state_bytes = spec.state_bytes() as u64;
        let scratch_bytes = spec.scratch_bytes(chunk, context) as u64;
        let total_bytes = weights_bytes
            .saturating_add(embedding_bytes + kv_bytes + state_bytes + scratch_bytes + PROGRAM_BYTES);
        Memory {
            context,
            kv_type: kv.to_string(),
            weights_bytes,
            embedding_bytes,
            kv_bytes,
            state_bytes,
            scratch_bytes,
            program_bytes: PROGRAM_BYTES,
            total_bytes,
        }
    }
}
