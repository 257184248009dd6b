//! The recurrence of Mamba-2 (state-space duality, arXiv:2405.21060 §6), head by head.
//!
//! ```text
//! S_t = exp(Δ_t A) S_{t-1} + B_t ⊗ (Δ_t x_t)
//! y_t = C_tᵀ S_t + D x_t
//! ```
//!
//! `S` is `[state_size, head_dim]`, so that lanes run over the head and no sum crosses them. Tokens are taken four at a
//! time past every element of the state: it is loaded once for them, and all arithmetic is that of one token after the
//! other, so that any way of cutting a sequence gives the same bits.

use super::elementwise::{load, store};
use super::heads::for_heads;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Compute, Disjoint};

/// The sizes of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SsdShape {
    /// Heads, a multiple of `n_groups`.
    pub n_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Groups of heads that share `B` and `C`.
    pub n_groups: usize,
    /// Rows of a head's state.
    pub state_size: usize,
}

/// What a scan reads; `n` is the number of tokens.
#[derive(Debug, Clone, Copy)]
pub struct SsdInput<'a> {
    /// `x`, `B` and `C` side by side, `[n, n_heads * head_dim + 2 * n_groups * state_size]`.
    pub xbc: &'a [f32],
    /// `Δ`, `[n, n_heads]`.
    pub dt: &'a [f32],
    /// `exp(Δ A)`, `[n, n_heads]`.
    pub decay: &'a [f32],
    /// `D`, `[n_heads]`.
    pub d: &'a [f32],
}

impl SsdShape {
    /// Width of `x`, all heads together.
    pub fn inner_size(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of `x`, `B` and `C` together.
    pub fn xbc_size(&self) -> usize {
        self.inner_size() + 2 * self.n_groups * self.state_size
    }

    /// Elements of the states of all heads.
    pub fn state_len(&self) -> usize {
        self.inner_size() * self.state_size
    }
}

/// Runs `state` `[n_heads, state_size, head_dim]` over the tokens of `input`, and writes `y` `[n, n_heads * head_dim]`.
///
/// # Panics
/// When the lengths do not go together.
pub fn ssd_scan(c: &Compute, shape: SsdShape, input: SsdInput<'_>, state: &mut [f32], y: &mut [f32]) {
    let n = y.len() / shape.inner_size().max(1);
    assert!(shape.n_groups > 0 && shape.n_heads.is_multiple_of(shape.n_groups), "{shape:?}");
    assert_eq!(y.len(), n * shape.inner_size(), "outputs");
    assert_eq!(state.len(), shape.state_len(), "states");
    assert_eq!(input.xbc.len(), n * shape.xbc_size(), "inputs");
    assert!(input.dt.len() == n * shape.n_heads && input.decay.len() == input.dt.len(), "time steps");
    assert_eq!(input.d.len(), shape.n_heads, "factors of inputs");
    for_heads(c, shape.n_heads, n, state, y, |head, state, y| {
        c.isa.run(Head { shape, input, head, state, y, n });
    });
}

/// The scan of one head.
struct Head<'a> {
    shape: SsdShape,
    input: SsdInput<'a>,
    head: usize,
    /// `[state_size, head_dim]`.
    state: &'a mut [f32],
    /// `[n, n_heads * head_dim]`, of which the head writes its columns.
    y: &'a Disjoint<'a, f32>,
    n: usize,
}

impl Kernel for Head<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let head_dim = self.shape.head_dim;
        for first in (0..head_dim).step_by(LANES) {
            let width = LANES.min(head_dim - first);
            let mut t = 0;
            while t + 4 <= self.n {
                self.tokens::<S, 4>(simd, t, first, width);
                t += 4;
            }
            while t < self.n {
                self.tokens::<S, 1>(simd, t, first, width);
                t += 1;
            }
        }
    }
}

