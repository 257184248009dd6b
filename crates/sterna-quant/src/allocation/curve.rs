//! How the squared error of a matrix falls as its format grows.

use sterna_model::layerwise::FloatLinear;
use sterna_tensor::{PackedFormat, Pool};

use crate::error::{QuantError, Result};
use crate::recipe::Grid;
use crate::rounding::{Search, round_to_nearest};

/// Rows of a matrix that are rounded; they stand for all.
const ROWS: usize = 96;

/// A few rows of a matrix.
pub(super) struct Rows<'a> {
    name: &'a str,
    n_rows: usize,
    cols: usize,
    weights: Vec<f32>,
}

impl<'a> Rows<'a> {
    /// Some rows of `layer`, evenly spread.
    pub(super) fn of(layer: &'a FloatLinear) -> Rows<'a> {
        let n_rows = layer.rows.min(ROWS);
        let row = |i: usize| &layer.weight[i * layer.rows / n_rows * layer.cols..][..layer.cols];
        let weights = (0..n_rows).flat_map(row).copied().collect();
        Rows { name: &layer.name, n_rows, cols: layer.cols, weights }
    }

    /// `Σ importance (w - ŵ)²` of rounding to nearest, as good as `search` makes it.
    pub(super) fn error(
        &self,
        format: PackedFormat,
        importance: Option<&[f32]>,
        search: Search,
        pool: &Pool,
    ) -> Result<f64> {
        let Rows { n_rows, cols, weights, .. } = self;
        let rounded = round_to_nearest(weights, *n_rows, *cols, format, importance, search, pool);
        let rounded =
            rounded.map_err(|source| QuantError::Rounding { layer: self.name.to_owned(), source })?;
        let error = |(i, (w, rounded)): (usize, (&f32, f32))| {
            let importance = importance.map_or(1.0, |importance| importance[i % cols]);
            f64::from(importance) * f64::from(w - rounded).powi(2)
        };
        Ok(weights.iter().zip(rounded.dequantize(pool)).enumerate().map(error).sum())
    }

    /// [`Rows::error`] for each of `grids`, over that of rounding as published to `reference`.
    pub(super) fn curve(
        &self,
        grids: &[Grid],
        reference: PackedFormat,
        importance: Option<&[f32]>,
        pool: &Pool,
    ) -> Result<Vec<f64>> {
        let reference = self.error(reference, importance, Search::MinMax, pool)?;
        let relative = |grid: &Grid| {
            let error = self.error(grid.format(), importance, Search::Clip, pool)?;
            Ok(if reference > 0.0 { error / reference } else { 0.0 })
        };
        grids.iter().map(relative).collect()
    }
}
