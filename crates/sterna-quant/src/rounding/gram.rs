//! Second moments of a layer's inputs, by which an error in the weights becomes one in the outputs.

use std::ops::Range;

use sterna_tensor::ops::add_assign;
use sterna_tensor::{Activations, Compute, Matrix, linear};

use super::product::{Panel, dense};

/// Inputs of one block of moments.
const BLOCK: usize = 256;
/// Tokens that are multiplied at once.
const TOKENS: usize = 1024;
/// Rows of weights that one thread looks at before it asks for more.
const BAND: usize = 64;

/// How much the tokens count. The first token of a text often has activations a thousand times as large as all others
/// (an attention sink) and would be nearly all of a plain sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum TokenWeight {
    /// All as they are, as published for GPTQ.
    #[default]
    Plain,
    /// Tokens whose root mean square is more than this many times the median of those added together are scaled down
    /// to that.
    Capped(f32),
    /// All scaled to a root mean square of 1.
    Unit,
}

impl TokenWeight {
    /// What each row of `x` is multiplied by.
    fn factors(self, x: &[f32], cols: usize) -> Vec<f32> {
        let rms = |row: &[f32]| {
            let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            (square / cols as f64).sqrt() as f32
        };
        let rms: Vec<f32> = match self {
            TokenWeight::Plain => return vec![1.0; x.len() / cols],
            _ => x.chunks_exact(cols).map(rms).collect(),
        };
        let limit = match self {
            TokenWeight::Capped(times) => {
                let mut sorted = rms.clone();
                sorted.sort_by(f32::total_cmp);
                times * sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
            }
            _ => 1.0,
        };
        let scaled = |rms: f32| self == TokenWeight::Unit || rms > limit;
        rms.iter().map(|&rms| if rms > 0.0 && scaled(rms) { limit / rms } else { 1.0 }).collect()
    }
}

/// `H = Σ x xᵀ / n` over `n` tokens, `[cols, cols]`, added up batch by batch. The same bits for any number of threads.
#[derive(Debug, Clone)]
pub struct Gram {
    cols: usize,
    n_tokens: usize,
    weight: TokenWeight,
    /// Sums, in blocks of [`BLOCK`] rows and columns: those on the diagonal and to the left of it, row by row.
    blocks: Vec<Vec<f32>>,
}

