//! A rounded matrix before it is packed or written.

use half::f16;
use sterna_tensor::{GroupedCodes, PackedFormat, PackedMatrix, Pool, ShapeError};

use super::grid::Grid;
use super::{Result, RoundingError};

/// Codes of a matrix with a scale, and in affine formats a zero point, for every group of columns of a row: a weight
/// is `scale * (code - zero point)`, or `scale * (code - `[`PackedFormat::zero`]`)` in symmetric formats.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// A symmetric or affine format.
    pub format: PackedFormat,
    /// Rows (outputs).
    pub rows: usize,
    /// Columns (inputs).
    pub cols: usize,
    /// `[rows, cols]`
    pub codes: Vec<u8>,
    /// `[rows, groups]`, finite and normal. Negative ones occur in symmetric formats, which have one code more below
    /// zero than above.
    pub scales: Vec<f16>,
    /// `[rows, groups]`; empty for symmetric formats.
    pub zero_points: Vec<u8>,
}

impl Quantized {
    /// All codes, scales and zero points 0.
    pub(super) fn empty(format: PackedFormat, rows: usize, cols: usize) -> Result<Quantized> {
        let group_size = format.group_size().ok_or(RoundingError::Format(format))?;
        if rows == 0 || cols == 0 {
            return Err(ShapeError::Empty { rows, cols }.into());
        }
        if !cols.is_multiple_of(format.block_len()) {
            return Err(ShapeError::Columns { cols, block_len: format.block_len() }.into());
        }
        let n_codes = rows.checked_mul(cols).ok_or(ShapeError::TooLarge { rows, cols })?;
        let n_scales = rows * cols.div_ceil(group_size);
        let n_zero_points = if format.is_affine() { n_scales } else { 0 };
        let (codes, scales) = (vec![0; n_codes], vec![f16::ZERO; n_scales]);
        Ok(Quantized { format, rows, cols, codes, scales, zero_points: vec![0; n_zero_points] })
    }

    /// Adds rows of the same format and width below those that are there.
    pub(crate) fn append(&mut self, below: Quantized) {
        assert_eq!((self.format, self.cols), (below.format, below.cols), "format and width of more rows");
        self.rows += below.rows;
        self.codes.extend(below.codes);
        self.scales.extend(below.scales);
        self.zero_points.extend(below.zero_points);
    }

    /// What the kernels and the writers of files take.
    pub fn grouped(&self) -> GroupedCodes<'_> {
        let Quantized { rows, cols, .. } = *self;
        let (codes, scales, zero_points) = (&self.codes, &self.scales, &self.zero_points);
        GroupedCodes { rows, cols, codes, scales, zero_points }
    }

    /// The weights `[rows, cols]` as the kernels have them, to the bit.
    pub fn dequantize(&self, pool: &Pool) -> Vec<f32> {
        let mut weights = vec![0.0; self.codes.len()];
        let group_size = self.format.group_size().unwrap_or(self.cols);
        let n_groups = self.cols.div_ceil(group_size);
        pool.run_slices(&mut weights, self.cols, |row, weights, _| {
            let codes = &self.codes[row * self.cols..][..self.cols];
            let groups = weights.chunks_mut(group_size).zip(codes.chunks(group_size));
            for (g, (weights, codes)) in groups.enumerate() {
                let grid = self.grid(row * n_groups + g);
                for (w, &code) in weights.iter_mut().zip(codes) {
                    *w = grid.value(code);
                }
            }
        });
        weights
    }

    /// The matrix in the layout of the kernels.
    ///
    /// # Errors
    /// As [`PackedMatrix::from_codes`]; what this module made has the right shape.
    pub fn pack(&self, pool: &Pool) -> std::result::Result<PackedMatrix, ShapeError> {
        PackedMatrix::from_codes(self.format, self.grouped(), pool)
    }

    fn grid(&self, group: usize) -> Grid {
        let zero = self.zero_points.get(group).copied().unwrap_or(self.format.zero());
        Grid::new(self.scales[group], zero)
    }

    /// The matrix cut into bands of `n_rows` rows that threads may fill side by side.
    pub(super) fn bands(&mut self, n_rows: usize) -> Vec<Band<'_>> {
        let format = self.format;
        let group_size = format.group_size().unwrap_or(self.cols);
        let (cols, n_groups) = (self.cols, self.cols.div_ceil(group_size));
        let mut zero_points = self.zero_points.chunks_mut(n_rows * n_groups);
        let codes = self.codes.chunks_mut(n_rows * cols);
        let scales = self.scales.chunks_mut(n_rows * n_groups);
        let bands = codes.zip(scales).enumerate().map(|(i, (codes, scales))| Band {
            format,
            first_row: i * n_rows,
            n_rows: codes.len() / cols,
            cols,
            group_size,
            n_groups,
            codes,
            scales,
            zero_points: zero_points.next().unwrap_or_default(),
        });
        bands.collect()
    }
}

/// Rows that one thread works on before it looks for more: many, so that a step for all of them is long, but enough bands
/// for all threads. The result does not depend on it.
pub(super) fn band_len(rows: usize, pool: &Pool) -> usize {
    (rows / (4 * pool.n_threads())).clamp(32, 256)
}

/// A few rows of a [`Quantized`].
pub(super) struct Band<'a> {
    pub(super) format: PackedFormat,
    pub(super) first_row: usize,
    pub(super) n_rows: usize,
    pub(super) cols: usize,
    pub(super) group_size: usize,
    pub(super) n_groups: usize,
    pub(super) codes: &'a mut [u8],
    pub(super) scales: &'a mut [f16],
    pub(super) zero_points: &'a mut [u8],
}

impl Band<'_> {
    /// The grid of group `g` of row `row` of the band.
    pub(super) fn grid(&self, row: usize, g: usize) -> Grid {
        let at = row * self.n_groups + g;
        let zero = self.zero_points.get(at).copied().unwrap_or(self.format.zero());
        Grid::new(self.scales[at], zero)
    }

    /// Sets the grid of group `g` of row `row` of the band.
    pub(super) fn set_grid(&mut self, row: usize, g: usize, grid: Grid) {
        let at = row * self.n_groups + g;
        self.scales[at] = grid.scale();
        if let Some(zero) = self.zero_points.get_mut(at) {
            *zero = grid.zero();
        }
    }
}
