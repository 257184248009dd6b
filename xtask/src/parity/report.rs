//! One row per checkpoint and config, and the verdict.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use sterna_formats::Config;
use sterna_model::Site;

use super::deviation::{Deviation, Figures};
use super::passes::{Greedy, Pass, Passes};
use super::recorded::Recorded;

/// How far is too far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// For |Δ| of any logit.
    max_abs: f64,
    /// For the root mean square of Δ.
    rms: f64,
    /// For ‖Δ‖ / ‖reference‖ of the values after a block; larger means that this block departs.
    block: f64,
}

/// Everything in f32: an order above what two correct implementations differ by.
const EXACT: Tolerance = Tolerance { max_abs: 2e-3, rms: 2e-3, block: 2e-4 };

/// Activations are rounded to int8 on the way: a rounding that falls to the other side is no error, yet moves a
/// logit by up to 0.3.
const ROUNDED: Tolerance = Tolerance { max_abs: 0.6, rms: 0.08, block: 2e-2 };

impl Tolerance {
    /// The tolerance for a checkpoint with this config.
    pub(crate) fn of(config: &Config) -> Tolerance {
        let quantization = match config {
            Config::Hf(file) => file.view().opt_sub("quantization_config").ok().flatten(),
            Config::Gguf(_) => None,
        };
        let method = quantization.and_then(|view| view.opt_str("quant_method").ok().flatten());
        if method == Some("bitnet") { ROUNDED } else { EXACT }
    }
}

/// What came of one checkpoint with one config.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) checkpoint: String,
    /// Name of the config file.
    pub(crate) config: &'static str,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// All passes ran.
    Compared(Comparison),
    /// The architecture has no table row; `failure` when just this checkpoint was asked for.
    NotSupported { reason: String, failure: bool },
    /// Loading or running it failed.
    Error { reason: String },
}

/// All passes against the reference.
#[derive(Serialize)]
pub(crate) struct Comparison {
    /// The worst of every figure over all passes.
    #[serde(flatten)]
    worst: Figures,
    #[serde(flatten)]
    greedy: Greedy,
    passes: Vec<Pass>,
    /// Why it failed; `None` when it did not.
    failure: Option<String>,
}

impl Outcome {
    /// Whether this makes the whole run fail.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Outcome::Compared(comparison) => comparison.failure.is_some(),
            Outcome::NotSupported { failure, .. } => *failure,
            Outcome::Error { .. } => true,
        }
    }
}

impl Comparison {
    /// Judges `passes` over the checkpoint in `dir`.
    pub(crate) fn new(passes: Passes, tolerance: Tolerance, dir: &Path) -> Comparison {
        let Passes { passes, greedy, hidden } = passes;
        let largest =
            |figure: fn(&Figures) -> f64| passes.iter().map(|p| figure(&p.figures)).fold(0.0, f64::max);
        let worst = Figures {
            max_abs: largest(|f| f.max_abs),
            rms: largest(|f| f.rms),
            relative: largest(|f| f.relative),
            top1: passes.iter().map(|p| p.figures.top1).fold(1.0, f64::min),
        };
        let departs =
            |pass: &&Pass| pass.figures.max_abs > tolerance.max_abs || pass.figures.rms > tolerance.rms;
        let departing: Vec<&Pass> = passes.iter().filter(departs).collect();
        let failure = match (departing.first(), &greedy) {
            (Some(first), _) => {
                let names: Vec<&str> = departing.iter().map(|pass| pass.name.as_str()).collect();
                let place = match first.name.as_str() {
                    "plain f32" | "prefill" => first_departure(&hidden, tolerance, dir),
                    _ => "no layer departs in one prefill: the state between passes".to_owned(),
                };
                Some(format!("{} beyond the tolerance; {place}", names.join(", ")))
            }
            // Nearer than twice the tolerance, either token is right.
            (None, Greedy::Differs { at, margin }) if *margin > 2.0 * tolerance.max_abs => {
                Some(format!("greedy differs at token {at}, where the margin is {margin:.4}"))
            }
            _ => None,
        };
        Comparison { worst, greedy, passes, failure }
    }
}

/// Names the first place where the values of a prefill are not the recorded ones.
fn first_departure(hidden: &[(Site, Vec<f32>)], tolerance: Tolerance, dir: &Path) -> String {
    let path = dir.join("hidden.safetensors");
    let Ok(recorded) = Recorded::open(&path) else {
        return format!("no {} to find the layer with", path.display());
    };
    for (site, computed) in hidden {
        let Ok(reference) = recorded.floats(&site.to_string()) else { continue };
        if reference.len() != computed.len() {
            return format!("first departs: {site}, {} values for {}", computed.len(), reference.len());
        }
        let figures = Deviation::of(computed, &reference, computed.len().max(1)).figures();
        if figures.relative > tolerance.block {
            return format!("first departs: {site} (relative {:.1e})", figures.relative);
        }
    }
    "no layer departs: the head".to_owned()
}

/// Rows as text.
pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let width = self.0.iter().map(|row| row.checkpoint.len()).max().unwrap_or(0).max("checkpoint".len());
        let heads = ["config", "max |Δ|", "relative", "top-1", "greedy", ""];
        let [config, max_abs, relative, top1, greedy, verdict] = heads;
        writeln!(
            f,
            "{:width$}  {config:14}  {max_abs:>8}  {relative:>8}  {top1:>7}  {greedy:10}  {verdict}",
            "checkpoint"
        )?;
        for row in self.0 {
            write!(f, "{:width$}  {:14}  ", row.checkpoint, row.config)?;
            match &row.outcome {
                Outcome::Compared(Comparison { worst, greedy, failure, .. }) => {
                    let greedy = match greedy {
                        Greedy::Equal => "equal".to_owned(),
                        Greedy::Differs { at, .. } => format!("differs@{at}"),
                    };
                    let verdict = failure.as_ref().map_or("ok".to_owned(), |why| format!("FAILED: {why}"));
                    writeln!(
                        f,
                        "{:8.1e}  {:8.1e}  {:6.1}%  {greedy:10}  {verdict}",
                        worst.max_abs,
                        worst.relative,
                        100.0 * worst.top1
                    )?;
                }
                Outcome::NotSupported { reason, failure } => {
                    writeln!(f, "{}{reason}", if *failure { "FAILED: " } else { "" })?
                }
                Outcome::Error { reason } => writeln!(f, "FAILED: {reason}")?,
            }
        }
        Ok(())
    }
}
