//! Rounding to nearest, the grid of each group chosen by what its part of the outputs loses.
//!
//! Judged input by input, a grid that shifts all weights of a group the same way looks no worse than one whose errors
//! cancel out. On the outputs it is, where inputs go together.

use sterna_tensor::{Compute, PackedFormat};

use super::grid::{self, Grid, Group};
use super::nearest::{BAND, check_weights, divide_importance, relative_importance};
use super::product::Panel;
use super::quantized::Band;
use super::{Gram, Quantized, Result};

/// Grids of a group that are judged by its moments: those that are best input by input.
const N_GRIDS: usize = 12;
/// Columns of the longest groups that are judged so. The moments of longer ones take much time, and what is known of
/// them from a few thousand tokens is little.
const LONGEST: usize = 256;

/// Second moments of the inputs of each group of columns.
pub struct GroupMoments {
    format: PackedFormat,
    importance: Vec<f32>,
    /// `[group size, group size]` each; none where groups are too long.
    groups: Vec<Panel>,
}

impl GroupMoments {
    /// Those for weights that will be rounded to `format`, out of `gram`; of inputs divided by `scales`, where there are some.
    ///
    /// # Errors
    /// When a moment is no number.
    pub fn new(
        gram: &Gram,
        format: PackedFormat,
        scales: Option<&[f32]>,
        c: &Compute,
    ) -> Result<GroupMoments> {
        let cols = gram.cols();
        let mut diagonal = gram.diagonal();
        if let Some(scales) = scales {
            divide_importance(&mut diagonal, scales);
        }
        let importance = relative_importance(&diagonal, cols)?;
        let group_size = format.group_size().unwrap_or(cols);
        let starts = (0..cols).step_by(group_size).take(if group_size <= LONGEST { cols } else { 0 });
        let groups = starts.map(|first| {
            let group = first..cols.min(first + group_size);
            Panel::new(c, group.len(), group.len(), |columns, out| {
                let n = columns.len();
                let columns = first + columns.start..first + columns.end;
                gram.copy(group.clone(), columns.clone(), out);
                if let Some(scales) = scales {
                    for (row, scale) in out.chunks_exact_mut(n).zip(&scales[group.clone()]) {
                        row.iter_mut()
                            .zip(&scales[columns.clone()])
                            .for_each(|(h, other)| *h /= scale * other);
                    }
                }
            })
        });
        Ok(GroupMoments { format, groups: groups.collect(), importance })
    }

    /// Rounds `weights` `[rows, cols]` to the nearest codes of the grids that suit their groups best.
    ///
    /// # Errors
    /// When a weight is no number or too large, or the matrix does not fit the format.
    ///
    /// # Panics
    /// When `weights` is not `rows` rows.
    pub fn round(&self, weights: &[f32], rows: usize, c: &Compute) -> Result<Quantized> {
        let cols = self.importance.len();
        let mut quantized = Quantized::empty(self.format, rows, cols)?;
        check_weights(weights, rows, cols)?;
        c.pool.run_slices(&mut quantized.bands(BAND), 1, |_, bands, _| {
            let [band] = bands else { return };
            let weights = &weights[band.first_row * cols..][..band.n_rows * cols];
            for g in 0..band.n_groups {
                self.round_group(band, g, weights, c);
            }
        });
        Ok(quantized)
    }

    /// Rounds group `g` of all rows of `band`.
    fn round_group(&self, band: &mut Band, g: usize, weights: &[f32], c: &Compute) {
        let cols = band.cols;
        let group = g * band.group_size..cols.min((g + 1) * band.group_size);
        let importance = &self.importance[group.clone()];
        let largest = f32::from(self.format.largest_code());
        let n_grids = if self.groups.is_empty() { 1 } else { N_GRIDS };
        let rows = weights.chunks_exact(cols).map(|row| &row[group.clone()]);
        let rows: Vec<(&[f32], Vec<Grid>)> = rows
            .map(|weights| (weights, grid::best(self.format, &Group { weights, importance }, n_grids)))
            .collect();
        let mut losses = self.losses(&rows, g, c).into_iter();
        for (row, (weights, grids)) in rows.iter().enumerate() {
            let judged = grids.iter().zip(losses.by_ref());
            let best = judged.min_by(|(_, a), (_, b)| a.total_cmp(b));
            let grid = best.map_or(grids[0], |(grid, _)| *grid);
            band.set_grid(row, g, grid);
            let codes = &mut band.codes[row * cols..][group.clone()];
            codes.iter_mut().zip(*weights).for_each(|(code, &w)| *code = grid.code(w, largest));
        }
    }

    /// What the outputs lose with each of the grids of each of the `rows` of group `g`; nothing where its moments are not
    /// known.
    fn losses(&self, rows: &[(&[f32], Vec<Grid>)], g: usize, c: &Compute) -> Vec<f32> {
        let Some(moments) = self.groups.get(g) else { return Vec::new() };
        let largest = f32::from(self.format.largest_code());
        let len = rows[0].0.len();
        let mut errors = Vec::with_capacity(rows.len() * N_GRIDS * len);
        for (weights, grids) in rows {
            for grid in grids {
                errors.extend(weights.iter().map(|&w| grid.value(grid.code(w, largest)) - w));
            }
        }
        let products = moments.times(c, &errors, len);
        let n = errors.len() / len;
        let mut losses = vec![0.0; n];
        for (i, products) in products.chunks_exact(n).enumerate() {
            let errors = errors[i..].iter().step_by(len);
            losses.iter_mut().zip(errors).zip(products).for_each(|((loss, e), product)| *loss += e * product);
        }
        losses
    }
}
