//! How many threads are fastest for an answer, where memory sets the pace, and for a prompt, where arithmetic does.

use std::thread::available_parallelism;
use std::time::Instant;

use sterna::synthetic::weight_format;
use sterna::{Compute, Isa, Matrix, Precision};
use sterna_tensor::{Activations, Bytes, PackedFormat, PackedMatrix, linear};

use super::compare;
use crate::cli::table;

/// Inner widths of a small and of a larger model, and layers that are gone through.
const MODELS: [(usize, usize, usize); 2] = [(576, 1536, 30), (1536, 8960, 3)];
/// Tokens of an answer, and of a prompt.
const TOKENS: [usize; 2] = [1, 64];
/// What more threads must save to be worth the power.
const LEAST_GAIN: f64 = 0.02;

/// What was found.
pub(super) struct Threads {
    pub(super) decode: usize,
    pub(super) prefill: usize,
    pub(super) table: String,
}

/// Times passes with 1, 2, 4, ... threads, `cores`, and as many as the system runs at once.
pub(super) fn measure(isa: Isa, cores: usize) -> Threads {
    let logical = available_parallelism().map_or(1, usize::from).max(cores);
    let powers = std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|n| *n < logical);
    let mut counts: Vec<usize> = powers.chain([cores, logical]).collect();
    counts.sort_unstable();
    counts.dedup();
    let compute = Compute { isa, ..Compute::new(logical, Precision::Int8) };
    let models: Vec<Layers> = MODELS.iter().filter_map(|shape| Layers::new(*shape)).collect();
    let mut rows = vec![vec!["tokens".to_owned(), "width".to_owned()]];
    rows[0].extend(counts.iter().map(|n| format!("{n} threads, ms")));
    let chosen = TOKENS.map(|n_tokens| {
        let mut shares = vec![1.0; counts.len()];
        for model in &models {
            let mut pass = model.pass(&compute, n_tokens);
            let compared = compare(counts.len(), |i| {
                compute.pool.limit(counts[i]);
                pass()
            });
            let milliseconds = compared.iter().map(|(_, seconds)| format!("{:.2}", 1e3 * seconds));
            rows.push(
                [n_tokens, model.width].map(|n| n.to_string()).into_iter().chain(milliseconds).collect(),
            );
            shares.iter_mut().zip(&compared).for_each(|(share, (other, _))| *share *= other);
        }
        // The geometric mean over the models.
        shares.iter_mut().for_each(|share| *share = share.powf(1.0 / models.len().max(1) as f64));
        counts[fewest(&shares)]
    });
    let [decode, prefill] = chosen;
    let table =
        format!("{}\n{decode} threads for an answer, {prefill} for a prompt\n", table::markdown(&rows));
    Threads { decode, prefill, table }
}

/// The first whose time is about the least.
fn fewest(shares: &[f64]) -> usize {
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    shares.iter().position(|share| *share <= least * (1.0 + LEAST_GAIN)).unwrap_or(0)
}

/// The matrices of one layer, gone through so many times.
struct Layers {
    width: usize,
    inner: usize,
    n_layers: usize,
    /// Attention's in and out, and the feed-forward network's.
    matrices: [Matrix; 4],
}

impl Layers {
    fn new((width, inner, n_layers): (usize, usize, usize)) -> Option<Layers> {
        let format = weight_format(4)?;
        let matrix = |rows, cols| Some(Matrix::from(zeros(format, rows, cols)?));
        let matrices = [
            matrix(width * 5 / 4, width)?,
            matrix(width, width)?,
            matrix(2 * inner, width)?,
            matrix(width, inner)?,
        ];
        Some(Layers { width, inner, n_layers, matrices })
    }

    /// What goes through all layers once and says how many seconds that took.
    fn pass<'a>(&'a self, compute: &'a Compute, n_tokens: usize) -> impl FnMut() -> f64 + 'a {
        let input = |cols: usize| {
            let mut x = Activations::new();
            x.set(&vec![1.0; n_tokens * cols], cols, compute);
            x
        };
        let inputs = [self.width, self.width, self.width, self.inner].map(input);
        let mut outputs = self.matrices.each_ref().map(|matrix| vec![0.0; n_tokens * matrix.rows()]);
        move || {
            let start = Instant::now();
            for _ in 0..self.n_layers {
                for ((matrix, x), y) in self.matrices.iter().zip(&inputs).zip(&mut outputs) {
                    linear(compute, x, &mut [(matrix, y)]);
                }
            }
            start.elapsed().as_secs_f64()
        }
    }
}

/// Weights of zero, each on memory of its own.
fn zeros(format: PackedFormat, rows: usize, cols: usize) -> Option<PackedMatrix> {
    let bytes = Bytes::from(vec![1; format.n_bytes(rows, cols)?]);
    PackedMatrix::from_bytes(format, rows, cols, bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_must_be_worth_it() {
        assert_eq!(fewest(&[1.0, 0.6, 0.59, 0.8]), 1);
        assert_eq!(fewest(&[1.0]), 0);
        assert_eq!(fewest(&[1.0, 0.99]), 0);
    }
}
