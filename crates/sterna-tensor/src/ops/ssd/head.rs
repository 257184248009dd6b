//! The scan of one head, some columns of its state at a time.

use super::CHUNK;
use super::chunk::{Chunk, Tokens};
use crate::Disjoint;
use crate::ops::columns::{Columns, Rest, Whole};
use crate::simd::{Kernel, LANES, Simd};

/// The scan of one head.
pub(super) struct Head<'a> {
    pub(super) tokens: Tokens<'a>,
    /// `C_i · B_j`, `[n, n_groups, CHUNK]`.
    pub(super) scores: &'a [f32],
    pub(super) head: usize,
    /// `[state_size, head_dim]`.
    pub(super) state: &'a mut [f32],
    /// `[n, n_heads * head_dim]`, of which the head writes its columns.
    pub(super) y: &'a Disjoint<'a, f32>,
}

impl Kernel for Head<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // Few tokens wait for the states to come from memory, in which rows lie one behind the other: whole rows then. With
        // many, what is summed fills the registers, and the columns stay in the nearest cache.
        if self.tokens.n < CHUNK {
            self.columns::<S, 1, 4>(simd);
        } else if const { S::TOKENS >= 8 } {
            self.columns::<S, 8, 2>(simd);
        } else {
            self.columns::<S, 4, 1>(simd);
        }
    }
}

impl Head<'_> {
    /// Takes all tokens past all columns, `W` vectors of them at a time, and `T` tokens.
    #[inline(always)]
    fn columns<S: Simd, const T: usize, const W: usize>(&mut self, simd: S) {
        let head_dim = self.tokens.shape.head_dim;
        let mut first = 0;
        while first + W * LANES <= head_dim {
            self.strip::<S, T, W>(simd, Whole(first));
            first += W * LANES;
        }
        while first + LANES <= head_dim {
            self.strip::<S, T, 1>(simd, Whole(first));
            first += LANES;
        }
        if first < head_dim {
            self.strip::<S, T, 1>(simd, Rest(first));
        }
    }

    /// Takes all tokens past `columns`, chunk by chunk.
    #[inline(always)]
    fn strip<S: Simd, const T: usize, const W: usize>(&mut self, simd: S, columns: impl Columns<W>) {
        let (first, last) = (self.tokens.n_open(), self.tokens.end());
        for start in (0..last).step_by(CHUNK) {
            let end = last.min(start + CHUNK);
            let chunk = self.tokens.chunk(self.head, end);
            let mut driven = [[simd.splat(0.0); W]; CHUNK];
            for (j, driven) in driven.iter_mut().enumerate().take(end - start) {
                let x = columns.load(simd, chunk.x[j]);
                for w in 0..W {
                    driven[w] = simd.mul(x[w], simd.splat(chunk.dt[j]));
                }
            }
            let mut k = start.max(first);
            while k + T <= end {
                self.outputs::<S, T, W>(simd, columns, &chunk, &driven, k);
                k += T;
            }
            while k < end {
                self.outputs::<S, 1, W>(simd, columns, &chunk, &driven, k);
                k += 1;
            }
            if end == start + CHUNK {
                self.close(simd, columns, &chunk, &driven);
            }
        }
    }

    /// Writes `y` of the `T` tokens from `k` on, all of one chunk.
    #[inline(always)]
    fn outputs<S: Simd, const T: usize, const W: usize>(
        &mut self,
        simd: S,
        columns: impl Columns<W>,
        chunk: &Chunk<'_>,
        driven: &[[S::F32; W]; CHUNK],
        k: usize,
    ) {
        let (tokens, shape) = (self.tokens, self.tokens.shape);
        let group = tokens.group(self.head);
        let mut c: [&[f32]; T] = [&[]; T];
        for (t, c) in c.iter_mut().enumerate() {
            *c = tokens.c(k + t, group);
        }
        let mut sums = [[simd.splat(0.0); W]; T];
        for (row, state) in (0..shape.state_size).zip(self.state.chunks_exact(shape.head_dim)) {
            let state = columns.load(simd, state);
            for t in 0..T {
                let c = simd.splat(c[t][row]);
                for w in 0..W {
                    sums[t][w] = simd.mul_add(state[w], c, sums[t][w]);
                }
            }
        }
        let d = simd.splat(self.tokens.input.d[self.head]);
        for (t, sums) in sums.iter().enumerate() {
            let (i, of_input) = ((k + t) % CHUNK, k + t - tokens.n_open());
            let scores = &self.scores[(of_input * shape.n_groups + group) * CHUNK..][..CHUNK];
            let of_state = simd.splat(chunk.of_state[i]);
            let mut y = columns.load(simd, chunk.x[i]);
            for w in 0..W {
                y[w] = simd.mul_add(sums[w], of_state, simd.mul(y[w], d));
            }
            for j in 0..=i {
                let share = simd.splat(chunk.of_token[i][j] * scores[j]);
                for w in 0..W {
                    y[w] = simd.mul_add(driven[j][w], share, y[w]);
                }
            }
            let start = of_input * shape.inner_size() + self.head * shape.head_dim;
            // SAFETY: these columns are this head's alone, and it is run by one thread.
            columns.store(simd, y, unsafe { self.y.slice(start..start + shape.head_dim) });
        }
    }

    /// Adds a whole chunk to the state.
    #[inline(always)]
    fn close<S: Simd, const W: usize>(
        &mut self,
        simd: S,
        columns: impl Columns<W>,
        chunk: &Chunk<'_>,
        driven: &[[S::F32; W]; CHUNK],
    ) {
        let of_state = simd.splat(chunk.of_state[CHUNK - 1]);
        let mut left = *driven;
        for (left, share) in left.iter_mut().zip(chunk.of_token[CHUNK - 1]) {
            for left in left {
                *left = simd.mul(*left, simd.splat(share));
            }
        }
        let shape = self.tokens.shape;
        for (row, state) in (0..shape.state_size).zip(self.state.chunks_exact_mut(shape.head_dim)) {
            let mut s = columns.load(simd, state);
            for s in &mut s {
                *s = simd.mul(*s, of_state);
            }
            for (left, b) in left.iter().zip(chunk.b) {
                let b = simd.splat(b[row]);
                for w in 0..W {
                    s[w] = simd.mul_add(left[w], b, s[w]);
                }
            }
            columns.store(simd, s, state);
        }
    }
}