impl Gram {
    /// No tokens yet.
    pub fn new(cols: usize, weight: TokenWeight) -> Gram {
        let n_panels = cols.div_ceil(BLOCK);
        let len = |p: usize| (cols - p * BLOCK).min(BLOCK);
        let blocks = (0..n_panels).flat_map(|p| (0..=p).map(move |q| vec![0.0; len(p) * len(q)]));
        Gram { cols, n_tokens: 0, weight, blocks: blocks.collect() }
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Tokens added.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Adds the inputs `x` `[n, cols]` of `n` tokens. Several hundred at once are faster than a few.
    ///
    /// # Panics
    /// When `x` is not whole rows.
    pub fn add(&mut self, c: &Compute, x: &[f32]) {
        assert!(x.len().is_multiple_of(self.cols), "{} inputs in rows of {}", x.len(), self.cols);
        let factors = self.weight.factors(x, self.cols);
        for (x, factors) in x.chunks(TOKENS * self.cols).zip(factors.chunks(TOKENS)) {
            self.add_tokens(c, x, factors);
        }
        self.n_tokens += factors.len();
    }

    fn add_tokens(&mut self, c: &Compute, x: &[f32], factors: &[f32]) {
        let n = factors.len();
        let mut matrices: Vec<Matrix> = Vec::with_capacity(self.n_panels());
        let mut panel = Activations::new();
        for p in 0..self.n_panels() {
            let columns = self.panel(p);
            let mut transposed = vec![0.0; columns.len() * n];
            c.pool.run_slices(&mut transposed, 16 * n, |tile, out, _| {
                let first = columns.start + tile * 16;
                for (t, (x, factor)) in x.chunks_exact(self.cols).zip(factors).enumerate() {
                    for (i, out) in out.chunks_exact_mut(n).enumerate() {
                        out[t] = x[first + i] * factor;
                    }
                }
            });
            panel.set(&transposed, n, c);
            matrices.push(dense(columns.len(), n, transposed).into());

            let blocks = &mut self.blocks[p * (p + 1) / 2..][..=p];
            let mut products: Vec<Vec<f32>> = blocks.iter().map(|block| vec![0.0; block.len()]).collect();
            let mut outputs: Vec<_> =
                matrices.iter().zip(&mut products).map(|(w, y)| (w, y.as_mut_slice())).collect();
            linear(c, &panel, &mut outputs);
            c.pool.run_slices(blocks, 1, |q, block, _| add_assign(c.isa, &mut block[0], &products[q]));
        }
    }

    /// The mean square of every input: what an error in each column of the weights costs.
    pub fn diagonal(&self) -> Vec<f32> {
        let blocks = (0..self.n_panels()).flat_map(|p| {
            let n = self.panel(p).len();
            self.block(p, p).iter().step_by(n + 1)
        });
        blocks.map(|sum| (f64::from(*sum) * self.mean()) as f32).collect()
    }

    /// The moments of inputs that are divided by `scales`, one for each: what AWQ makes of them.
    ///
    /// # Panics
    /// When there are not as many scales as inputs.
    pub fn scaled_by(&mut self, scales: &[f32]) {
        assert_eq!(scales.len(), self.cols, "scales of the inputs");
        for p in 0..self.n_panels() {
            let rows = &scales[self.panel(p)];
            for q in 0..=p {
                let columns = &scales[self.panel(q)];
                let block = self.blocks[p * (p + 1) / 2 + q].chunks_exact_mut(columns.len());
                for (block, row) in block.zip(rows) {
                    block.iter_mut().zip(columns).for_each(|(h, column)| *h /= row * column);
                }
            }
        }
    }

    /// `Σ_rows δ H δᵀ` for `delta` `[rows, cols]`: the mean square of what the outputs lose, summed over outputs.
    ///
    /// # Panics
    /// When `delta` is not whole rows.
    pub fn error(&self, c: &Compute, delta: &[f32]) -> f64 {
        assert!(delta.len().is_multiple_of(self.cols), "{} weights in rows of {}", delta.len(), self.cols);
        let mut errors = vec![0.0f64; (delta.len() / self.cols).div_ceil(BAND)];
        for p in 0..self.n_panels() {
            let rows = self.panel(p);
            // `H` is symmetric: blocks left of the diagonal count twice, those on it once.
            let panel = Panel::new(c, rows.len(), rows.end, |columns, out| {
                self.copy(rows.clone(), columns.clone(), out);
                let n_left = rows.start.clamp(columns.start, columns.end) - columns.start;
                let left = out.chunks_exact_mut(columns.len()).flat_map(|row| &mut row[..n_left]);
                left.for_each(|h| *h *= 2.0);
            });
            c.pool.run_slices(&mut errors, 1, |band, error, _| {
                let delta = &delta[band * BAND * self.cols..];
                let delta = &delta[..delta.len().min(BAND * self.cols)];
                let n = delta.len() / self.cols;
                let product = panel.times(c, delta, self.cols);
                for (i, product) in product.chunks_exact(n).enumerate() {
                    for (delta, product) in delta.chunks_exact(self.cols).zip(product) {
                        error[0] += f64::from(delta[rows.start + i]) * f64::from(*product);
                    }
                }
            });
        }
        errors.iter().sum()
    }

    /// Copies `H[rows, columns]` to `out`.
    pub(super) fn copy(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        let mean = self.mean() as f32;
        for (i, out) in rows.zip(out.chunks_exact_mut(columns.len())) {
            let p = i / BLOCK;
            for q in columns.start / BLOCK..columns.end.div_ceil(BLOCK) {
                let panel = self.panel(q);
                let wanted = panel.start.max(columns.start)..panel.end.min(columns.end);
                let out = out[wanted.start - columns.start..][..wanted.len()].iter_mut();
                let skip = wanted.start - panel.start;
                if q <= p {
                    let row = &self.block(p, q)[(i - p * BLOCK) * panel.len() + skip..];
                    out.zip(row).for_each(|(out, h)| *out = mean * h);
                } else {
                    let len = self.panel(p).len();
                    let column = self.block(q, p)[skip * len + i - p * BLOCK..].iter().step_by(len);
                    out.zip(column).for_each(|(out, h)| *out = mean * h);
                }
            }
        }
    }

    fn n_panels(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// The inputs of panel `p`.
    fn panel(&self, p: usize) -> Range<usize> {
        p * BLOCK..self.cols.min((p + 1) * BLOCK)
    }

    fn block(&self, p: usize, q: usize) -> &[f32] {
        &self.blocks[p * (p + 1) / 2 + q]
    }

    /// What sums are multiplied by.
    fn mean(&self) -> f64 {
        1.0 / self.n_tokens.max(1) as f64
    }
}
