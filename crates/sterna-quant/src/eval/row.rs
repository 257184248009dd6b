//! One row of logits: its largest, and the logarithm of the sum that makes it a distribution.

use super::{EvalError, Result};

/// What a softmax needs to know of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    /// The likeliest token; the first of several.
    pub(crate) top: u32,
    pub(crate) top_logit: f32,
    /// `ln Σ e^logit`
    pub(crate) log_sum_exp: f64,
}

/// Elements summed in `f32` before the sum goes to `f64`.
const BLOCK: usize = 512;
const LANES: usize = 16;

impl Row {
    /// Of the logits `[vocab_size]` at `position` of a sequence.
    ///
    /// # Errors
    /// [`EvalError::NotFinite`] where one is NaN, or +∞, or all are -∞.
    pub(crate) fn of(logits: &[f32], position: usize) -> Result<Row> {
        let (mut top, mut top_logit, mut sane) = (0, f32::NEG_INFINITY, true);
        for (token, &logit) in (0..).zip(logits) {
            sane &= !logit.is_nan();
            if logit > top_logit {
                (top, top_logit) = (token, logit);
            }
        }
        if !sane || !top_logit.is_finite() {
            return Err(EvalError::NotFinite { position });
        }
        let sum: f64 = logits.chunks(BLOCK).map(|block| exp_sum(block, top_logit)).sum();
        Ok(Row { top, top_logit, log_sum_exp: f64::from(top_logit) + sum.ln() })
    }

    /// The negative log-likelihood of a token with `logit`, in nats.
    pub(crate) fn nll(&self, logit: f32) -> f64 {
        self.log_sum_exp - f64::from(logit)
    }

    /// `-Σ p ln p` in nats, of what the `logits` that this row is of predict: the loss that they expect.
    pub(crate) fn entropy(&self, logits: &[f32]) -> f64 {
        let below_top: f64 = logits
            .chunks(BLOCK)
            .map(|block| exp_weighted_sum(block, self.top_logit, &ZEROS[..block.len()], 0.0))
            .sum();
        let normalised = self.log_sum_exp - f64::from(self.top_logit);
        normalised - below_top / normalised.exp()
    }
}

static ZEROS: [f32; BLOCK] = [0.0; BLOCK];

/// `Σ p ln(p / q)` in nats, of what the logits `p` and `q` predict.
pub(crate) fn divergence(p: &[f32], of_p: &Row, q: &[f32], of_q: &Row) -> f64 {
    let blocks = p.chunks(BLOCK).zip(q.chunks(BLOCK));
    let mean: f64 = blocks.map(|(p, q)| exp_weighted_sum(p, of_p.top_logit, q, of_q.top_logit)).sum();
    let mean = mean / (of_p.log_sum_exp - f64::from(of_p.top_logit)).exp();
    let normalised = |row: &Row| row.log_sum_exp - f64::from(row.top_logit);
    // Of equal distributions rounding can leave a hair less than nothing.
    (mean - normalised(of_p) + normalised(of_q)).max(0.0)
}

/// `Σ e^(p - p_top) ((p - p_top) - (q - q_top))`, in lanes as [`exp_sum`].
fn exp_weighted_sum(p: &[f32], p_top: f32, q: &[f32], q_top: f32) -> f64 {
    let term = |p: f32, q: f32| {
        let p = p - p_top;
        // The impossible has no weight.
        if p == f32::NEG_INFINITY { 0.0 } else { exp(p) * (p - (q - q_top)) }
    };
    let ((p, p_tail), (q, q_tail)) = (p.as_chunks::<LANES>(), q.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (p, q) in p.iter().zip(q) {
        for (sum, (p, q)) in sums.iter_mut().zip(p.iter().zip(q)) {
            *sum += term(*p, *q);
        }
    }
    let tail = p_tail.iter().zip(q_tail).map(|(&p, &q)| term(p, q));
    sums.iter().copied().chain(tail).map(f64::from).sum()
}

/// `Σ e^(x - shift)`, in lanes that a compiler can turn into vectors.
fn exp_sum(block: &[f32], shift: f32) -> f64 {
    let (body, tail) = block.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for values in body {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += exp(value - shift);
        }
    }
    sums.iter().copied().chain(tail.iter().map(|value| exp(value - shift))).map(f64::from).sum()
}

/// `e^x` for `x <= 0`, to about one unit in the last place; what is below -87 counts as that.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with few bits.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.max(-87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    // Taylor, on |r| <= ln(2) / 2.
    let p = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let polynomial = p.into_iter().fold(0.0, |sum, coefficient| sum * r + coefficient);
    polynomial * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn divergence_of_two_coins() {
        // p = (1/2, 1/2), q = (1/4, 3/4): KL = ½ ln 2 + ½ ln ⅔.
        let (p, q) = ([3.0, 3.0], [0.25f32.ln(), 0.75f32.ln()]);
        let rows = [p, q].map(|logits| Row::of(&logits, 0).unwrap());
        assert!((divergence(&p, &rows[0], &q, &rows[1]) - 0.5 * (4.0f64 / 3.0).ln()).abs() < 1e-6);
        assert!(divergence(&q, &rows[1], &q, &rows[1]) < 1e-6);
        let (p, q) = ([7.0, f32::NEG_INFINITY, 7.0], [1.0; 3]);
        let rows = [p, q].map(|logits| Row::of(&logits, 0).unwrap());
        assert!((divergence(&p, &rows[0], &q, &rows[1]) - 1.5f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn entropy_of_two_coins() {
        // ln 2, and 2 ln 2 - ¾ ln 3.
        for (logits, expected) in [([5.0f32, 5.0], 2f64.ln()), ([0.25f32.ln(), 0.75f32.ln()], 0.562_335)] {
            let found = Row::of(&logits, 0).unwrap().entropy(&logits);
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
    }

    #[test]
    fn two_equal_tokens_share() {
        let row = Row::of(&[1.0, 3.0, 3.0, f32::NEG_INFINITY], 0).unwrap();
        assert_eq!((row.top, row.top_logit), (1, 3.0));
        let expected = 3.0 + (2.0 + (-2.0f64).exp()).ln();
        assert!((row.log_sum_exp - expected).abs() < 1e-7);
        assert!((row.nll(1.0) - (expected - 1.0)).abs() < 1e-7);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [[0.0, f32::NAN], [0.0, f32::INFINITY], [f32::NEG_INFINITY; 2]] {
            assert!(matches!(Row::of(&bad, 5), Err(EvalError::NotFinite { position: 5 })), "{bad:?}");
        }
        assert!(Row::of(&[], 0).is_err());
    }

    proptest! {
        #[test]
        fn exp_is_that_of_f64(x in -86.9f32..=0.0) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) - expected).abs() < 2e-7 * expected, "{x}: {} {expected}", exp(x));
        }

        #[test]
        fn the_sum_is_that_of_f64(logits in prop::collection::vec(-40.0f32..40.0, 1..2000)) {
            let row = Row::of(&logits, 0).unwrap();
            let shift = f64::from(row.top_logit);
            let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - shift).exp()).sum();
            prop_assert!((row.log_sum_exp - (shift + sum.ln())).abs() < 5e-7);
        }
    }
}
