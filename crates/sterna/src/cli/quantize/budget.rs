//! `--bpw`: a format for each matrix, such that all weights take so many bits on average.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use anyhow::ensure;
use sterna::{Checkpoint, Compute};
use sterna_model::{Layerwise, native};
use sterna_quant::allocation::{self, Choice, Measurement, Unit};
use sterna_quant::recipe::Grid;
use sterna_tensor::PackedFormat;

use super::measured::Subject;
use super::resume::Source;
use crate::cli::progress::StepBar;
use crate::cli::terminal::note;

/// What `grids` would cost each matrix of `network`, from an earlier run if there was one; `None` when interrupted.
pub(super) fn measure(
    grids: &[Grid],
    source: &Source,
    network: &Layerwise,
    sequences: &[Vec<u32>],
    compute: &Compute,
    cancel: &AtomicBool,
) -> anyhow::Result<Option<Vec<Unit>>> {
    let subject = Subject::new(source.clone(), grids);
    if let Some(units) = subject.find() {
        return Ok(Some(units));
    }
    let mut measurement = Measurement::new(network, grids, sequences, compute)?;
    let n_blocks = network.spec().blocks.len();
    let mut bar = StepBar::new("measuring", 0, n_blocks);
    for index in 0..n_blocks {
        if cancel.load(Ordering::SeqCst) {
            return Ok(None);
        }
        measurement.block(index)?;
        bar.step();
    }
    let units = measurement.finish()?;
    subject.keep(&units);
    Ok(Some(units))
}

/// Formats for the matrices of `checkpoint`, by pattern of names, such that `units` cost least.
pub(super) fn spend(
    bits_per_weight: f64,
    checkpoint: &Checkpoint,
    units: Vec<Unit>,
) -> anyhow::Result<BTreeMap<String, Grid>> {
    let (n_weights, fixed) = weights_and_fixed_bytes(checkpoint, &units)?;
    let budget = (bits_per_weight * n_weights as f64 / 8.0) as u64;
    let least = (allocation::smallest(&units) + fixed) as f64 * 8.0 / n_weights as f64;
    let chosen = budget.checked_sub(fixed).and_then(|budget| allocation::allocate(&units, budget));
    ensure!(
        chosen.is_some(),
        "--bpw {bits_per_weight}: this model takes at least {least:.2} bits per weight"
    );
    let chosen = chosen.unwrap_or_default();
    let n_bytes: u64 = chosen.iter().map(|choice| choice.n_bytes).sum();
    note(format_args!(
        "{:.3} bits per weight: {}",
        (n_bytes + fixed) as f64 * 8.0 / n_weights as f64,
        summary(&chosen)
    ));
    let layers = units.into_iter().zip(chosen).map(|(unit, choice)| (unit.pattern, choice.grid));
    Ok(layers.collect())
}

/// The number of all weights, and the bytes of those that are in none of `units`.
fn weights_and_fixed_bytes(checkpoint: &Checkpoint, units: &[Unit]) -> anyhow::Result<(u64, u64)> {
    let patterns: BTreeSet<&str> = units.iter().map(|unit| unit.pattern.as_str()).collect();
    let (mut n_weights, mut fixed) = (0, 0);
    for tensor in native::tensors(checkpoint)? {
        let n = (tensor.rows * tensor.cols) as u64;
        n_weights += n;
        if !patterns.contains(allocation::pattern(&tensor.name).as_str()) {
            let format = tensor.ternary_format(PackedFormat::ternary);
            let packed = format.and_then(|format| format.n_bytes(tensor.rows, tensor.cols));
            fixed += packed.map_or(n * size_of::<f32>() as u64, |n_bytes| n_bytes as u64);
        }
    }
    Ok((n_weights, fixed))
}

/// How many matrices got which format: `a3g64 x 12, a4g128 x 180`.
fn summary(chosen: &[Choice]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    chosen.iter().for_each(|choice| *counts.entry(choice.grid.to_string()).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts.iter().map(|(grid, n)| format!("{grid} x {n}")).collect::<Vec<_>>().join(", ")
}
