//! The triangular factor of the inputs' moments that GPTQ follows.
//!
//! With columns in the order in which they are rounded, and `T` lower triangular with `H = Tᵀ T`, the error of a row is
//! `|T δ|²`: column `i` adds the square of `T_ii δ_i + Σ_{j<i} T_ij δ_j`, in which all but `δ_i` is known when its turn
//! comes. GPTQ (Frantar et al., arXiv 2210.17323, algorithm 1) makes that term as small as a code can, although it finds
//! its numbers in a factor of `H⁻¹`; "The Geometry of LLM Quantization" (Chen et al., arXiv 2507.18553) shows that the
//! two are one, and the same as Babai's nearest plane algorithm. Nothing is inverted here: `T` is the Cholesky factor
//! of `H` with rows and columns reversed, read backwards.

use sterna_tensor::Compute;

use super::cholesky::cholesky;
use super::nearest::relative_importance;
use super::{Gram, Result, RoundingError};

/// What is added to the diagonal of `H`, so that inputs not seen in calibration cost something too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Damping {
    /// This part of the mean of the diagonal, as published for GPTQ with 0.01.
    Mean(f32),
    /// This part of each element of the diagonal: what inputs tell of one another counts so much less, whatever their sizes.
    /// Elements below a millionth of the mean are taken as that.
    Own(f32),
}

/// What elements of a diagonal are at least taken to be, of their mean.
const LEAST: f32 = 1e-6;

impl Default for Damping {
    fn default() -> Damping {
        Damping::Mean(0.01)
    }
}

impl Damping {
    /// What is added to each element of a diagonal; never nothing to inputs that are always zero.
    pub(super) fn added(self, diagonal: &[f32]) -> Vec<f32> {
        let mean = diagonal.iter().map(|&h| f64::from(h)).sum::<f64>() / diagonal.len().max(1) as f64;
        let part = |h: f32| match self {
            Damping::Mean(part) => part * mean as f32,
            Damping::Own(part) => part * h.max(LEAST * mean as f32),
        };
        let added = |&h: &f32| if h == 0.0 && part(h) == 0.0 { 1.0 } else { part(h) };
        diagonal.iter().map(added).collect()
    }

    fn part(self) -> f32 {
        let (Damping::Mean(part) | Damping::Own(part)) = self;
        part
    }

    fn with_part(self, part: f32) -> Damping {
        match self {
            Damping::Mean(_) => Damping::Mean(part),
            Damping::Own(_) => Damping::Own(part),
        }
    }
}

/// In which order columns are rounded. Those that come later make up for what earlier ones lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// From first to last.
    #[default]
    Columns,
    /// Those with the largest inputs first ("act-order").
    Importance,
}

/// A [`Gram`] made ready for [`gptq`](super::gptq); serves all matrices that read the same inputs.
#[derive(Debug)]
pub struct Factor {
    /// Columns in the order in which they are rounded.
    pub(super) order: Vec<usize>,
    /// Whether that is their own order.
    pub(super) in_order: bool,
    /// `diag H` over its mean, by column.
    pub(super) importance: Vec<f32>,
    /// What damping added to the diagonal of `H`, by column.
    pub(super) added: Vec<f32>,
    /// `L` with `L Lᵀ = H`, rows and columns in reverse order: `T_ij = L[last - j][last - i]`.
    lower: Vec<f32>,
    damping: Damping,
}

impl Factor {
    /// Factors the moments with `damping`, or ten times that, and so on up to 1, where that leaves them not positive
    /// definite. Takes memory for `cols * cols` floats and `cols³ / 3` multiplications.
    ///
    /// # Errors
    /// When moments are not finite, or no damping helps.
    pub fn new(gram: &Gram, damping: Damping, order: Order, c: &Compute) -> Result<Factor> {
        let diagonal = gram.diagonal();
        let importance = relative_importance(&diagonal, gram.cols())?;
        let mut columns: Vec<usize> = (0..gram.cols()).collect();
        if order == Order::Importance {
            columns.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
        }
        let in_order = columns.is_sorted();
        let mut damping = damping;
        loop {
            let added = damping.added(&diagonal);
            let mut lower = reversed(gram, &columns, &added, c);
            if cholesky(&mut lower, gram.cols(), c) {
                return Ok(Factor { order: columns, in_order, importance, added, lower, damping });
            }
            let part = damping.part();
            if part >= 1.0 {
                return Err(RoundingError::NotPositiveDefinite { damping: part });
            }
            damping = damping.with_part((10.0 * part).clamp(1e-4, 1.0));
        }
    }

    /// The damping that was enough.
    pub fn damping(&self) -> Damping {
        self.damping
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.order.len()
    }

    /// `T_ii` of each column: what an error there costs when all later columns make up for it as they can.
    pub fn diagonal(&self) -> Vec<f32> {
        let n = self.cols();
        let mut diagonal = vec![0.0; n];
        for (i, &column) in self.order.iter().enumerate() {
            diagonal[column] = self.lower[(n - 1 - i) * (n + 1)];
        }
        diagonal
    }

    /// The factor of inputs that are divided by `scales`, with the order and the damping that it has.
    ///
    /// # Panics
    /// When there are not as many scales as inputs.
    pub fn scaled_by(&mut self, scales: &[f32]) {
        let n = self.cols();
        assert_eq!(scales.len(), n, "scales of the inputs");
        for (row, &column) in self.lower.chunks_exact_mut(n).zip(self.order.iter().rev()) {
            row.iter_mut().for_each(|t| *t /= scales[column]);
        }
        for ((importance, added), scale) in self.importance.iter_mut().zip(&mut self.added).zip(scales) {
            *importance /= scale * scale;
            *added /= scale * scale;
        }
    }

    /// Copies `T_ij / T_ii` for `i` in `rows` and `j` in `columns`, places in the order, to `out` `[rows, columns]`.
    pub(super) fn copy(
        &self,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
        out: &mut [f32],
    ) {
        /// Columns of a tile, which lie in as many rows of `L`.
        const TILE: usize = 16;
        let (n, len) = (self.cols(), columns.len());
        let at = |i: usize, j: usize| self.lower[(n - 1 - j) * n + n - 1 - i];
        for first in columns.clone().step_by(TILE) {
            let tile = first..columns.end.min(first + TILE);
            for (i, out) in rows.clone().zip(out.chunks_exact_mut(len)) {
                let out = &mut out[first - columns.start..][..tile.len()];
                tile.clone().zip(out).for_each(|(j, out)| *out = at(i, j));
            }
        }
        for (i, out) in rows.zip(out.chunks_exact_mut(len)) {
            let diagonal = at(i, i);
            out.iter_mut().for_each(|t| *t /= diagonal);
        }
    }
}

/// The lower half of `H` with rows and columns in reverse order, and `added` on its diagonal.
fn reversed(gram: &Gram, order: &[usize], added: &[f32], c: &Compute) -> Vec<f32> {
    let n = order.len();
    let mut lower = vec![0.0; n * n];
    c.pool.run_slices(&mut lower, n, |a, out, _| {
        let column = order[n - 1 - a];
        let mut row = vec![0.0; n];
        gram.copy(column..column + 1, 0..n, &mut row);
        row[column] += added[column];
        out.iter_mut().zip(order.iter().rev()).take(a + 1).for_each(|(out, &column)| *out = row[column]);
    });
    lower
}
