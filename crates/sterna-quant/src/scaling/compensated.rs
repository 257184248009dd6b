//! Scales for rounding that makes up for its errors.
//!
//! With `H = Tᵀ T` ([`Factor`]), an error in column `i` costs `T_ii²` once all later columns have made up for what they can:
//! not its whole mean square, by which AWQ goes, since most of a large channel is often known from the others. A code is
//! off by a part of its group's step that is about the same for all, so what rounding will cost is foreseen without
//! rounding anything: the sum over rows and groups of the squared step times the group's `Σ T_ii²`. Scaling by `d` divides
//! `T_ii` by `d_i` and changes the steps; of all powers of `T_ii`, the best makes the scales.

use sterna_model::layerwise::FloatLinear;
use sterna_tensor::{PackedFormat, Pool};

use super::{Fold, Found, N_POWERS, Scaling, least, power};
use crate::rounding::Factor;

/// Rows that one thread looks at before it asks for more.
const BAND: usize = 32;

/// The best scales for the input of `fold`, whose moments are those of `factor`; `readers` are the layers that read it,
/// and what they will be rounded to.
pub fn search(fold: &Fold, readers: &[(&FloatLinear, PackedFormat)], factor: &Factor, pool: &Pool) -> Found {
    let left = factor.diagonal();
    let errors: Vec<f64> = (0..N_POWERS)
        .map(|step| {
            let scales = fold.scales(&left, power(step));
            readers.iter().map(|(layer, format)| foreseen(layer, *format, &left, &scales, pool)).sum()
        })
        .collect();
    let (layer, step) = (fold.readers[0].clone(), least(&errors));
    let scaling = Scaling { layer, power: power(step), error_before: errors[0], error_after: errors[step] };
    Found { fold: fold.clone(), scaling, scales: fold.scales(&left, power(step)) }
}

/// What rounding `layer` to `format` will cost with its columns multiplied by `scales`, relative to its outputs, and but for
/// a factor that is the same for all scales.
fn foreseen(layer: &FloatLinear, format: PackedFormat, left: &[f32], scales: &[f32], pool: &Pool) -> f64 {
    let cols = layer.cols;
    let group_size = format.group_size().unwrap_or(cols);
    let groups = left.chunks(group_size).zip(scales.chunks(group_size));
    let cost_of_step: Vec<f64> = groups
        .map(|(left, scales)| left.iter().zip(scales).map(|(t, d)| f64::from(t / d).powi(2)).sum())
        .collect();
    let mut bands = vec![(0.0, 0.0); layer.rows.div_ceil(BAND)];
    pool.run_slices(&mut bands, 1, |band, sums, _| {
        let weights = &layer.weight[band * BAND * cols..];
        let (mut lost, mut own) = (0.0, 0.0);
        for row in weights[..weights.len().min(BAND * cols)].chunks_exact(cols) {
            own += row.iter().zip(left).map(|(w, t)| f64::from(w * t).powi(2)).sum::<f64>();
            let groups = row.chunks(group_size).zip(scales.chunks(group_size)).zip(&cost_of_step);
            for ((weights, scales), cost) in groups {
                lost += f64::from(step(weights, scales, format)).powi(2) * cost;
            }
        }
        sums[0] = (lost, own);
    });
    let (lost, own) = bands.iter().fold((0.0, 0.0), |sums, band| (sums.0 + band.0, sums.1 + band.1));
    lost / f64::max(own, f64::MIN_POSITIVE)
}

/// The step between two codes of a group, in units that are the same for all groups of a format.
fn step(weights: &[f32], scales: &[f32], format: PackedFormat) -> f32 {
    let scaled = weights.iter().zip(scales).map(|(w, scale)| w * scale);
    let (low, high) = scaled.fold((0f32, 0f32), |(low, high), w| (low.min(w), high.max(w)));
    if format.is_affine() { high - low } else { high.max(-low) }
}
