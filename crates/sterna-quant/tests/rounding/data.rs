//! Weights and inputs.

use sterna_quant::rounding::Quantized;
use sterna_tensor::Compute;

/// Numbers about a normal distribution, the same for the same seed.
pub(crate) fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

/// Inputs `[n, cols]` that go together, some channels much larger than others, one dead.
pub(crate) fn correlated(n: usize, cols: usize, seed: u64) -> Vec<f32> {
    let rank = cols / 4;
    let (factors, mix, noise) =
        (normal(n * rank, seed), normal(rank * cols, seed + 1), normal(n * cols, seed + 2));
    let mut x = noise;
    for (t, x) in x.chunks_mut(cols).enumerate() {
        for (j, x) in x.iter_mut().enumerate() {
            let common: f32 = (0..rank).map(|k| factors[t * rank + k] * mix[k * cols + j]).sum();
            let size = if j % 29 == 3 { 20.0 } else { 1.0 };
            *x = if j == 7 { 0.0 } else { size * (0.5 * *x + common) };
        }
    }
    x
}

/// What the weights lost.
pub(crate) fn difference(w: &[f32], q: &Quantized, c: &Compute) -> Vec<f32> {
    w.iter().zip(q.dequantize(&c.pool)).map(|(w, q)| w - q).collect()
}
