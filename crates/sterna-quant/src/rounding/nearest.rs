//! Rounding to the nearest code, each weight for itself.

use sterna_tensor::{PackedFormat, Pool};

use super::grid::{self, Group};
use super::{Quantized, Result, RoundingError};

/// Rows that one thread rounds before it looks for more.
pub(super) const BAND: usize = 16;

/// How the scale and the zero point of a group are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Search {
    /// The whole range of the weights and zero, as published for AWQ and GPTQ: in affine formats
    /// `scale = (max - min) / (2^bits - 1)` and `zero point = round(-min / scale)`, in symmetric ones
    /// `scale = max |w| / (2^(bits-1) - 1)`.
    MinMax,
    /// Of many narrower ranges and all zero points that suit them, each then fitted to its codes, what gives the least
    /// `Σ importance (w - ŵ)²`. Scales are rounded as they will be stored in every trial.
    #[default]
    Clip,
}

/// Rounds `weights` `[rows, cols]` to the nearest codes. An error in column `j` counts `importance[j]` times when grids
/// are compared, which is best the mean square of input `j` ([`Gram::diagonal`](super::Gram::diagonal)); without
/// importance all count the same.
///
/// # Errors
/// When a weight or an importance is no number or too large, or the matrix does not fit the format.
///
/// # Panics
/// When `weights` is not `rows * cols` long.
pub fn round_to_nearest(
    weights: &[f32],
    rows: usize,
    cols: usize,
    format: PackedFormat,
    importance: Option<&[f32]>,
    search: Search,
    pool: &Pool,
) -> Result<Quantized> {
    let mut quantized = Quantized::empty(format, rows, cols)?;
    check_weights(weights, rows, cols)?;
    let importance = match importance {
        Some(importance) => relative_importance(importance, cols)?,
        None => vec![1.0; cols],
    };
    let largest = f32::from(format.largest_code());
    pool.run_slices(&mut quantized.bands(BAND), 1, |_, bands, _| {
        let [band] = bands else { return };
        let group_size = band.group_size;
        for row in 0..band.n_rows {
            let weights = &weights[(band.first_row + row) * cols..][..cols];
            let groups = weights.chunks(group_size).zip(importance.chunks(group_size));
            for (g, (weights, importance)) in groups.enumerate() {
                let grid = grid::find(format, &Group { weights, importance }, search);
                band.set_grid(row, g, grid);
                let codes = &mut band.codes[row * cols + g * group_size..][..weights.len()];
                for (code, &w) in codes.iter_mut().zip(weights) {
                    *code = grid.code(w, largest);
                }
            }
        }
    });
    Ok(quantized)
}

/// What `weights` `[rows, scales.len()]` become when their columns are multiplied by `scales`, rounded to the nearest codes
/// with a searched range for each group, and divided again: the same as [`round_to_nearest`] makes of the scaled weights,
/// without the detour over codes and without its checks of the weights. `importance` is that of the columns as they are.
///
/// # Errors
/// When an importance is no number, or there are not as many as scales.
pub fn round_scaled(
    weights: &[f32],
    format: PackedFormat,
    scales: &[f32],
    importance: &[f32],
    pool: &Pool,
) -> Result<Vec<f32>> {
    let cols = scales.len();
    let mut importance = importance.to_vec();
    divide_importance(&mut importance, scales);
    let importance = relative_importance(&importance, cols)?;
    let group_size = format.group_size().unwrap_or(cols);
    let largest = f32::from(format.largest_code());
    let back: Vec<f32> = scales.iter().map(|scale| 1.0 / scale).collect();
    let mut rounded = vec![0.0; weights.len()];
    pool.run_slices(&mut rounded, BAND * cols, |band, rounded, _| {
        let weights = weights[band * BAND * cols..].chunks_exact(cols);
        for (rounded, weights) in rounded.chunks_exact_mut(cols).zip(weights) {
            rounded.iter_mut().zip(weights).zip(scales).for_each(|((r, w), scale)| *r = w * scale);
            for (group, importance) in rounded.chunks_mut(group_size).zip(importance.chunks(group_size)) {
                let grid = grid::find(format, &Group { weights: group, importance }, Search::Clip);
                group.iter_mut().for_each(|w| *w = grid.value(grid.code(*w, largest)));
            }
            rounded.iter_mut().zip(&back).for_each(|(r, back)| *r *= back);
        }
    });
    Ok(rounded)
}

/// Refuses weights that no scale can reach.
pub(super) fn check_weights(weights: &[f32], rows: usize, cols: usize) -> Result<()> {
    assert_eq!(weights.len(), rows * cols, "weights of a {rows} x {cols} matrix");
    let range = -half::f16::MAX.to_f32()..=half::f16::MAX.to_f32();
    match weights.iter().position(|w| !range.contains(w)) {
        Some(i) => Err(RoundingError::Weight { row: i / cols, col: i % cols, value: weights[i] }),
        None => Ok(()),
    }
}

/// What is left of the importance of columns once their inputs were divided by `scales`.
pub(super) fn divide_importance(importance: &mut [f32], scales: &[f32]) {
    importance.iter_mut().zip(scales).for_each(|(h, scale)| *h /= scale * scale);
}

/// `importance` over its mean, so that sums of squares neither overflow nor vanish.
pub(super) fn relative_importance(importance: &[f32], cols: usize) -> Result<Vec<f32>> {
    if importance.len() != cols {
        return Err(RoundingError::Inputs { expected: cols, found: importance.len() });
    }
    if let Some(col) = importance.iter().position(|h| !h.is_finite() || *h < 0.0) {
        return Err(RoundingError::Moment { col, value: importance[col] });
    }
    let mean = importance.iter().map(|&h| f64::from(h)).sum::<f64>() / cols as f64;
    let factor = if mean > 0.0 { 1.0 / mean } else { 0.0 };
    Ok(importance.iter().map(|&h| (f64::from(h) * factor) as f32).collect())
}
