//! Softmax of one row.

use super::elementwise::{load_partial, store_partial};
use super::math::exp;
use crate::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// `x = e^x / Σ e^x`, shifted by the largest element so that nothing overflows. An empty row stays empty; where all
/// elements are -∞, or one is NaN, the result is unspecified.
pub fn softmax(isa: Isa, x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = isa.run(ExpSum { x, shift: largest });
    super::scale(x, 1.0 / sum);
}

/// `x = e^(x - shift)`; returns the sum.
struct ExpSum<'a> {
    x: &'a mut [f32],
    shift: f32,
}

impl Kernel for ExpSum<'_> {
    type Output = f32;
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let shift = simd.splat(self.shift);
        let mut sum = simd.splat(0.0);
        let (body, tail) = self.x.as_chunks_mut::<LANES>();
        for x in body {
            let e = exp(simd, simd.sub(simd.load(x), shift));
            sum = simd.add(sum, e);
            simd.store(e, x);
        }
        let e = exp(simd, simd.sub(load_partial(simd, tail), shift));
        store_partial(simd, e, tail);
        // The lanes behind the tail hold e^-shift, so it is added from memory.
        simd.reduce_sum(simd.add(sum, load_partial(simd, tail)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, floats, on_every_isa};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn probabilities_are_those_of_f64(rows in floats(1)) {
            on_every_isa(|isa| {
                let mut x = rows[0].clone();
                softmax(isa, &mut x);
                let largest = rows[0].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let e: Vec<f64> = rows[0].iter().map(|&x| f64::from(x - largest).exp()).collect();
                let sum: f64 = e.iter().sum();
                for i in 0..x.len() {
                    assert_close(x[i], e[i] / sum, 1e-6 * (e[i] / sum) + 1e-37);
                }
            });
        }
    }

    #[test]
    fn masked_elements_get_nothing() {
        on_every_isa(|isa| {
            let mut x = [f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY, 3.0];
            softmax(isa, &mut x);
            assert_eq!(x, [0.0, 0.5, 0.0, 0.5]);
        });
    }
}
