//! The time steps of state-space mixers: how much of an input a state takes, and how much of itself it keeps.

use super::elementwise::{load, store};
use super::math::softplus;
use crate::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// `dt = clamp(softplus(dt + bias))` with `softplus(x) = ln(1 + e^x)`, for every row of `dt` `[n, bias.len()]`.
///
/// # Panics
/// When `dt` is not whole rows.
pub fn time_steps(isa: Isa, dt: &mut [f32], bias: &[f32], [least, most]: [f32; 2]) {
    assert!(!bias.is_empty() && dt.len().is_multiple_of(bias.len()), "rows of {}: {}", bias.len(), dt.len());
    isa.run(TimeSteps { dt, bias, least, most });
}

struct TimeSteps<'a> {
    dt: &'a mut [f32],
    bias: &'a [f32],
    least: f32,
    most: f32,
}

impl Kernel for TimeSteps<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (least, most) = (simd.splat(self.least), simd.splat(self.most));
        for row in self.dt.chunks_exact_mut(self.bias.len()) {
            for (dt, bias) in row.chunks_mut(LANES).zip(self.bias.chunks(LANES)) {
                let step = softplus(simd, simd.add(load(simd, dt), load(simd, bias)));
                store(simd, simd.min(simd.max(step, least), most), dt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, floats, on_every_isa};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn steps_are_those_of_f64(rows in floats(3), limits in (0.0f32..0.1, 0.2f32..90.0)) {
            let [bias, a, b] = &rows[..] else { unreachable!() };
            prop_assume!(!bias.is_empty());
            let x = [&a[..], b].concat();
            on_every_isa(|isa| {
                let mut dt = x.clone();
                time_steps(isa, &mut dt, bias, [limits.0, limits.1]);
                for (i, &dt) in dt.iter().enumerate() {
                    let sum = f64::from(x[i] + bias[i % bias.len()]);
                    let want = (sum.max(0.0) + (-sum.abs()).exp().ln_1p())
                        .clamp(f64::from(limits.0), f64::from(limits.1));
                    assert_close(dt, want, 4e-7 * want.max(1e-3));
                }
            });
        }
    }
}
