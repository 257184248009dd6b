//! One prediction of the reference in few bytes: how far each token's log-probability is below the likeliest one's, in
//! 65,535 equal steps over the range that is there, at most 32 nats.
//!
//! A log-probability is off by at most half a step, [`LOG_PROB_ERROR`], with either sign. Because the codes are made a
//! distribution again, the divergence of one position is off by at most that times the mean of |ln(p / q)|, and the mean
//! over thousands of positions by far less. Tokens more than 32 nats below the likeliest are moved up to there, where all
//! of them together have no weight. The negative log-likelihood and the likeliest token are kept exactly.

use super::perplexity::Score;
use super::row::Row;

/// Farthest that a log-probability can be below the likeliest one's.
const MAX_DEPTH: f32 = 32.0;
const MAX_CODE: f32 = u16::MAX as f32;

/// Largest error of a log-probability of the reference, in nats.
pub const LOG_PROB_ERROR: f64 = 0.5 * 32.0 / 65535.0;

/// A prediction.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    /// The likeliest token.
    pub(crate) top: u32,
    /// Nats of one step.
    step: f32,
    /// Negative log-likelihood of the token that came.
    pub(crate) nll: f64,
    /// `[vocab_size]`; 0 is as likely as the likeliest.
    codes: Vec<u16>,
}

/// Bytes of a record before its codes.
const HEAD: usize = 16;

impl Record {
    /// Of the reference's prediction.
    pub(crate) fn of(score: &Score<'_>) -> Record {
        let top_logit = score.row.top_logit;
        let depths = score.logits.iter().map(|logit| top_logit - logit);
        let depth = depths.fold(0.0, f32::max).min(MAX_DEPTH);
        let per_nat = if depth > 0.0 { MAX_CODE / depth } else { 0.0 };
        // A cast keeps to the range of the type, so what lies deeper lands on the last code.
        let code = |logit: &f32| ((top_logit - logit) * per_nat + 0.5) as u16;
        Record {
            top: score.row.top,
            step: depth / MAX_CODE,
            nll: score.nll(),
            codes: score.logits.iter().map(code).collect(),
        }
    }

    /// Bytes of a record over `vocab_size` tokens.
    pub(crate) fn n_bytes(vocab_size: usize) -> usize {
        HEAD + 2 * vocab_size
    }

