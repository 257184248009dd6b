//! Causal depthwise convolution over positions, the short memory of state-space mixers (arXiv:2312.00752 §3.4).

use super::elementwise::{load, store};
use super::math::sigmoid;
use crate::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvActivation {
    /// Nothing.
    Identity,
    /// `x / (1 + e^-x)`
    Silu,
}

/// `out[t, c] = activation(bias[c] + sum over k of weight[k, c] * x[t + k, c])`: every channel by itself, the newest
/// sample under the last tap.
///
/// `x` is `[n_taps - 1 + n, n_channels]`, its first rows those that came before; `weight` is `[n_taps, n_channels]`;
/// `bias` is `[n_channels]`, nothing for zeros; `out` is `[n, n_channels]`.
///
/// # Panics
/// When the lengths do not go together.
pub fn causal_conv(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: ConvActivation,
    out: &mut [f32],
) {
    // All taps but one come before the outputs.
    let n_channels = (weight.len() + out.len()).saturating_sub(x.len());
    assert!(
        n_channels > 0 && weight.len().is_multiple_of(n_channels),
        "taps of {n_channels}: {}",
        weight.len()
    );
    assert!(out.len().is_multiple_of(n_channels), "rows of {n_channels}: {}", out.len());
    assert!(bias.is_none_or(|bias| bias.len() == n_channels), "bias of {n_channels}");
    isa.run(CausalConv { x, weight, n_channels, bias, activation, out });
}

struct CausalConv<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    n_channels: usize,
    bias: Option<&'a [f32]>,
    activation: ConvActivation,
    out: &'a mut [f32],
}

impl Kernel for CausalConv<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let n_channels = self.n_channels;
        for (t, out) in self.out.chunks_exact_mut(n_channels).enumerate() {
            let taps = self.x[t * n_channels..].chunks_exact(n_channels);
            let taps = taps.zip(self.weight.chunks_exact(n_channels));
            for first in (0..n_channels).step_by(LANES) {
                let channels = first..n_channels.min(first + LANES);
                let bias = self.bias.map(|bias| &bias[channels.clone()]);
                let mut sum = load(simd, bias.unwrap_or_default());
                for (x, weight) in taps.clone() {
                    let (x, weight) =
                        (load(simd, &x[channels.clone()]), load(simd, &weight[channels.clone()]));
                    sum = simd.mul_add(x, weight, sum);
                }
                if self.activation == ConvActivation::Silu {
                    sum = simd.mul(sum, sigmoid(simd, sum));
                }
                store(simd, sum, &mut out[channels]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, on_every_isa, ramp};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_f64(n_channels in 1usize..40, n_taps in 1usize..6, n in 0usize..5) {
            let x: Vec<f32> = ramp((n_taps - 1 + n) * n_channels).iter().map(|x| 4.0 * x).collect();
            let (weight, bias) = (ramp(n_taps * n_channels), ramp(n_channels));
            on_every_isa(|isa| for activation in [ConvActivation::Identity, ConvActivation::Silu] {
                let mut out = vec![0.0; n * n_channels];
                causal_conv(isa, &x, &weight, Some(&bias), activation, &mut out);
                for (i, &out) in out.iter().enumerate() {
                    let (t, c) = (i / n_channels, i % n_channels);
                    let tap = |k: usize| f64::from(weight[k * n_channels + c]) * f64::from(x[(t + k) * n_channels + c]);
                    let sum = f64::from(bias[c]) + (0..n_taps).map(tap).sum::<f64>();
                    let want = match activation {
                        ConvActivation::Identity => sum,
                        ConvActivation::Silu => sum / (1.0 + (-sum).exp()),
                    };
                    assert_close(out, want, 4e-6);
                }
            });
        }
    }
}
