//! The recurrence of Mamba-1 (selective state spaces, arXiv:2312.00752 §3.2), channel by channel.
//!
//! ```text
//! S_t = exp(Δ_t A) S_{t-1} + (Δ_t x_t) B_t
//! y_t = C_tᵀ S_t + D x_t
//! ```
//!
//! Every channel has rates `A` and a state of its own; `S` and `A` are `[state_size, n_channels]`, so that lanes run
//! over channels.

use super::elementwise::{load, store};
use super::math::exp;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Compute, Disjoint};

/// What a scan reads; `n` is the number of tokens.
#[derive(Debug, Clone, Copy)]
pub struct SelectiveInput<'a> {
    /// `[n, n_channels]`.
    pub x: &'a [f32],
    /// `Δ`, `[n, n_channels]`.
    pub dt: &'a [f32],
    /// `[n, state_size]`.
    pub b: &'a [f32],
    /// `[n, state_size]`.
    pub c: &'a [f32],
    /// `A`, below zero, `[state_size, n_channels]`.
    pub a: &'a [f32],
    /// `D`, `[n_channels]`.
    pub d: &'a [f32],
}

/// Channels that one thread takes at a time.
const CHANNELS: usize = 4 * LANES;

/// Elements of state times tokens below which waking other threads costs more than it saves.
const MIN_PARALLEL: usize = 1 << 14;

/// Runs `state` `[state_size, n_channels]` over the tokens of `input`, and writes `y` `[n, n_channels]`.
///
/// # Panics
/// When the lengths do not go together.
pub fn selective_scan(c: &Compute, input: SelectiveInput<'_>, state: &mut [f32], y: &mut [f32]) {
    let n_channels = input.d.len();
    assert!(n_channels > 0 && y.len().is_multiple_of(n_channels), "rows of {n_channels}: {}", y.len());
    assert!(state.len().is_multiple_of(n_channels) && input.a.len() == state.len(), "states and rates");
    let (n, state_size) = (y.len() / n_channels, state.len() / n_channels);
    assert!(input.x.len() == y.len() && input.dt.len() == y.len(), "inputs and time steps");
    assert!(input.b.len() == n * state_size && input.c.len() == n * state_size, "B and C");
    let is_small = n * state.len() < MIN_PARALLEL || c.pool.n_threads() == 1;
    let (state, y) = (Disjoint::new(state), Disjoint::new(y));
    let block = |block: usize| {
        let end = n_channels.min((block + 1) * CHANNELS);
        for first in (block * CHANNELS..end).step_by(LANES) {
            let width = LANES.min(end - first);
            c.isa.run(Channels { input, state: &state, y: &y, n_channels, n, first, width });
        }
    };
    let n_blocks = n_channels.div_ceil(CHANNELS);
    match is_small {
        true => (0..n_blocks).for_each(block),
        false => c.pool.run(n_blocks, |chunk, _| block(chunk)),
    }
}

/// The scan of `width` channels from `first` on.
struct Channels<'a> {
    input: SelectiveInput<'a>,
    state: &'a Disjoint<'a, f32>,
    y: &'a Disjoint<'a, f32>,
    n_channels: usize,
    n: usize,
    first: usize,
    width: usize,
}

impl Kernel for Channels<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Channels { input, n_channels, first, width, .. } = self;
        let state_size = self.state.len() / n_channels;
        let of_row = |row: usize| row * n_channels + first..row * n_channels + first + width;
        let d = load(simd, &input.d[first..first + width]);
        for t in 0..self.n {
            let x = load(simd, &input.x[of_row(t)]);
            let dt = load(simd, &input.dt[of_row(t)]);
            let driven = simd.mul(x, dt);
            let mut sum = simd.mul(x, d);
            let (b, c) = (&input.b[t * state_size..][..state_size], &input.c[t * state_size..][..state_size]);
            for (row, (&b, &c)) in b.iter().zip(c).enumerate() {
                // SAFETY: these channels are in this block of channels alone, which one thread runs.
                let state = unsafe { self.state.slice(of_row(row)) };
                let decay = exp(simd, simd.mul(dt, load(simd, &input.a[of_row(row)])));
                let s = simd.mul_add(driven, simd.splat(b), simd.mul(load(simd, state), decay));
                sum = simd.mul_add(s, simd.splat(c), sum);
                store(simd, s, state);
            }
            // SAFETY: as above.
            store(simd, sum, unsafe { self.y.slice(of_row(t)) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, ramp};
    use crate::{Isa, Precision};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn outputs_are_those_of_f64_and_the_same_however_they_are_cut(
            (n_channels, state_size, n, chunk) in (1usize..150, 1usize..20, 1usize..6, 1usize..6),
        ) {
            let magnitudes = |n| ramp(n).iter().map(|x| x.abs()).collect::<Vec<f32>>();
            let (x, dt) = (ramp(n * n_channels), magnitudes(n * n_channels));
            let (b, c) = (ramp(n * state_size), ramp(2 * n * state_size)[n * state_size..].to_vec());
            let a: Vec<f32> = magnitudes(state_size * n_channels).iter().map(|a| -3.0 * a).collect();
            let (d, before) = (ramp(n_channels), ramp(state_size * n_channels));
            let scan = |isa, chunk: usize| {
                let compute = Compute { isa, ..Compute::new(2, Precision::Float) };
                let (mut state, mut y) = (before.clone(), vec![0.0; x.len()]);
                for (i, y) in y.chunks_mut(chunk * n_channels).enumerate() {
                    let tokens = i * chunk..i * chunk + y.len() / n_channels;
                    let of = |width: usize| tokens.start * width..tokens.end * width;
                    let input = SelectiveInput {
                        x: &x[of(n_channels)],
                        dt: &dt[of(n_channels)],
                        b: &b[of(state_size)],
                        c: &c[of(state_size)],
                        a: &a,
                        d: &d,
                    };
                    selective_scan(&compute, input, &mut state, y);
                }
                (y, state)
            };
            let whole = scan(Isa::Scalar, n);
            let mut state: Vec<f64> = before.iter().copied().map(f64::from).collect();
            for (t, y) in whole.0.chunks(n_channels).enumerate() {
                for channel in 0..n_channels {
                    let (x, dt) = (x[t * n_channels + channel], dt[t * n_channels + channel]);
                    let mut want = f64::from(d[channel]) * f64::from(x);
                    for row in 0..state_size {
                        let at = row * n_channels + channel;
                        let decay = (f64::from(dt) * f64::from(a[at])).exp();
                        let driven = f64::from(dt) * f64::from(x) * f64::from(b[t * state_size + row]);
                        state[at] = decay * state[at] + driven;
                        want += f64::from(c[t * state_size + row]) * state[at];
                    }
                    assert_close(y[channel], want, 1e-4);
                }
            }
            for isa in Isa::available() {
                prop_assert!(scan(isa, chunk) == whole, "{isa}");
            }
        }
    }
}
