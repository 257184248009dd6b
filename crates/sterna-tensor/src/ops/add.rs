//! Sums of vectors: residual connections, weighted experts.

use super::elementwise::{InPlace, Update};
use crate::Isa;
use crate::simd::Simd;

/// `x += y`
///
/// # Panics
/// When the lengths differ.
pub fn add_assign(isa: Isa, x: &mut [f32], y: &[f32]) {
    isa.run(InPlace { op: Add, x, y });
}

/// `x += factor * y`
///
/// # Panics
/// When the lengths differ.
pub fn add_scaled(isa: Isa, x: &mut [f32], y: &[f32], factor: f32) {
    isa.run(InPlace { op: AddScaled(factor), x, y });
}

/// `x *= factor`. The compiler vectorises this one well without help.
pub fn scale(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

#[derive(Clone, Copy)]
struct Add;

impl Update for Add {
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, x: S::F32, y: S::F32) -> S::F32 {
        simd.add(x, y)
    }
}

#[derive(Clone, Copy)]
struct AddScaled(f32);

impl Update for AddScaled {
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, x: S::F32, y: S::F32) -> S::F32 {
        simd.mul_add(y, simd.splat(self.0), x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{floats, on_every_isa};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_elements(pairs in floats(2), factor in -9.0f32..9.0) {
            let [x, y] = &pairs[..] else { unreachable!() };
            on_every_isa(|isa| {
                let (mut sum, mut scaled) = (x.clone(), x.clone());
                add_assign(isa, &mut sum, y);
                add_scaled(isa, &mut scaled, y, factor);
                for i in 0..x.len() {
                    assert_eq!(sum[i].to_bits(), (x[i] + y[i]).to_bits());
                    assert_eq!(scaled[i].to_bits(), y[i].mul_add(factor, x[i]).to_bits());
                }
                scale(&mut scaled, 0.0);
                assert!(scaled.iter().all(|&v| v == 0.0));
            });
        }
    }
}
