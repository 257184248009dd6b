//! Making a rounded matrix better, a few numbers at a time: scales and zero points by least squares, and codes.
//!
//! With `δ` what a row lost, a change `Δ` of its rounded weights changes its error `δ H δᵀ` by `Δ H Δᵀ - 2 Δ·G`, where
//! `G = δ H`. For one scale, or one code, that is a parabola whose best storable point is known at once; so no step can
//! make the row worse. A sweep takes each group and each code once. (Coordinate descent over codes: QuantEase, Behdin
//! et al., arXiv 2309.01885.)

use std::ops::Range;

use sterna_tensor::ops::add_scaled;
use sterna_tensor::{Compute, PackedFormat};

use super::grid::Grid;
use super::nearest::{check_weights, relative_importance};
use super::product::Panel;
use super::quantized::{Band, band_len};
use super::{Factor, Gram, Quantized, Result, RoundingError};

/// Columns that are gone through between two products, unless a group is longer.
const BLOCK: usize = 256;
/// What a change of a grid must gain, in units of what the group's outputs are: less may be a rounding error.
const LEAST_GAIN: f64 = 1e-8;

/// What [`refit`] may change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refit {
    /// Scales, and zero points by one at a time.
    pub grids: bool,
    /// Codes.
    pub codes: bool,
    /// How often everything is gone through.
    pub n_sweeps: usize,
}

impl Default for Refit {
    /// Everything, twice.
    fn default() -> Refit {
        Refit { grids: true, codes: true, n_sweeps: 2 }
    }
}

/// Improves `quantized`, a rounding of `weights` `[rows, cols]` for inputs with the moments `gram` and the damping of
/// `factor`, without which few tokens would be fitted too well. Its error, with damping, never grows.
///
/// # Errors
/// When a weight is no number or too large, a moment is not finite, or `gram` or `factor` are for other columns.
///
/// # Panics
/// When `weights` has not the shape of `quantized`.
pub fn refit(
    weights: &[f32],
    gram: &Gram,
    factor: &Factor,
    quantized: &mut Quantized,
    options: Refit,
    c: &Compute,
) -> Result<()> {
    let Quantized { rows, cols, format, .. } = *quantized;
    check_weights(weights, rows, cols)?;
    for found in [gram.cols(), factor.cols()] {
        if found != cols {
            return Err(RoundingError::Inputs { expected: cols, found });
        }
    }
    relative_importance(&gram.diagonal(), cols)?;

    let group_size = format.group_size().unwrap_or(cols);
    let block_len = if group_size < BLOCK { BLOCK / group_size * group_size } else { group_size };
    let rounded = quantized.dequantize(&c.pool);
    let mut losses: Vec<f32> = weights.iter().zip(rounded).map(|(w, rounded)| w - rounded).collect();
    let n = band_len(rows, &c.pool);
    let bands = quantized.bands(n).into_iter().zip(losses.chunks_mut(n * cols)).zip(weights.chunks(n * cols));
    let mut bands: Vec<Rows> =
        bands.map(|((band, losses), weights)| Rows { band, weights, losses }).collect();
    for _ in 0..options.n_sweeps {
        for first in (0..cols).step_by(block_len) {
            let block = Block::new(gram, &factor.added, first..cols.min(first + block_len), c);
            c.pool.run_slices(&mut bands, 1, |_, rows, _| rows[0].improve(&block, options, c));
        }
    }
    Ok(())
}

/// Columns that are gone through without a product between them.
struct Block {
    columns: Range<usize>,
    /// `H[columns, ..]`
    moments: Panel,
    /// `H[columns, columns]`, damped.
    within: Vec<f32>,
    /// What damping adds to the diagonal, for each of the columns.
    added: Vec<f32>,
}

