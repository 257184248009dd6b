//! Products of many rows with a few, cut so that what is read again and again stays in cache.

use std::ops::Range;

use sterna_tensor::ops::add_assign;
use sterna_tensor::{Activations, Compute, DenseMatrix, Matrix, linear};

/// Columns of a piece.
const PIECE: usize = 1024;

/// A few rows that many others are multiplied with, in pieces of columns.
pub(super) struct Panel {
    n_rows: usize,
    pieces: Vec<Activations>,
}

impl Panel {
    /// `n_rows` rows of `cols` columns; `fill(columns, out)` writes some columns of all rows to `out`
    /// `[n_rows, columns]`.
    pub(super) fn new(
        c: &Compute,
        n_rows: usize,
        cols: usize,
        mut fill: impl FnMut(Range<usize>, &mut [f32]),
    ) -> Panel {
        let pieces = (0..cols).step_by(PIECE).map(|first| {
            let columns = first..cols.min(first + PIECE);
            let len = columns.len();
            let mut values = vec![0.0; n_rows * len];
            fill(columns, &mut values);
            let mut piece = Activations::new();
            piece.set(&values, len, c);
            piece
        });
        Panel { n_rows, pieces: pieces.collect() }
    }

    /// `[n_rows, n]`: the products of the panel's rows with the first columns of the `n` rows that lie in `others`,
    /// `stride` apart.
    ///
    /// Made for the chunks of a parallel region, where it runs on the thread that calls it.
    pub(super) fn times(&self, c: &Compute, others: &[f32], stride: usize) -> Vec<f32> {
        let n = others.len() / stride;
        let mut sums = vec![0.0; self.n_rows * n];
        let mut products = vec![0.0; if self.pieces.len() > 1 { sums.len() } else { 0 }];
        let mut first = 0;
        for piece in &self.pieces {
            let len = piece.cols();
            let mut rows = Vec::with_capacity(n * len);
            others.chunks_exact(stride).for_each(|row| rows.extend_from_slice(&row[first..][..len]));
            let matrix = Matrix::from(dense(n, len, rows));
            if first == 0 {
                linear(c, piece, &mut [(&matrix, &mut sums)]);
            } else {
                linear(c, piece, &mut [(&matrix, &mut products)]);
                add_assign(c.isa, &mut sums, &products);
            }
            first += len;
        }
        sums
    }
}

/// A float matrix of a shape that is known to be right.
pub(super) fn dense(rows: usize, cols: usize, values: Vec<f32>) -> DenseMatrix {
    DenseMatrix::from_f32(rows, cols, values).expect("as many values as rows times columns, and some")
}
