//! Products of vectors, among them gated activations of feed-forward layers: `out = act(gate) * up`.

use super::elementwise::{InPlace, Update, Zip};
use super::math::sigmoid;
use crate::Isa;
use crate::simd::Simd;

/// `out = x * y`
///
/// # Panics
/// When the lengths differ.
pub fn mul(isa: Isa, x: &[f32], y: &[f32], out: &mut [f32]) {
    isa.run(Zip { op: Mul, x, y, out });
}

/// `x *= sigmoid(gate)`
///
/// # Panics
/// When the lengths differ.
pub fn sigmoid_mul(isa: Isa, x: &mut [f32], gate: &[f32]) {
    isa.run(InPlace { op: Sigmoid, x, y: gate });
}

/// `out = silu(gate) * up` with `silu(x) = x / (1 + e^-x)`
///
/// # Panics
/// When the lengths differ.
pub fn silu_mul(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    isa.run(Zip { op: Silu, x: gate, y: up, out });
}

/// `out = gelu(gate) * up`, the tanh form of gelu (`gelu_pytorch_tanh`):
/// `x/2 * (1 + tanh(√(2/π) (x + 0.044715 x³)))`
///
/// # Panics
/// When the lengths differ.
pub fn gelu_tanh_mul(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    isa.run(Zip { op: GeluTanh, x: gate, y: up, out });
}

/// `out = max(gate, 0)² * up`
///
/// # Panics
/// When the lengths differ.
pub fn relu2_mul(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    isa.run(Zip { op: Relu2, x: gate, y: up, out });
}

#[derive(Clone, Copy)]
struct Mul;

impl Update for Mul {
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, x: S::F32, y: S::F32) -> S::F32 {
        simd.mul(x, y)
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Update for Sigmoid {
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, x: S::F32, gate: S::F32) -> S::F32 {
        simd.mul(x, sigmoid(simd, gate))
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Update for Silu {
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, gate: S::F32, up: S::F32) -> S::F32 {
        simd.mul(simd.mul(gate, sigmoid(simd, gate)), up)
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Update for GeluTanh {
    /// `(1 + tanh u) / 2 = sigmoid(2 u)`, which does not cancel where `tanh u` is near -1.
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, gate: S::F32, up: S::F32) -> S::F32 {
        const SLOPE: f32 = 1.595_769; // 2 √(2/π)
        let cubic = simd.mul_add(simd.mul(gate, gate), simd.splat(0.044_715 * SLOPE), simd.splat(SLOPE));
        simd.mul(simd.mul(gate, sigmoid(simd, simd.mul(gate, cubic))), up)
    }
}

#[derive(Clone, Copy)]
struct Relu2;

impl Update for Relu2 {
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, gate: S::F32, up: S::F32) -> S::F32 {
        let positive = simd.max(gate, simd.splat(0.0));
        simd.mul(simd.mul(positive, positive), up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, floats, on_every_isa};
    use proptest::prelude::*;

    fn silu(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    fn gelu_tanh(x: f64) -> f64 {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        x / (1.0 + (-2.0 * u).exp())
    }

    proptest! {
        #[test]
        fn gates_are_those_of_f64(pairs in floats(2)) {
            let [gate, up] = &pairs[..] else { unreachable!() };
            on_every_isa(|isa| {
                let mut out = vec![0.0; gate.len()];
                type Pair = (fn(Isa, &[f32], &[f32], &mut [f32]), fn(f64) -> f64);
                let ops: [Pair; 4] = [
                    (mul, |x| x),
                    (silu_mul, silu),
                    (gelu_tanh_mul, gelu_tanh),
                    (relu2_mul, |x| x.max(0.0).powi(2)),
                ];
                for (op, exact) in ops {
                    op(isa, gate, up, &mut out);
                    for i in 0..gate.len() {
                        let want = exact(f64::from(gate[i])) * f64::from(up[i]);
                        // Far out on the tail the rounded argument of the exponential costs digits of nearly nothing.
                        assert_close(out[i], want, 1e-6 * want.abs() + 1e-9 * f64::from(up[i].abs()));
                    }
                }
            });
        }
    }

    proptest! {
        #[test]
        fn sigmoids_are_those_of_f64(pairs in floats(2)) {
            let [x, gate] = &pairs[..] else { unreachable!() };
            on_every_isa(|isa| {
                let mut out = x.clone();
                sigmoid_mul(isa, &mut out, gate);
                for i in 0..x.len() {
                    let want = f64::from(x[i]) / (1.0 + (-f64::from(gate[i])).exp());
                    assert_close(out[i], want, 1e-6 * want.abs() + 1e-30);
                }
            });
        }
    }

    #[test]
    fn extremes_saturate() {
        on_every_isa(|isa| {
            let gate = [f32::INFINITY, 1e30, -1e30, 0.0, -0.0, f32::NAN];
            let mut out = [0.0; 6];
            silu_mul(isa, &gate, &[1.0; 6], &mut out);
            assert_eq!(out[..5], [f32::INFINITY, 1e30, 0.0, 0.0, 0.0]);
            gelu_tanh_mul(isa, &gate, &[1.0; 6], &mut out);
            assert_eq!(out[..5], [f32::INFINITY, 1e30, 0.0, 0.0, 0.0]);
        });
    }
}
