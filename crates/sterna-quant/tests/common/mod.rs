//! Sources of logits for tests: tables and tiny checkpoints.

#![allow(dead_code, reason = "each test file is a crate of its own and uses what it needs")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sterna_formats::Checkpoint;
use sterna_model::{KvType, LoadOptions, Model};
use sterna_quant::eval::{LogitSource, Result, Runner, Visit};
use sterna_tensor::{Compute, Pool, Precision};

/// Logits that depend on the token and its position alone.
pub(crate) struct Table {
    pool: Pool,
    vocab_size: usize,
    logit: fn(position: usize, token: u32, next: usize) -> f32,
    /// Logits that were asked for: first position and number.
    pub(crate) asked: Vec<(usize, usize)>,
}

impl Table {
    pub(crate) fn new(vocab_size: usize, logit: fn(usize, u32, usize) -> f32) -> Table {
        Table { pool: Pool::new(2), vocab_size, logit, asked: Vec::new() }
    }
}

impl LogitSource for Table {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context_length(&self) -> usize {
        64
    }

    fn logits(&mut self, tokens: &[u32], first: usize, visit: &mut Visit<'_>) -> Result<()> {
        self.asked.push((first, tokens.len() - first));
        // Three at a time, as a model whose logits do not fit in memory.
        for start in (first..tokens.len()).step_by(3) {
            let positions = start..tokens.len().min(start + 3);
            let row = |at: usize| {
                let (logit, token) = (self.logit, tokens[at]);
                (0..self.vocab_size).map(move |next| logit(at, token, next))
            };
            visit(&self.pool, start, &positions.flat_map(row).collect::<Vec<f32>>());
        }
        Ok(())
    }
}

/// A path under the repository's `tests/fixtures`.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path)
}

pub(crate) fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture("checkpoints").join(name)).unwrap()
}

pub(crate) fn model(name: &str) -> (Arc<Model>, Arc<Compute>) {
    let compute = Compute::new(2, Precision::Float);
    let model = Model::load(&checkpoint(name), &LoadOptions::default(), &compute).unwrap();
    (Arc::new(model), Arc::new(compute))
}

pub(crate) fn runner(name: &str) -> Runner {
    let (model, compute) = model(name);
    Runner::new(&model, &compute, KvType::F32)
}

/// Some text: tokens of a walk through a vocabulary of 384.
pub(crate) fn text(n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + i / 5) % 384) as u32).collect()
}
