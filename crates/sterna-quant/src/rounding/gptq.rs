//! GPTQ: rounding column after column, each to make up for what those before it lost.

use sterna_tensor::ops::add_scaled;
use sterna_tensor::{Compute, PackedFormat};

use super::grid::{self, Grid, Group};
use super::nearest::check_weights;
use super::product::Panel;
use super::quantized::{Band, band_len};
use super::{Factor, Quantized, Result, RoundingError, Search, round_to_nearest};

/// Columns that are rounded between two products.
const BLOCK: usize = 128;

/// From which weights the scale and the zero point of a group are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Grids {
    /// The weights as they were ("static groups").
    #[default]
    Static,
    /// Those that are to be rounded, corrected for earlier columns, when the first of the group has its turn, as
    /// published. Static where columns are not in order, or a group is longer than 128 columns.
    Entered,
}

/// Rounds `weights` `[rows, cols]` so that `Σ_rows δ H δᵀ` is small, with the damped `H` of `factor`. Inputs that were
/// always zero leave their weights to be rounded to nearest.
///
/// # Errors
/// When a weight is no number or too large, the matrix does not fit the format, or `factor` is for other columns.
///
/// # Panics
/// When `weights` is not `rows * factor.cols()` long.
pub fn gptq(
    weights: &[f32],
    rows: usize,
    format: PackedFormat,
    factor: &Factor,
    grids: Grids,
    search: Search,
    c: &Compute,
) -> Result<Quantized> {
    let cols = factor.cols();
    let mut quantized =
        round_to_nearest(weights, rows, cols, format, Some(&factor.importance), search, &c.pool)?;
    let group_size = format.group_size().unwrap_or(cols);
    let entered = grids == Grids::Entered && factor.in_order && group_size <= BLOCK;
    Rounding { weights, factor, search: entered.then_some(search), c }.run(&mut quantized);
    Ok(quantized)
}

/// Chooses the codes of `quantized` again as [`gptq`] does, with the scales and zero points that it has.
///
/// # Errors
/// When a weight is no number or too large, or `factor` is for other columns.
///
/// # Panics
/// When `weights` has not the shape of `quantized`.
pub fn compensate(weights: &[f32], factor: &Factor, quantized: &mut Quantized, c: &Compute) -> Result<()> {
    let Quantized { rows, cols, .. } = *quantized;
    check_weights(weights, rows, cols)?;
    if factor.cols() != cols {
        return Err(RoundingError::Inputs { expected: cols, found: factor.cols() });
    }
    Rounding { weights, factor, search: None, c }.run(quantized);
    Ok(())
}

struct Rounding<'a> {
    weights: &'a [f32],
    factor: &'a Factor,
    /// How grids are found for groups that are entered; `None` leaves them as they are.
    search: Option<Search>,
    c: &'a Compute,
}

/// A few rows on their way.
struct Rows<'a> {
    band: Band<'a>,
    /// `[rows, cols]`: what each column lost so far, columns in the order of the factor.
    losses: &'a mut [f32],
}

/// Neighbours in the order, rounded without a product between them.
struct Block {
    /// Place of the first in the order.
    first: usize,
    len: usize,
    /// The factor's rows of these columns, before the first of them.
    before: Panel,
    /// `[len, len]`: the factor within the block.
    within: Vec<f32>,
}

impl Rounding<'_> {
    fn run(&self, quantized: &mut Quantized) {
        let cols = quantized.cols;
        let group_size = quantized.format.group_size().unwrap_or(cols);
        let block_len = if group_size < BLOCK { BLOCK / group_size * group_size } else { BLOCK };
        let mut losses = vec![0.0; quantized.rows * cols];
        let n = band_len(quantized.rows, &self.c.pool);
        let bands = quantized.bands(n).into_iter().zip(losses.chunks_mut(n * cols));
        let mut bands: Vec<Rows> = bands.map(|(band, losses)| Rows { band, losses }).collect();
        for first in (0..cols).step_by(block_len) {
            let block = self.block(first, block_len.min(cols - first));
            self.c.pool.run_slices(&mut bands, 1, |_, rows, _| self.round(&mut rows[0], &block));
        }
    }

    fn block(&self, first: usize, len: usize) -> Block {
        let rows = first..first + len;
        let before =
            Panel::new(self.c, len, first, |columns, out| self.factor.copy(rows.clone(), columns, out));
        let mut within = vec![0.0; len * len];
        self.factor.copy(rows.clone(), rows, &mut within);
        Block { first, len, before, within }
    }

    fn round(&self, Rows { band, losses }: &mut Rows, block: &Block) {
        let (cols, n_rows) = (band.cols, band.n_rows);
        let weights = &self.weights[band.first_row * cols..][..n_rows * cols];
        let largest = f32::from(band.format.largest_code());
        // `[len, rows]`: what is added to each weight before it is rounded.
        let mut corrections = block.before.times(self.c, losses, cols);
        let mut loss = vec![0.0; n_rows];
        let mut grids: Vec<Grid> = Vec::new();
        let mut group = usize::MAX;
        for i in 0..block.len {
            let column = self.factor.order[block.first + i];
            let (correction, later) = corrections[i * n_rows..].split_at_mut(n_rows);
            if group != column / band.group_size {
                group = column / band.group_size;
                if let Some(search) = self.search {
                    enter(band, group, weights, &self.factor.importance, search, |row, k| match k {
                        0 => correction[row],
                        k => later[(k - 1) * n_rows + row],
                    });
                }
                grids.clear();
                grids.extend((0..n_rows).map(|row| band.grid(row, group)));
            }
            for row in 0..n_rows {
                let (grid, at) = (grids[row], row * cols + column);
                let code = grid.code(weights[at] + correction[row], largest);
                band.codes[at] = code;
                loss[row] = weights[at] - grid.value(code);
                losses[row * cols + block.first + i] = loss[row];
            }
            for (j, later) in (i + 1..block.len).zip(later.chunks_exact_mut(n_rows)) {
                add_scaled(self.c.isa, later, &loss, block.within[j * block.len + i]);
            }
        }
    }
}

/// Finds the grids of a group for its corrected weights; `correction(row, k)` is that of its `k`-th column.
fn enter(
    band: &mut Band,
    group: usize,
    weights: &[f32],
    importance: &[f32],
    search: Search,
    correction: impl Fn(usize, usize) -> f32,
) {
    let first = group * band.group_size;
    let len = band.group_size.min(band.cols - first);
    let importance = &importance[first..][..len];
    for row in 0..band.n_rows {
        let weights = &weights[row * band.cols + first..][..len];
        let corrected: Vec<f32> = weights.iter().enumerate().map(|(k, w)| w + correction(row, k)).collect();
        let grid = grid::find(band.format, &Group { weights: &corrected, importance }, search);
        band.set_grid(row, group, grid);
    }
}
