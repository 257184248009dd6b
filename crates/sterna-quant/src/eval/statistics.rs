//! Figures with their errors, from the numbers of single predictions or answers.
//!
//! Predictions count as independent, as in llama-perplexity and lm-eval; those of one window are not quite, so errors
//! are a little too small. What is paired stays paired: two models that stumble over the same token do not make their
//! ratio uncertain.

use serde::{Deserialize, Serialize};

/// Standard errors to either side of a 95 % interval.
const Z_95: f64 = 1.959_964;

/// A figure and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// A ratio and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The ratio.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Ratio {
    fn of_logarithm(mean: f64, standard_error: f64) -> Ratio {
        let at = |errors: f64| (mean + errors * standard_error).exp();
        Ratio { value: at(0.0), low: at(-Z_95), high: at(Z_95) }
    }

    /// One over it.
    #[must_use]
    pub fn inverse(self) -> Ratio {
        Ratio { value: 1.0 / self.value, low: 1.0 / self.high, high: 1.0 / self.low }
    }
}

/// The mean, with standard error `s / √n`; that of a single value is 0.
pub fn mean(values: &[f64]) -> Estimate {
    let n = values.len().max(1) as f64;
    let value = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    Estimate { value, standard_error: (squares / (n - 1.0).max(1.0) / n).sqrt() }
}

/// `e^mean` of negative log-likelihoods in nats; the error is that of the mean, carried through the exponential.
pub fn perplexity(nlls: &[f64]) -> Estimate {
    let Estimate { value, standard_error } = mean(nlls);
    Estimate { value: value.exp(), standard_error: value.exp() * standard_error }
}

/// `PPL(a) / PPL(b)` over the same predictions, in the same order.
pub fn perplexity_ratio(a: &[f64], b: &[f64]) -> Ratio {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let Estimate { value, standard_error } = mean(&differences);
    Ratio::of_logarithm(value, standard_error)
}

/// `mean(a) / mean(b)` over the same items, in the same order, by the delta method on its logarithm. `None` where either
/// mean is not above 0.
pub fn mean_ratio(a: &[f64], b: &[f64]) -> Option<Ratio> {
    let (mean_a, mean_b) = (mean(a).value, mean(b).value);
    if !(mean_a > 0.0 && mean_b > 0.0) {
        return None;
    }
    let relative: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / mean_a - b / mean_b).collect();
    Some(Ratio::of_logarithm((mean_a / mean_b).ln(), mean(&relative).standard_error))
}

/// The `fraction` quantile of values in ascending order, between two of them in proportion; NaN of none.
pub fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = fraction.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-5 * expected.abs().max(1e-9), "{found} for {expected}");
    }

    #[test]
    fn means_by_hand() {
        // Deviations -2, 0, 2: s = 2, s / √3.
        let estimate = mean(&[1.0, 3.0, 5.0]);
        close(estimate.value, 3.0);
        close(estimate.standard_error, 2.0 / 3.0f64.sqrt());
        assert_eq!(mean(&[4.0]), Estimate { value: 4.0, standard_error: 0.0 });
        // 3 of 4: √(p (1 - p) / (n - 1)).
        close(mean(&[1.0, 1.0, 0.0, 1.0]).standard_error, (0.75f64 * 0.25 / 3.0).sqrt());
    }

    #[test]
    fn a_coin_has_perplexity_2() {
        let estimate = perplexity(&[2.0f64.ln(); 10]);
        close(estimate.value, 2.0);
        assert!(estimate.standard_error < 1e-9);
        close(perplexity(&[0.0, 2.0]).value, std::f64::consts::E);
        close(perplexity(&[0.0, 2.0]).standard_error, std::f64::consts::E);
    }

    #[test]
    fn paired_ratios_do_not_see_what_is_shared() {
        let ratio = perplexity_ratio(&[1.1, 5.1, 9.1], &[1.0, 5.0, 9.0]);
        close(ratio.value, 0.1f64.exp());
        close(ratio.low, ratio.high);
        // Differences 0 and 0.2: mean 0.1, error 0.1.
        let ratio = perplexity_ratio(&[1.0, 5.2], &[1.0, 5.0]);
        close(ratio.low, (0.1 - 0.1959964f64).exp());
        close(ratio.inverse().high, (0.0959964f64).exp());
    }

    #[test]
    fn ratios_of_means_by_the_delta_method() {
        let same = mean_ratio(&[1.0, 0.0, 1.0], &[1.0, 0.0, 1.0]).unwrap();
        assert_eq!((same.value, same.low, same.high), (1.0, 1.0, 1.0));
        // Relative values (2, 0) and (1, 1): differences 1 and -1, error 1.
        let ratio = mean_ratio(&[1.0, 0.0], &[1.0, 1.0]).unwrap();
        close(ratio.value, 0.5);
        close(ratio.high, 0.5 * 1.959_964f64.exp());
        assert_eq!(mean_ratio(&[0.0, 0.0], &[1.0, 0.0]), None);
        assert_eq!(mean_ratio(&[], &[]), None);
    }

    #[test]
    fn quantiles_lie_between_values() {
        let sorted = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(quantile(&sorted, 0.5), 1.5);
        assert_eq!(quantile(&sorted, 0.0), 0.0);
        assert_eq!(quantile(&sorted, 1.0), 3.0);
        close(quantile(&sorted, 0.99), 2.97);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
