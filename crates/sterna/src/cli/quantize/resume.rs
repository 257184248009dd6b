//! `--resume`: what an interrupted run was asked for, how far it came, and whether this run asks for the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sterna::Checkpoint;
use sterna_quant::recipe::Recipe;

use crate::cli::quality::Quality;

/// What a run works with. Fingerprints stand for what is large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Source {
    version: String,
    pub(super) checkpoint: u64,
    pub(super) text: u64,
}

/// What a run does, as far as the result depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    #[serde(flatten)]
    pub(super) source: Source,
    recipe: Recipe,
    bits_per_weight: Option<f64>,
}

/// How far a run came; noted in the unfinished file after each block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) request: Request,
    /// With the formats that a measurement chose, where there was one.
    pub(super) recipe: Recipe,
    pub(super) n_blocks: usize,
    pub(super) quality: Quality,
}

impl Source {
    pub(super) fn new(checkpoint: &Checkpoint, sequences: &[Vec<u32>]) -> Source {
        let mut tensors = DefaultHasher::new();
        for tensor in checkpoint.tensors() {
            (&tensor.name, &tensor.shape, tensor.ty.to_string()).hash(&mut tensors);
            tensor.data[..tensor.data.len().min(256)].hash(&mut tensors);
        }
        let mut text = DefaultHasher::new();
        sequences.hash(&mut text);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Source { version, checkpoint: tensors.finish(), text: text.finish() }
    }
}

impl Request {
    pub(super) fn new(source: Source, recipe: &Recipe, bits_per_weight: Option<f64>) -> Request {
        Request { source, recipe: recipe.clone(), bits_per_weight }
    }

    /// The progress that `state` tells of.
    ///
    /// # Errors
    /// When that was another request.
    pub(super) fn progress(&self, state: serde_json::Value) -> anyhow::Result<Progress> {
        let progress: Progress = serde_json::from_value(state)
            .context("the unfinished file was made by another version of sterna")?;
        let began = &progress.request;
        let differences = [
            ("another version of sterna", began.source.version != self.source.version),
            ("another checkpoint", began.source.checkpoint != self.source.checkpoint),
            ("another calibration text", began.source.text != self.source.text),
            ("another way of rounding", began.recipe != self.recipe),
            ("another --bpw", began.bits_per_weight != self.bits_per_weight),
        ];
        let different: Vec<&str> = differences.iter().filter(|(_, is)| *is).map(|(what, _)| *what).collect();
        ensure!(
            different.is_empty(),
            "the unfinished file was begun with {}; leave out --resume to begin anew",
            different.join(", ")
        );
        Ok(progress)
    }
}