impl Block {
    fn new(gram: &Gram, added: &[f32], columns: Range<usize>, c: &Compute) -> Block {
        let len = columns.len();
        let moments = Panel::new(c, len, gram.cols(), |others, out| gram.copy(columns.clone(), others, out));
        let mut within = vec![0.0; len * len];
        gram.copy(columns.clone(), columns.clone(), &mut within);
        let added = added[columns.clone()].to_vec();
        within.iter_mut().step_by(len + 1).zip(&added).for_each(|(h, added)| *h += added);
        Block { columns, moments, within, added }
    }

    fn len(&self) -> usize {
        self.columns.len()
    }

    fn h(&self, i: usize, j: usize) -> f32 {
        self.within[i * self.len() + j]
    }
}

/// A few rows of the matrix.
struct Rows<'a> {
    band: Band<'a>,
    /// `[rows, cols]`
    weights: &'a [f32],
    /// `[rows, cols]`: `δ`
    losses: &'a mut [f32],
}

impl Rows<'_> {
    fn improve(&mut self, block: &Block, options: Refit, c: &Compute) {
        let (cols, n_rows, group_size) = (self.band.cols, self.band.n_rows, self.band.group_size);
        // `[columns of the block, rows]`: `G`
        let mut gradient = block.moments.times(c, self.losses, cols);
        for (k, gradient) in gradient.chunks_exact_mut(n_rows).enumerate() {
            let losses = self.losses[block.columns.start + k..].iter().step_by(cols);
            gradient.iter_mut().zip(losses).for_each(|(g, loss)| *g += block.added[k] * loss);
        }
        for first in (0..block.len()).step_by(group_size) {
            let columns = first..block.len().min(first + group_size);
            let group = (block.columns.start + first) / group_size;
            if options.grids {
                self.fit_grids(block, group, columns.clone(), &mut gradient, c);
            }
            if options.codes {
                self.choose_codes(block, group, columns.clone(), &mut gradient, c);
            }
            for row in 0..n_rows {
                let grid = self.band.grid(row, group);
                for k in columns.clone() {
                    let at = row * cols + block.columns.start + k;
                    self.losses[at] = self.weights[at] - grid.value(self.band.codes[at]);
                }
            }
        }
    }

    /// Fits the grid of a group, the `columns` of the block, and brings `gradient` up to date from there on.
    fn fit_grids(
        &mut self,
        block: &Block,
        group: usize,
        columns: Range<usize>,
        gradient: &mut [f32],
        c: &Compute,
    ) {
        let (band, first) = (&mut self.band, columns.start);
        let (n_rows, n) = (band.n_rows, block.len() - first);
        let grids: Vec<Grid> = (0..n_rows).map(|row| band.grid(row, group)).collect();
        // For every column from the group on: its products with the group's codes, counted from the zero point, and
        // with ones.
        let mut units = vec![0.0; columns.len() * n_rows];
        let mut products = vec![0.0; n * n_rows];
        let mut sums = vec![0.0; n];
        for (j, units) in columns.clone().zip(units.chunks_exact_mut(n_rows)) {
            let codes = band.codes[block.columns.start + j..].iter().step_by(band.cols);
            units
                .iter_mut()
                .zip(codes)
                .zip(&grids)
                .for_each(|((unit, code), grid)| *unit = grid.units(*code));
            for (k, products) in products.chunks_exact_mut(n_rows).enumerate() {
                let h = block.h(first + k, j);
                add_scaled(c.isa, products, units, h);
                sums[k] += h;
            }
        }
        let ones: f64 = sums[..columns.len()].iter().map(|&h| f64::from(h)).sum();
        let (mut by_scale, mut by_zero) = (vec![0.0; n_rows], vec![0.0; n_rows]);
        for (row, &grid) in grids.iter().enumerate() {
            let mut fit = Fit { ones, ..Fit::default() };
            for k in 0..columns.len() {
                let [unit, product, g] = [
                    units[k * n_rows + row],
                    products[k * n_rows + row],
                    gradient[(first + k) * n_rows + row],
                ]
                .map(f64::from);
                fit.units += unit * product;
                fit.units_ones += unit * f64::from(sums[k]);
                fit.gradient_units += unit * g;
                fit.gradient_ones += g;
            }
            if let Some(better) = fit.best(band.format, grid) {
                let scale = better.scale().to_f32();
                by_scale[row] = scale - grid.scale().to_f32();
                by_zero[row] = scale * (f32::from(better.zero()) - f32::from(grid.zero()));
                band.set_grid(row, group, better);
            }
        }
        for (k, gradient) in gradient[first * n_rows..].chunks_exact_mut(n_rows).enumerate() {
            let products = &products[k * n_rows..][..n_rows];
            for (row, g) in gradient.iter_mut().enumerate() {
                *g -= by_scale[row] * products[row] - by_zero[row] * sums[k];
            }
        }
    }

    /// Chooses the codes of a group again, one column after the other, and brings `gradient` up to date behind each.
    fn choose_codes(
        &mut self,
        block: &Block,
        group: usize,
        columns: Range<usize>,
        gradient: &mut [f32],
        c: &Compute,
    ) {
        let band = &mut self.band;
        let n_rows = band.n_rows;
        let largest = f32::from(band.format.largest_code());
        let grids: Vec<Grid> = (0..n_rows).map(|row| band.grid(row, group)).collect();
        let mut changes = vec![0.0; n_rows];
        for j in columns {
            let (gradient, later) = gradient[j * n_rows..].split_at_mut(n_rows);
            let per_moment = 1.0 / block.h(j, j);
            for (row, grid) in grids.iter().enumerate() {
                let code = &mut band.codes[row * band.cols + block.columns.start + j];
                let old = grid.value(*code);
                *code = grid.code(old + gradient[row] * per_moment, largest);
                changes[row] = grid.value(*code) - old;
            }
            if changes.iter().any(|&change| change != 0.0) {
                for (k, later) in later.chunks_exact_mut(n_rows).enumerate() {
                    add_scaled(c.isa, later, &changes, -block.h(j + 1 + k, j));
                }
            }
        }
    }
}

