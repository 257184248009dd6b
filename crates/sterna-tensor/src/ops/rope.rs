//! Rotary position embedding (arXiv:2104.09864), in the half-rotated form of GPT-NeoX and Hugging Face.

use super::elementwise::{load_partial, store_partial};
use crate::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// Rotates the first `2 * half` dimensions of every head of `x` `[n_tokens, n_heads * head_dim]`, in place:
/// dimension `i < half` pairs with dimension `i + half`, by the angle whose cosine and sine are `cos[token, i]` and
/// `sin[token, i]`. Both tables are `[n_tokens, half]`, their first row being that of the first token.
///
/// # Panics
/// When the tables differ in length or are not whole rows, `x` is not whole tokens of whole heads, or more dimensions
/// rotate than a head has.
pub fn rope(isa: Isa, x: &mut [f32], n_tokens: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    assert_eq!(cos.len(), sin.len(), "tables of cosines and sines");
    if n_tokens == 0 || cos.is_empty() || x.is_empty() {
        return;
    }
    let half = cos.len() / n_tokens;
    let token_len = x.len() / n_tokens;
    assert_eq!(cos.len(), n_tokens * half, "rows of the tables");
    assert_eq!(x.len(), n_tokens * token_len, "rows of x");
    assert!(token_len.is_multiple_of(head_dim), "{token_len} elements in heads of {head_dim}");
    assert!(2 * half <= head_dim, "{} of {head_dim} dimensions rotate", 2 * half);
    isa.run(Rope { x, token_len, head_dim, half, cos, sin });
}

struct Rope<'a> {
    x: &'a mut [f32],
    token_len: usize,
    head_dim: usize,
    half: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Rope<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let angles = self.cos.chunks_exact(self.half).zip(self.sin.chunks_exact(self.half));
        for (token, (cos, sin)) in self.x.chunks_exact_mut(self.token_len).zip(angles) {
            for head in token.chunks_exact_mut(self.head_dim) {
                let (first, second) = head[..2 * self.half].split_at_mut(self.half);
                rotate(simd, first, second, cos, sin);
            }
        }
    }
}

#[inline(always)]
fn rotate<S: Simd>(simd: S, first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
    for ((a, b), (cos, sin)) in pairs.zip(cos.chunks(LANES).zip(sin.chunks(LANES))) {
        let (va, vb) = (load_partial(simd, a), load_partial(simd, b));
        let (cos, sin) = (load_partial(simd, cos), load_partial(simd, sin));
        let minus_sin = simd.sub(simd.splat(0.0), sin);
        store_partial(simd, simd.mul_add(vb, minus_sin, simd.mul(va, cos)), a);
        store_partial(simd, simd.mul_add(va, sin, simd.mul(vb, cos)), b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, on_every_isa, ramp};

    #[test]
    fn turns_pairs_and_leaves_the_rest() {
        let (n_tokens, n_heads) = (3, 2);
        for (head_dim, half) in [(4, 2), (10, 3), (64, 32), (80, 20), (96, 47)] {
            let x = ramp(n_tokens * n_heads * head_dim);
            let angles = ramp(n_tokens * half);
            let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
            on_every_isa(|isa| {
                let mut y = x.clone();
                rope(isa, &mut y, n_tokens, head_dim, &cos, &sin);
                for i in 0..x.len() {
                    let (token, d) = (i / (n_heads * head_dim), i % head_dim);
                    let angle = |d: usize| f64::from(angles[token * half + d]).sin_cos();
                    let want = if d < half {
                        let (sin, cos) = angle(d);
                        f64::from(x[i]) * cos - f64::from(x[i + half]) * sin
                    } else if d < 2 * half {
                        let (sin, cos) = angle(d - half);
                        f64::from(x[i]) * cos + f64::from(x[i - half]) * sin
                    } else {
                        f64::from(x[i])
                    };
                    assert_close(y[i], want, 1e-6);
                }
            });
        }
    }
}
