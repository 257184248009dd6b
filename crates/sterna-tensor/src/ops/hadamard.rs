//! A rotation that spreads what stands out over all elements of a head.

/// Multiplies each head of `x` `[n, head_dim]`, in parts as long as the largest power of two that divides `head_dim`, with the
/// Hadamard matrix of that size over the root of it: an orthogonal matrix, so products of two vectors stay what they are.
///
/// Elements of keys that are always large spoil the scale of what is rounded beside them; spread out, they do so less
/// (arXiv:2404.00456).
///
/// # Panics
/// When `x` is not whole heads.
pub fn hadamard(x: &mut [f32], head_dim: usize) {
    assert!(head_dim > 0 && x.len().is_multiple_of(head_dim), "{} elements in heads of {head_dim}", x.len());
    let len = 1 << head_dim.trailing_zeros();
    let factor = (len as f32).sqrt().recip();
    for part in x.chunks_exact_mut(len) {
        let mut half = 1;
        while half < len {
            for pair in part.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        part.iter_mut().for_each(|x| *x *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, ramp};

    #[test]
    fn one_element_is_spread_evenly_and_products_stay() {
        for (head_dim, len) in [(64, 64), (80, 16), (7, 1)] {
            let mut one = vec![0.0; head_dim];
            one[0] = 1.0;
            hadamard(&mut one, head_dim);
            let spread = (len as f32).sqrt().recip();
            assert!(one[..len].iter().all(|x| (x - spread).abs() < 1e-6), "{one:?}");

            let (mut a, mut b) = (ramp(head_dim), ramp(2 * head_dim)[head_dim..].to_vec());
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let before = product(&a, &b);
            hadamard(&mut a, head_dim);
            hadamard(&mut b, head_dim);
            assert_close(product(&a, &b) as f32, before, 1e-5);
        }
    }
}