/// What decides about the grid of a group: with `u` its codes counted from the zero point and `1` a vector of ones,
/// both only in this group.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    /// `u H uᵀ`
    units: f64,
    /// `u H 1ᵀ`
    units_ones: f64,
    /// `1 H 1ᵀ`
    ones: f64,
    /// `u·G`
    gradient_units: f64,
    /// `1·G`
    gradient_ones: f64,
}

impl Fit {
    /// A better grid of `format` with the same zero point or, if it has such, one next to it.
    fn best(&self, format: PackedFormat, grid: Grid) -> Option<Grid> {
        let largest = if format.is_affine() { format.largest_code() } else { 0 };
        let scale = f64::from(grid.scale().to_f32());
        let mut best = (-LEAST_GAIN * scale * scale * self.units, None);
        for shift in [0.0, -1.0, 1.0] {
            let zero = f64::from(grid.zero()) + shift;
            if shift != 0.0 && !(0.0..=f64::from(largest)).contains(&zero) {
                continue;
            }
            // The new weights are `scale' (u - shift)`.
            let square = self.units - shift * (2.0 * self.units_ones - shift * self.ones);
            let product = self.gradient_units - shift * self.gradient_ones
                + scale * (self.units - shift * self.units_ones);
            let wanted = (product / square) as f32;
            if !(square > 0.0 && wanted.is_finite())
                || wanted.is_sign_negative() != grid.scale().is_sign_negative()
            {
                continue;
            }
            let candidate = Grid::nearest(format, wanted, zero as f32);
            let stored = f64::from(candidate.scale().to_f32());
            let (by_scale, by_zero) = (stored - scale, stored * shift);
            let change = by_scale * (by_scale * self.units - 2.0 * by_zero * self.units_ones)
                + by_zero * by_zero * self.ones
                - 2.0 * (by_scale * self.gradient_units - by_zero * self.gradient_ones);
            if change < best.0 {
                best = (change, Some(candidate));
            }
        }
        best.1
    }
}
