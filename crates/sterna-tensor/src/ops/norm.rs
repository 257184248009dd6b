//! Root-mean-square normalisation (arXiv:1910.07467).

use super::elementwise::{load_partial, store_partial};
use crate::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// `out = x / √(mean(x²) + eps) * weight` for every row of `x` `[n, weight.len()]`.
///
/// # Panics
/// When `x` is not whole rows or `out` has another length.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "length of the result");
    out.copy_from_slice(x);
    rms_norm_in_place(isa, out, weight, eps);
}

/// As [`rms_norm`], overwriting `x` `[n, weight.len()]`, for example every head of a query.
///
/// # Panics
/// When `x` is not whole rows.
pub fn rms_norm_in_place(isa: Isa, x: &mut [f32], weight: &[f32], eps: f32) {
    assert!(
        !weight.is_empty() && x.len().is_multiple_of(weight.len()),
        "rows of {}: {}",
        weight.len(),
        x.len()
    );
    isa.run(RmsNorm { x, weight, eps });
}

struct RmsNorm<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.x.chunks_exact_mut(self.weight.len()) {
            let mean = sum_of_squares(simd, row) / row.len() as f32;
            let scale = simd.splat(1.0 / (mean + self.eps).sqrt());
            let (body, tail) = row.as_chunks_mut::<LANES>();
            let (body_weight, tail_weight) = self.weight.as_chunks::<LANES>();
            for (x, w) in body.iter_mut().zip(body_weight) {
                simd.store(simd.mul(simd.mul(simd.load(x), scale), simd.load(w)), x);
            }
            if !tail.is_empty() {
                let (x, w) = (load_partial(simd, tail), load_partial(simd, tail_weight));
                store_partial(simd, simd.mul(simd.mul(x, scale), w), tail);
            }
        }
    }
}

/// Four sums side by side, so that no addition waits for the one before.
#[inline(always)]
fn sum_of_squares<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let mut sums = [simd.splat(0.0); 4];
    let (quads, rest) = row.as_chunks::<{ 4 * LANES }>();
    for quad in quads {
        let (vectors, _) = quad.as_chunks::<LANES>();
        for i in 0..4 {
            let x = simd.load(&vectors[i]);
            sums[i] = simd.mul_add(x, x, sums[i]);
        }
    }
    for part in rest.chunks(LANES) {
        let x = load_partial(simd, part);
        sums[0] = simd.mul_add(x, x, sums[0]);
    }
    simd.reduce_sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, floats, on_every_isa};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_those_of_f64(rows in floats(3), eps in 1e-7f32..1e-3) {
            let [weight, x0, x1] = &rows[..] else { unreachable!() };
            prop_assume!(!weight.is_empty());
            let x = [&x0[..], x1].concat();
            on_every_isa(|isa| {
                let mut out = vec![0.0; x.len()];
                rms_norm(isa, &x, weight, eps, &mut out);
                for (row, out) in x.chunks(weight.len()).zip(out.chunks(weight.len())) {
                    let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / row.len() as f64;
                    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
                    for i in 0..row.len() {
                        let want = f64::from(row[i]) * scale * f64::from(weight[i]);
                        assert_close(out[i], want, 1e-6 * want.abs() + 1e-30);
                    }
                }
            });
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let mut x = [0.0; 5];
        rms_norm_in_place(Isa::best(), &mut x, &[1.0; 5], 1e-6);
        assert_eq!(x, [0.0; 5]);
    }
}