impl Head<'_> {
    /// Takes the tokens from `t` on past the columns of the state from `first` on.
    #[inline(always)]
    fn tokens<S: Simd, const T: usize>(&mut self, simd: S, t: usize, first: usize, width: usize) {
        let SsdShape { n_heads, head_dim, n_groups, state_size } = self.shape;
        let SsdInput { xbc, dt, decay, d } = self.input;
        let (inner_size, xbc_size) = (self.shape.inner_size(), self.shape.xbc_size());
        let group = self.head / (n_heads / n_groups);
        let columns = self.head * head_dim + first;
        let mut driven = [simd.splat(0.0); T];
        let mut decays = [simd.splat(0.0); T];
        let mut sums = [simd.splat(0.0); T];
        let mut b: [&[f32]; T] = [&[]; T];
        let mut c: [&[f32]; T] = [&[]; T];
        for i in 0..T {
            let token = &xbc[(t + i) * xbc_size..][..xbc_size];
            let x = load(simd, &token[columns..columns + width]);
            let step = (t + i) * n_heads + self.head;
            driven[i] = simd.mul(x, simd.splat(dt[step]));
            decays[i] = simd.splat(decay[step]);
            sums[i] = simd.mul(x, simd.splat(d[self.head]));
            b[i] = &token[inner_size + group * state_size..][..state_size];
            c[i] = &token[inner_size + (n_groups + group) * state_size..][..state_size];
        }
        for (row, state) in (0..state_size).zip(self.state.chunks_exact_mut(head_dim)) {
            let state = &mut state[first..first + width];
            let mut s = load(simd, state);
            for i in 0..T {
                s = simd.mul_add(driven[i], simd.splat(b[i][row]), simd.mul(s, decays[i]));
                sums[i] = simd.mul_add(s, simd.splat(c[i][row]), sums[i]);
            }
            store(simd, s, state);
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let start = (t + i) * inner_size + columns;
            // SAFETY: these columns are this head's alone, and it is run by one thread.
            store(simd, sum, unsafe { self.y.slice(start..start + width) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, ramp};
    use crate::{Isa, Precision};
    use proptest::prelude::*;

    struct Case {
        shape: SsdShape,
        xbc: Vec<f32>,
        dt: Vec<f32>,
        decay: Vec<f32>,
        d: Vec<f32>,
        state: Vec<f32>,
    }

    impl Case {
        fn new(shape: SsdShape, n: usize) -> Case {
            Case {
                xbc: ramp(n * shape.xbc_size()),
                dt: ramp(n * shape.n_heads).iter().map(|x| x.abs()).collect(),
                decay: ramp(n * shape.n_heads + 1)[1..].iter().map(|x| x.abs()).collect(),
                d: ramp(shape.n_heads),
                state: ramp(shape.state_len()),
                shape,
            }
        }

        fn n(&self) -> usize {
            self.dt.len() / self.shape.n_heads
        }

        /// Outputs, and the state after them, `chunk` tokens at a time.
        fn scan(&self, isa: Isa, chunk: usize) -> (Vec<f32>, Vec<f32>) {
            let Case { shape, xbc, dt, decay, d, .. } = self;
            let c = Compute { isa, ..Compute::new(2, Precision::Float) };
            let (mut state, mut y) = (self.state.clone(), vec![0.0; self.n() * shape.inner_size()]);
            for (i, y) in y.chunks_mut(chunk * shape.inner_size()).enumerate() {
                let (first, n) = (i * chunk, y.len() / shape.inner_size());
                let steps = first * shape.n_heads..(first + n) * shape.n_heads;
                let input = SsdInput {
                    xbc: &xbc[first * shape.xbc_size()..(first + n) * shape.xbc_size()],
                    dt: &dt[steps.clone()],
                    decay: &decay[steps],
                    d,
                };
                ssd_scan(&c, *shape, input, &mut state, y);
            }
            (y, state)
        }

        /// The recurrence as it is written, in f64.
        fn in_f64(&self) -> Vec<f64> {
            let SsdShape { n_heads, head_dim, n_groups, state_size } = self.shape;
            let mut state: Vec<f64> = self.state.iter().copied().map(f64::from).collect();
            let mut out = Vec::new();
            for t in 0..self.n() {
                let token = &self.xbc[t * self.shape.xbc_size()..][..self.shape.xbc_size()];
                for head in 0..n_heads {
                    let group = head / (n_heads / n_groups);
                    let (dt, decay) = (self.dt[t * n_heads + head], self.decay[t * n_heads + head]);
                    for p in 0..head_dim {
                        let x = f64::from(token[head * head_dim + p]);
                        let mut y = f64::from(self.d[head]) * x;
                        for row in 0..state_size {
                            let at = |part: usize| {
                                let start = self.shape.inner_size() + part * n_groups * state_size;
                                f64::from(token[start + group * state_size + row])
                            };
                            let s = &mut state[(head * state_size + row) * head_dim + p];
                            *s = f64::from(decay) * *s + at(0) * f64::from(dt) * x;
                            y += at(1) * *s;
                        }
                        out.push(y);
                    }
                }
            }
            out
        }
    }

    proptest! {
        #[test]
        fn outputs_are_those_of_f64_and_the_same_however_they_are_cut(
            (group, n_groups, head_dim) in (1usize..4, 1usize..3, 1usize..40),
            (state_size, n, chunk) in (1usize..20, 1usize..12, 1usize..12),
        ) {
            let shape = SsdShape { n_heads: group * n_groups, head_dim, n_groups, state_size };
            let case = Case::new(shape, n);
            let whole = case.scan(Isa::Scalar, n);
            for (found, want) in whole.0.iter().zip(case.in_f64()) {
                assert_close(*found, want, 1e-4);
            }
            for isa in Isa::available() {
                prop_assert!(case.scan(isa, chunk) == whole, "{isa}");
            }
        }
    }

    #[test]
    fn all_threads_give_what_one_gives() {
        let case = Case::new(SsdShape { n_heads: 8, head_dim: 64, n_groups: 2, state_size: 128 }, 9);
        let best = case.scan(Isa::best(), 9);
        assert!(best == case.scan(Isa::Scalar, 1));
    }
}
