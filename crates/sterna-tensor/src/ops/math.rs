//! Exponentials on vectors.

use std::f32::consts::LOG2_E;

use crate::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// `e^x` within 1 ulp for normal results; 0 below -104, infinity above 88.8.
///
/// With `n` the whole number nearest `x / ln 2`, `e^x = 2^n e^r` where `|r| <= ln 2 / 2`. The Taylor series of `e^r` up
/// to `r^7` is off by less than 6e-9. Results under the smallest normal number and over the largest one round as they should.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // ln 2 in two parts; the first has few enough bits that `n * LN2_HIGH` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = simd.max(simd.min(x, simd.splat(100.0)), simd.splat(-110.0));
    let n = simd.round(simd.mul(x, simd.splat(LOG2_E)));
    let r = simd.mul_add(n, simd.splat(-LN2_HIGH), x);
    let r = simd.mul_add(n, simd.splat(-LN2_LOW), r);
    let mut sum = simd.splat(1.0 / 5040.0);
    for inverse_factorial in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = simd.mul_add(sum, r, simd.splat(inverse_factorial));
    }
    simd.ldexp(sum, n)
}

/// [`exp`] of one number: that of the operating system's library differs from one to the next.
pub(crate) fn exp_of(isa: Isa, x: f32) -> f32 {
    isa.run(Exp(x))
}

struct Exp(f32);

impl Kernel for Exp {
    type Output = f32;
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut lanes = [0.0; LANES];
        simd.store(exp(simd, simd.splat(self.0)), &mut lanes);
        lanes[0]
    }
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(one, exp(simd, simd.sub(simd.splat(0.0), x))))
}

/// `ln(1 + e^x)`, off by at most 3e-7 of it where it is a normal number.
///
/// The part that grows is `max(x, 0)`; the rest is `ln(1 + u)` with `u = e^-|x|` at most 1, which is twice the area
/// tangent of `w = u / (2 + u)`, at most 1/3: its Taylor series up to `w^17` is off by less than 2e-10 of it.
#[inline(always)]
pub(crate) fn softplus<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let u = exp(simd, simd.sub(simd.splat(0.0), simd.abs(x)));
    let w = simd.div(u, simd.add(u, simd.splat(2.0)));
    let square = simd.mul(w, w);
    let mut sum = simd.splat(2.0 / 17.0);
    for odd in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = simd.mul_add(sum, square, simd.splat(2.0 / odd));
    }
    simd.mul_add(sum, w, simd.max(x, simd.splat(0.0)))
}

/// `tanh(x)`, off by at most 2e-7 (absolutely: tiny arguments lose digits).
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let two = simd.splat(2.0);
    simd.mul_add(two, sigmoid(simd, simd.mul(x, two)), simd.splat(-1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, on_every_isa};

    struct Apply<'a>(&'a [f32; LANES]);

    impl Kernel for Apply<'_> {
        type Output = [[f32; LANES]; 2];
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let x = simd.load(self.0);
            let mut out = [[0.0; LANES]; 2];
            simd.store(exp(simd, x), &mut out[0]);
            simd.store(tanh(simd, x), &mut out[1]);
            out
        }
    }

    #[test]
    fn close_to_f64_over_the_whole_range() {
        on_every_isa(|isa| {
            let mut x = -105.0f32;
            while x < 89.0 {
                let lanes: [f32; LANES] = std::array::from_fn(|i| x + i as f32 * 1.1e-3);
                let [exp, tanh] = isa.run(Apply(&lanes));
                for i in 0..LANES {
                    let x = f64::from(lanes[i]);
                    let want = x.exp();
                    let ulp = f64::from((want as f32).next_up()) - f64::from(want as f32);
                    assert!(
                        (f64::from(exp[i]) - want).abs() <= 1.2 * ulp || want > f64::from(f32::MAX),
                        "exp({x})"
                    );
                    assert_close(tanh[i], x.tanh(), 2e-7);
                }
                x += 0.0177;
            }
        });
    }

    #[test]
    fn extremes() {
        on_every_isa(|isa| {
            let mut lanes = [0.0; LANES];
            lanes[..6].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, -0.0, 1e-40]);
            let [exp, tanh] = isa.run(Apply(&lanes));
            assert_eq!(exp[..6], [f32::INFINITY, 0.0, f32::INFINITY, 0.0, 1.0, 1.0]);
            assert_eq!(tanh[..4], [1.0, -1.0, 1.0, -1.0]);
        });
    }
}