    /// Appends the record as it is in a file: `top` u32, `step` f32, `nll` f64, codes u16, little-endian.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.top.to_le_bytes());
        out.extend(self.step.to_le_bytes());
        out.extend(self.nll.to_le_bytes());
        out.extend(self.codes.iter().flat_map(|code| code.to_le_bytes()));
    }

    /// The record in `bytes`; `None` where they can be none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Record> {
        let (top, rest) = bytes.split_first_chunk()?;
        let (step, rest) = rest.split_first_chunk()?;
        let (nll, rest) = rest.split_first_chunk()?;
        let (codes, odd) = rest.as_chunks();
        let record = Record {
            top: u32::from_le_bytes(*top),
            step: f32::from_le_bytes(*step),
            nll: f64::from_le_bytes(*nll),
            codes: codes.iter().map(|code| u16::from_le_bytes(*code)).collect(),
        };
        let sane = (0.0..=MAX_DEPTH / MAX_CODE).contains(&record.step)
            && !record.nll.is_nan()
            && (record.top as usize) < record.codes.len();
        (sane && odd.is_empty()).then_some(record)
    }

    /// `Σ p ln(p / q)` in nats, where `p` is this prediction and `q` that of `logits`, of which `row` is known; and `-Σ p ln p`.
    pub(crate) fn divergence_and_entropy(&self, logits: &[f32], row: &Row) -> (f64, f64) {
        // e^(-step * code) as the product of two entries, for the high and the low byte of the code.
        let step = f64::from(self.step);
        let low: [f64; 256] = std::array::from_fn(|i| (-step * i as f64).exp());
        let high: [f64; 256] = std::array::from_fn(|i| (-step * 256.0 * i as f64).exp());
        let (mut sum, mut own, mut other) = (0.0, 0.0, 0.0);
        for (&code, &logit) in self.codes.iter().zip(logits) {
            let [low_byte, high_byte] = code.to_le_bytes();
            let weight = high[usize::from(high_byte)] * low[usize::from(low_byte)];
            sum += weight;
            own += weight * f64::from(code);
            other += weight * f64::from(logit);
        }
        let entropy = sum.ln() + step * own / sum;
        // Of equal distributions rounding can leave a hair less than nothing.
        ((row.log_sum_exp - other / sum - entropy).max(0.0), entropy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(logits: &[f32], target: u32) -> Record {
        Record::of(&Score { index: 0, logits, row: Row::of(logits, 0).unwrap(), target })
    }

    fn compared(p: &[f32], q: &[f32]) -> (f64, f64) {
        record(p, 0).divergence_and_entropy(q, &Row::of(q, 0).unwrap())
    }

    /// `Σ p ln(p / q)` as it is written.
    fn plain(p: &[f32], q: &[f32]) -> f64 {
        let probabilities = |logits: &[f32]| -> Vec<f64> {
            let e: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.into_iter().map(|e| e / sum).collect()
        };
        let terms = probabilities(p).into_iter().zip(probabilities(q));
        terms.filter(|(p, _)| *p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
    }

    #[test]
    fn two_coins_by_hand() {
        // p = (1/2, 1/2), q = (1/4, 3/4): KL = ½ ln 2 + ½ ln ⅔.
        let q = [0.25f32.ln(), 0.75f32.ln()];
        let (found, entropy) = compared(&[0.0, 0.0], &q);
        assert!((found - 0.5 * (4.0f64 / 3.0).ln()).abs() < 1e-6, "{found}");
        assert!((entropy - 2.0f64.ln()).abs() < 1e-9, "{entropy}");
        assert!((record(&[0.0, 0.0], 1).nll - 2.0f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn the_impossible_has_no_weight() {
        // p = (1/2, 0, 1/2), q = (1/3, 1/3, 1/3): KL = ln 3/2.
        let p = [7.0, f32::NEG_INFINITY, 7.0];
        let (found, _) = compared(&p, &[1.0; 3]);
        assert!((found - 1.5f64.ln()).abs() < 1e-6, "{found}");
    }

    proptest! {
        #[test]
        fn divergence_is_that_of_plain_loops(
            rows in prop::collection::vec((-15.0f32..15.0, -2.0f32..2.0), 2..300)
        ) {
            let p: Vec<f32> = rows.iter().map(|(p, _)| *p).collect();
            let q: Vec<f32> = rows.iter().map(|(p, d)| p + d).collect();
            let (found, entropy) = compared(&p, &q);
            let expected = plain(&p, &q);
            // Logits move by 2 at most, so ln(p / q) by no more than 4.
            prop_assert!((found - expected).abs() < 4.0 * LOG_PROB_ERROR, "{found} {expected}");
            prop_assert!((entropy - Row::of(&p, 0).unwrap().entropy(&p)).abs() < 30.0 * LOG_PROB_ERROR);
            prop_assert!(compared(&p, &p).0 < 1e-6);
        }

        #[test]
        fn bytes_give_the_record_back(logits in prop::collection::vec(-50.0f32..50.0, 1..50)) {
            let record = record(&logits, 0);
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            prop_assert_eq!(bytes.len(), Record::n_bytes(logits.len()));
            prop_assert_eq!(Record::read(&bytes), Some(record));
            prop_assert_eq!(Record::read(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(record) = Record::read(&bytes) {
                let logits = vec![0.0; record.codes.len()];
                let (divergence, entropy) = record.divergence_and_entropy(&logits, &Row::of(&logits, 0).unwrap());
                prop_assert!(divergence.is_finite() && entropy.is_finite());
            }
        }
    }
}
