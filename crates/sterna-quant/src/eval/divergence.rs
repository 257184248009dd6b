//! How far a model's predictions are from its reference's.

use serde::{Deserialize, Serialize};

use super::perplexity::{check, score_window};
use super::progress::step;
use super::statistics::{Estimate, mean, quantile};
use super::{EvalError, LogitSource, Progress, Reference, Result};

/// A model beside its reference, a number for each scored position.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Negative log-likelihoods of the model, in nats.
    pub nll: Vec<f64>,
    /// Those of the reference.
    pub reference_nll: Vec<f64>,
    /// Kullback-Leibler divergence of the model's prediction from the reference's, in nats: `Σ p ln(p / q)` with the
    /// reference as `p`.
    pub divergence: Vec<f64>,
    /// Entropy of the model's prediction, in nats: the loss that it expects.
    pub entropy: Vec<f64>,
    /// That of the reference's.
    pub reference_entropy: Vec<f64>,
    /// 1 where both think the same token the likeliest, else 0.
    pub same_top: Vec<f64>,
}

/// Divergence in figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Mean, in nats a token.
    pub mean: Estimate,
    /// Half the positions have less.
    pub median: f64,
    /// 90 % have less.
    pub p90: f64,
    /// 99 % have less.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// Mean entropy of the model's predictions, in nats: more is more doubt.
    pub entropy: Estimate,
    /// That of the reference's.
    pub reference_entropy: Estimate,
    /// Share of positions whose likeliest token is the reference's.
    pub same_top: Estimate,
}

/// Runs `source` over the windows of `reference`, and the reference too where it is not in its cache.
///
/// # Errors
/// [`EvalError::Vocabulary`], and those of
/// [`negative_log_likelihoods`](super::perplexity::negative_log_likelihoods) and of loading the reference.
pub fn compare(
    source: &mut dyn LogitSource,
    reference: &mut Reference<'_>,
    progress: &mut dyn Progress,
) -> Result<Comparison> {
    let windows = reference.windows();
    let (expected, found) = (reference.vocab_size(), source.vocab_size());
    if expected != found {
        return Err(EvalError::Vocabulary { expected, found });
    }
    check(source, windows)?;
    let n_windows = windows.n_windows();
    let mut comparison = Comparison::default();
    step(progress, 0, n_windows)?;
    for i in 0..n_windows {
        let records = reference.window(i, progress)?;
        let figures = score_window(source, windows, i, &|score| {
            let record = &records[score.index];
            let entropy = score.row.entropy(score.logits);
            let beside = record.divergence_and_entropy(score.logits, &score.row);
            (score.nll(), entropy, beside, record.top == score.row.top)
        })?;
        for (record, (nll, entropy, (divergence, reference_entropy), same_top)) in records.iter().zip(figures)
        {
            comparison.nll.push(nll);
            comparison.reference_nll.push(record.nll);
            comparison.divergence.push(divergence);
            comparison.entropy.push(entropy);
            comparison.reference_entropy.push(reference_entropy);
            comparison.same_top.push(f64::from(u8::from(same_top)));
        }
        step(progress, i + 1, n_windows)?;
    }
    reference.finish(progress);
    Ok(comparison)
}

impl Comparison {
    /// Mean, quantiles and agreement.
    pub fn figures(&self) -> Divergence {
        let mut sorted = self.divergence.clone();
        sorted.sort_by(f64::total_cmp);
        Divergence {
            mean: mean(&self.divergence),
            median: quantile(&sorted, 0.5),
            p90: quantile(&sorted, 0.9),
            p99: quantile(&sorted, 0.99),
            max: quantile(&sorted, 1.0),
            entropy: mean(&self.entropy),
            reference_entropy: mean(&self.reference_entropy),
            same_top: mean(&self.same_top),
        }
    }
}
