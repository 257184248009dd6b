//! The most likely token.

/// Index of the largest element: the lowest such index on ties, never that of a NaN while there is a number, and 0 when
/// there is none.
#[must_use]
pub fn argmax(x: &[f32]) -> usize {
    const BLOCK: usize = 64;
    let Some(mut best) = x.iter().position(|v| !v.is_nan()) else { return 0 };
    for (block, values) in x.chunks(BLOCK).enumerate() {
        // Almost no block holds a new maximum, and the compiler turns this question into a few vector compares.
        if values.iter().fold(false, |any, &v| any | (v > x[best])) {
            for (i, &v) in values.iter().enumerate() {
                if v > x[best] {
                    best = block * BLOCK + i;
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_nans_and_nothing() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY, f32::NAN]), 1);
        assert_eq!(argmax(&[f32::NAN; 3]), 0);
        assert_eq!(argmax(&[]), 0);
    }

    proptest! {
        #[test]
        fn nothing_before_is_as_large_and_nothing_after_larger(x in prop::collection::vec(-5i8..5, 1..300)) {
            let x: Vec<f32> = x.into_iter().map(f32::from).collect();
            let best = argmax(&x);
            prop_assert!(x[..best].iter().all(|&v| v < x[best]));
            prop_assert!(x[best..].iter().all(|&v| v <= x[best]));
        }
    }
}
