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

/// A token of the vocabulary, its text, lookups both ways and merges: 118 to 137 in those of SmolLM2, Qwen2.5 and Gemma 3.
const TOKENIZER_BYTES_PER_TOKEN: u64 = 128;

/// The part of the command that takes text apart, writes prompts and samples, which no timing of token ids needs.
const TEXT_BYTES: u64 = 2 << 20;

/// What the system maps around a byte of a file that is read: the rows of an embedding are far apart.
const BYTES_AROUND_A_ROW: f64 = (64 << 10) as f64;

/// Places of an embedding that a text of `n_tokens` reads, as texts repeat their words (Heaps' law): those of the documentation and
/// of WikiText read 8 to 11 times the root.
fn places_read(n_tokens: usize) -> f64 {
    10.0 * (n_tokens as f64).sqrt()
}

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
    pub(super) tokenizer_bytes: u64,
    pub(super) program_bytes: u64,
    pub(in crate::cli) total_bytes: u64,
}

impl Memory {
    /// Of a checkpoint and its tokenizer with a sequence of `context` tokens, read as a prompt is.
    pub(in crate::cli) fn of(
        checkpoint: &Checkpoint,
        spec: &Spec,
        compute: &Compute,
        context: usize,
        kv: KvType,
    ) -> Memory {
        let (mut weights, mut embedding) = (0, 0);
        for tensor in checkpoint.tensors() {
            let size = tensor.n_bytes() as u64;
            match kernels::is_embedding(tensor) && !spec.tied_embeddings {
                true => embedding = size,
                false => weights += kernels::of(tensor, spec, compute).memory_bytes(size),
            }
        }
        let embedding = embedding as f64;
        let share = 1.0 - (-places_read(context) * BYTES_AROUND_A_ROW / embedding.max(1.0)).exp();
        let network = Memory::of_network(spec, (MAX_CHUNK, context), kv, weights, (embedding * share) as u64);
        let tokenizer_bytes = TEXT_BYTES + TOKENIZER_BYTES_PER_TOKEN * spec.vocab_size as u64;
        Memory {
            tokenizer_bytes,
            total_bytes: network.total_bytes.saturating_add(tokenizer_bytes),
            ..network
        }
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
        Ok(Memory::of_network(&spec, (chunk, spec.context_length), options.kv, weights, 0))
    }

    /// Of the same where only token ids are used.
    pub(in crate::cli) fn without_tokenizer(self) -> Memory {
        Memory { tokenizer_bytes: 0, total_bytes: self.total_bytes - self.tokenizer_bytes, ..self }
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
            ("tokenizer", self.tokenizer_bytes),
            ("program", self.program_bytes),
        ] {
            if bytes > 0 {
                writeln!(out, "{:14} {:>9}  {what}", "", units::bytes(bytes))?;
            }
        }
        Ok(())
    }

    fn of_network(
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
            tokenizer_bytes: 0,
            program_bytes: PROGRAM_BYTES,
            total_bytes,
        }
    }
}
