//! How well a model predicts a text.

use sterna_model::ModelError;

use super::progress::step;
use super::row::Row;
use super::{EvalError, LogitSource, Progress, Result, Windows};

/// The negative log-likelihood, in nats, of each scored token of `windows`, in their order. Perplexity is
/// [`perplexity`](super::statistics::perplexity) of them.
///
/// # Errors
/// [`EvalError::ContextTooShort`], [`EvalError::NotFinite`], [`EvalError::Cancelled`], and those of forward passes.
pub fn negative_log_likelihoods(
    source: &mut dyn LogitSource,
    windows: &Windows,
    progress: &mut dyn Progress,
) -> Result<Vec<f64>> {
    check(source, windows)?;
    let n_windows = windows.n_windows();
    let mut nlls = Vec::with_capacity(windows.n_scored());
    step(progress, 0, n_windows)?;
    for i in 0..n_windows {
        nlls.extend(score_window(source, windows, i, &|score| score.nll())?);
        step(progress, i + 1, n_windows)?;
    }
    Ok(nlls)
}

/// Refuses windows that `source` cannot score.
pub(crate) fn check(source: &dyn LogitSource, windows: &Windows) -> Result<()> {
    let (found, context_length) = (windows.length(), source.context_length());
    if found > context_length {
        return Err(EvalError::ContextTooShort { found, context_length });
    }
    let vocab_size = source.vocab_size();
    match windows.all_tokens().iter().find(|token| **token as usize >= vocab_size) {
        Some(&token) => Err(ModelError::TokenOutOfRange { token, vocab_size }.into()),
        None => Ok(()),
    }
}

/// A prediction and what came.
pub(crate) struct Score<'a> {
    /// Among the scored positions of the window, from 0.
    pub(crate) index: usize,
    /// `[vocab_size]`
    pub(crate) logits: &'a [f32],
    pub(crate) row: Row,
    /// The token that came.
    pub(crate) target: u32,
}

impl Score<'_> {
    /// Of the token that came.
    pub(crate) fn nll(&self) -> f64 {
        self.row.nll(self.logits[self.target as usize])
    }
}

/// `figure` of each scored position of window `i`, computed on all threads.
pub(crate) fn score_window<T: Default + Send>(
    source: &mut dyn LogitSource,
    windows: &Windows,
    i: usize,
    figure: &(dyn Fn(Score<'_>) -> T + Sync),
) -> Result<Vec<T>> {
    let targets = windows.targets(i);
    // The last token predicts what is no more in the window.
    let tokens = &windows.tokens(i)[..windows.length() - 1];
    score(source, tokens, windows.first_scored(), targets, figure)
}

/// `figure` of each position of `tokens` from `first` on, which are to predict `targets`.
pub(crate) fn score<T: Default + Send>(
    source: &mut dyn LogitSource,
    tokens: &[u32],
    first: usize,
    targets: &[u32],
    figure: &(dyn Fn(Score<'_>) -> T + Sync),
) -> Result<Vec<T>> {
    let vocab_size = source.vocab_size();
    let mut figures: Vec<Result<T>> = Vec::with_capacity(targets.len());
    source.logits(tokens, first, &mut |pool, position, logits| {
        let start = figures.len();
        figures.resize_with(start + logits.len() / vocab_size, || Ok(T::default()));
        pool.run_slices(&mut figures[start..], 1, |k, out, _| {
            let logits = &logits[k * vocab_size..][..vocab_size];
            let index = start + k;
            let score = |row| Score { index, logits, row, target: targets[index] };
            out[0] = Row::of(logits, position + k).map(|row| figure(score(row)));
        });
    })?;
    figures.into_iter().collect()
}
