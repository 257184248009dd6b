//! A small model that guesses what a large one will say.

use std::sync::Arc;
use std::time::Instant;

use sterna_tensor::{Compute, KvType};

use super::acceptance::Acceptance;
use super::cost::{Costs, mean};
use crate::generate::GenerateError;
use crate::sampling::Sampler;
use crate::{Logits, Model, Result, State, Workspace, forward};

/// Guesses are told apart by the probability that the draft model gives them, in so many steps.
const CONFIDENCES: usize = 16;

/// A model that may guess for another.
#[derive(Debug, Clone)]
pub struct DraftModel {
    draft: Arc<Model>,
    /// Tokens of the other; either model may have some more, which no text has.
    vocab_size: usize,
}

impl DraftModel {
    /// `draft` for `model`. That their token ids mean the same is for the caller to see to.
    ///
    /// # Errors
    /// [`GenerateError::CannotRewind`] when one of the two has recurrences.
    pub fn new(draft: Arc<Model>, model: &Model) -> std::result::Result<DraftModel, GenerateError> {
        for (what, model) in [("model", model), ("draft model", &draft)] {
            if !State::new(model, KvType::F16).can_rewind() {
                return Err(GenerateError::CannotRewind { what });
            }
        }
        Ok(DraftModel { draft, vocab_size: model.spec().vocab_size })
    }
}

/// A draft model and its state of the sequence.
pub(super) struct Draft {
    model: Arc<Model>,
    /// Of the large model.
    vocab_size: usize,
    compute: Arc<Compute>,
    state: State,
    workspace: Workspace,
    /// Draws as the large model's sampler is about to.
    sampler: Option<Sampler>,
    /// By confidence.
    acceptance: Acceptance,
    /// All confidences together, for the choice whether to guess at all.
    overall: Acceptance,
    /// The classes of the guesses just made.
    confidences: Vec<usize>,
    /// Seconds of a guess, a running mean.
    seconds: Option<f64>,
}

impl Draft {
    pub(super) fn new(
        DraftModel { draft, vocab_size }: &DraftModel,
        compute: &Arc<Compute>,
        kv: KvType,
    ) -> Draft {
        Draft {
            state: State::new(draft, kv),
            workspace: Workspace::new(),
            sampler: None,
            acceptance: Acceptance::new(|class| (class as f64 + 0.5) / (CONFIDENCES as f64 + 0.5)),
            overall: Acceptance::new(|_| 0.75),
            confidences: Vec::new(),
            seconds: None,
            model: Arc::clone(draft),
            vocab_size: *vocab_size,
            compute: Arc::clone(compute),
        }
    }

    /// Appends at most `most` guesses of what follows `seen` and then `newest` to `guesses`, as many as promise to pay. `sampler`
    /// is that of the large model, before it draws.
    ///
    /// # Errors
    /// The forward pass failed.
    pub(super) fn guess(
        &mut self,
        seen: &[u32],
        newest: u32,
        most: usize,
        sampler: &Sampler,
        costs: &Costs,
        guesses: &mut Vec<u32>,
    ) -> Result<()> {
        self.confidences.clear();
        let most = most.min(self.model.spec().context_length.saturating_sub(seen.len()));
        let planned = match self.planned(most, costs) {
            // What did not pay may do so now.
            0 if costs.allow_trial() => most.min(1),
            planned => planned,
        };
        if planned == 0 || !self.read(seen)? {
            return Ok(());
        }
        let mut sampler = match self.sampler.take() {
            Some(mut own) => {
                own.follow(sampler);
                own
            }
            None => sampler.clone(),
        };
        let (mut likely, mut next) = (1.0, newest);
        while guesses.len() < planned && (next as usize) < self.model.spec().vocab_size {
            let start = Instant::now();
            let (state, workspace) = (&mut self.state, &mut self.workspace);
            let logits = forward(&self.model, &self.compute, state, workspace, &[next], Logits::Last)?;
            next = sampler.sample(logits, state.tokens());
            let class = confidence(logits, next);
            mean(&mut self.seconds, start.elapsed().as_secs_f64());
            likely *= self.acceptance.of(class);
            let n = guesses.len() + 1;
            if next as usize >= self.vocab_size {
                break;
            }
            if n > 1 && likely < costs.relative(n + 1) - costs.relative(n) {
                // To have it checked would cost more than it promises.
                break;
            }
            guesses.push(next);
            self.confidences.push(class);
        }
        self.sampler = Some(sampler);
        Ok(())
    }

    /// Computes what the state lacks of `tokens`; false if the model cannot.
    ///
    /// # Errors
    /// The forward pass failed.
    pub(super) fn read(&mut self, tokens: &[u32]) -> Result<bool> {
        let shared = self.state.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let kept = self.state.truncate(shared);
        let (spec, new) = (self.model.spec(), &tokens[kept..]);
        if tokens.len() > spec.context_length || new.iter().any(|token| *token as usize >= spec.vocab_size) {
            return Ok(false);
        }
        if !new.is_empty() {
            let (state, workspace) = (&mut self.state, &mut self.workspace);
            forward(&self.model, &self.compute, state, workspace, new, Logits::Last)?;
        }
        Ok(true)
    }

    /// How many guesses promise to pay.
    fn planned(&self, most: usize, costs: &Costs) -> usize {
        let (Some(seconds), Some(single)) = (self.seconds, costs.single()) else { return most.min(1) };
        costs.best_count(most, seconds / single, |_| self.overall.of(0))
    }

    /// `n_true` of the guesses came true, and one more was refused if there were more.
    pub(super) fn observe(&mut self, n_true: usize) {
        for (i, class) in self.confidences.drain(..).take(n_true + 1).enumerate() {
            self.acceptance.observe(class, i < n_true);
            self.overall.observe(0, i < n_true);
        }
    }
}

/// The class of a guess by its share of softmax(logits): of all tokens, since what the filters leave alone is not always sure.
fn confidence(logits: &[f32], guess: u32) -> usize {
    let of = logits.get(guess as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let total: f32 = logits.iter().map(|logit| (logit - of).exp()).sum();
    // A casted NaN is 0.
    (CONFIDENCES as f32 / total) as usize
}
