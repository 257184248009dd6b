//! The computed side: one checkpoint run in every way that must give the same logits.

use serde::Serialize;
use sterna_formats::Checkpoint;
use sterna_model::{
    KvType, LoadOptions, Logits, Model, ModelError, Reference, Site, State, Workspace, forward,
    forward_tapped,
};
use sterna_tensor::Compute;

use super::deviation::{Deviation, Figures, argmax, margin};
use super::recorded::Expected;

/// Tokens per forward pass, besides all at once: a power of two, an odd number that leaves a rest, and decoding.
const CHUNKS: [usize; 3] = [16, 7, 1];

/// One way of computing the logits of the prompt, and how far it was off.
#[derive(Debug, Serialize)]
pub(crate) struct Pass {
    /// `plain f32`, `prefill`, `prefill by 16`, …
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// How the greedy continuation compares.
#[derive(Debug, Serialize)]
#[serde(tag = "greedy", rename_all = "snake_case")]
pub(crate) enum Greedy {
    /// Token for token.
    Equal,
    /// First at this index, where the reference prefers its token by `margin`.
    Differs { at: usize, margin: f64 },
}

/// What all passes over one checkpoint gave.
pub(crate) struct Passes {
    /// Over the recorded prompt, and last the greedy continuation.
    pub(crate) passes: Vec<Pass>,
    pub(crate) greedy: Greedy,
    /// What the single-chunk prefill had at each site, in the order of the network.
    pub(crate) hidden: Vec<(Site, Vec<f32>)>,
}

/// Runs the plain reference pass, prefill in several chunkings, and the greedy continuation.
pub(crate) fn run(
    checkpoint: &Checkpoint,
    expected: &Expected,
    compute: &Compute,
) -> Result<Passes, ModelError> {
    let prompt = &expected.input_ids[..];
    let deviation = |logits: &[f32]| Deviation::of(logits, &expected.logits, expected.vocab_size);
    let pass =
        |name: &str, deviation: Deviation| Pass { name: name.to_owned(), figures: deviation.figures() };

    let mut passes = vec![pass("plain f32", deviation(&Reference::load(checkpoint)?.forward(prompt)?))];

    let model = Model::load(checkpoint, &LoadOptions::default(), compute)?;
    let mut workspace = Workspace::new();
    let mut hidden = Vec::new();
    let mut state = State::new(&model, KvType::F32);
    let mut tap = |site: Site, values: &[f32]| hidden.push((site, values.to_vec()));
    let logits =
        forward_tapped(&model, compute, &mut state, &mut workspace, prompt, Logits::All, Some(&mut tap))?;
    passes.push(pass("prefill", deviation(logits)));

    for chunk_len in CHUNKS {
        let mut state = State::new(&model, KvType::F32);
        state.expect_length(prompt.len());
        let mut logits = Vec::with_capacity(expected.logits.len());
        for chunk in prompt.chunks(chunk_len) {
            logits.extend_from_slice(forward(
                &model,
                compute,
                &mut state,
                &mut workspace,
                chunk,
                Logits::All,
            )?);
        }
        let name =
            if chunk_len == 1 { "token by token".to_owned() } else { format!("prefill by {chunk_len}") };
        passes.push(pass(&name, deviation(&logits)));
    }

    let (greedy, deviation) = continue_greedily(&model, compute, &mut workspace, expected)?;
    passes.push(pass("greedy", deviation));
    Ok(Passes { passes, greedy, hidden })
}

/// Continues the prompt by its likeliest tokens, as far as they are those of the reference.
fn continue_greedily(
    model: &Model,
    compute: &Compute,
    workspace: &mut Workspace,
    expected: &Expected,
) -> Result<(Greedy, Deviation), ModelError> {
    let mut state = State::new(model, KvType::F32);
    let mut next = expected.input_ids.clone();
    let mut deviation = Deviation::default();
    let reference = expected.greedy_logits.chunks_exact(expected.vocab_size);
    for (at, (&wanted, reference)) in expected.greedy_ids.iter().zip(reference).enumerate() {
        let logits = forward(model, compute, &mut state, workspace, &next, Logits::Last)?;
        deviation.add_row(logits, reference);
        let found = argmax(logits) as u32;
        if found != wanted {
            return Ok((Greedy::Differs { at, margin: margin(reference) }, deviation));
        }
        next = vec![found];
    }
    Ok((Greedy::Equal, deviation))
}
