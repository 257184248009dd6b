//! What passes of a few tokens cost, as measured, and which number of guesses makes most of them.
//!
//! The unit is the pass of one token. A pass of `1 + k` tokens whose guesses come true with probabilities `a1, a2, …` yields
//! `1 + a1 + a1·a2 + …` tokens (Leviathan et al., 2023, §3.1, with a probability for each guess); `k` is chosen so that
//! tokens per time are most.

use std::time::Duration;

use super::MAX_VERIFIED;

/// Share of a new measurement in a running mean.
const FRESH: f64 = 0.2;
/// A measurement counts as at most so many times what was expected: a core that was taken away for a moment says nothing.
const OUTLIER: f64 = 1.5;
/// What another token adds to a pass, before anything is measured.
const USUAL_SLOPE: f64 = 0.2;
/// A choice must promise so much more than plain decoding to be made.
const LEAST_GAIN: f64 = 1.05;
/// Share of all time that may be lost on guesses that did not pay.
const MAX_LOSS: f64 = 0.01;
/// Passes that may be lost before there is any time to speak of.
const FIRST_LOSS: f64 = 1.0;

/// Running means of the times of passes, and what guessing has won or lost so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Costs {
    /// Seconds of a pass of one token.
    single: Option<f64>,
    /// Of a pass of `i + 1` tokens, in passes of one.
    relative: [Option<f64>; MAX_VERIFIED],
    /// Seconds that a prompt takes per token.
    prompt: Option<f64>,
    /// Passes of one token that would have taken all the time so far.
    total: f64,
    /// How many of them went to guesses without a return.
    lost: f64,
}

impl Costs {
    /// `n` tokens of a prompt took `time`.
    pub(super) fn measure_prompt(&mut self, n: usize, time: Duration) {
        // Of a few tokens, most of the time is that of one.
        if n >= 4 * MAX_VERIFIED {
            self.prompt = Some(time.as_secs_f64() / n as f64);
        }
    }

    /// A pass of `n` tokens took `time` after guesses that took `effort`, and yielded `n_drawn`.
    pub(super) fn measure(&mut self, n: usize, effort: Duration, time: Duration, n_drawn: usize) {
        let seconds = time.as_secs_f64();
        if n == 1 {
            mean(&mut self.single, seconds);
        }
        let Some(single) = self.single.filter(|single| *single > 0.0) else { return };
        if n > 1 {
            mean(&mut self.relative[n - 1], seconds / single);
        }
        let with_effort = (seconds + effort.as_secs_f64()) / single;
        if n > 1 || !effort.is_zero() {
            self.lost = (self.lost + with_effort - n_drawn as f64).max(0.0);
        }
        self.total += with_effort;
    }

    /// Whether guesses may be made at all: passes of one token have been measured, and not too much was lost on guesses.
    pub(super) fn allow_guesses(&self) -> bool {
        self.single.is_some() && self.lost <= FIRST_LOSS + MAX_LOSS * self.total
    }

    /// Whether little enough was lost to try again what did not pay.
    pub(super) fn allow_trial(&self) -> bool {
        self.single.is_some() && self.lost <= 0.5 * MAX_LOSS * self.total
    }

    /// The time of a pass of `n` tokens in passes of one: what was measured, or what its neighbours say.
    pub(super) fn relative(&self, n: usize) -> f64 {
        if n <= 1 {
            return 1.0;
        }
        if let Some(measured) = self.relative[n - 1] {
            return measured;
        }
        let known = |m: &usize| self.relative[m - 1].map(|cost| (*m, cost));
        let (below, cost) = (2..n).rev().find_map(|m| known(&m)).unwrap_or((1, 1.0));
        let slope = match (self.prompt, self.single) {
            (Some(prompt), Some(single)) if single > 0.0 => (prompt / single).min(1.0),
            _ if below > 1 => (cost - 1.0).max(0.0) / (below - 1) as f64,
            _ => USUAL_SLOPE,
        };
        let guess = cost + slope * (n - below) as f64;
        let above = (n + 1..=MAX_VERIFIED).find_map(|m| known(&m));
        above.map_or(guess, |(_, above)| guess.min(above.max(cost)))
    }

    /// How many guesses to have checked, at most `most`, when guess `i` comes true with probability `acceptance(i)` if those
    /// before it do, and making it costs `effort` passes of one token. 0 where plain decoding is about as fast.
    pub(super) fn best_count(&self, most: usize, effort: f64, acceptance: impl Fn(usize) -> f64) -> usize {
        let (mut best, mut most_gain) = (0, LEAST_GAIN);
        let (mut all_true, mut yielded) = (1.0, 1.0);
        for count in 1..=most.min(MAX_VERIFIED - 1) {
            all_true *= acceptance(count - 1);
            yielded += all_true;
            let gain = yielded / (self.relative(count + 1) + effort * count as f64);
            if gain > most_gain {
                (best, most_gain) = (count, gain);
            }
        }
        best
    }

    /// Seconds of a pass of one token.
    pub(super) fn single(&self) -> Option<f64> {
        self.single
    }
}

/// Moves a running mean.
pub(super) fn mean(of: &mut Option<f64>, new: f64) {
    *of = Some(match *of {
        Some(old) => old + FRESH * (new.min(OUTLIER * old) - old),
        None => new,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a pass of `n` tokens takes `1 + slope * (n - 1)` of 10 ms.
    fn costs(slope: f64, measured: &[usize]) -> Costs {
        let mut costs = Costs::default();
        for &n in [1].iter().chain(measured) {
            let time = Duration::from_secs_f64(0.01 * (1.0 + slope * (n - 1) as f64));
            (0..5).for_each(|_| costs.measure(n, Duration::ZERO, time, n));
        }
        costs
    }

    #[test]
    fn likely_guesses_are_many_and_unlikely_ones_none() {
        let costs = costs(0.1, &[2, 16]);
        assert!(costs.allow_guesses());
        let count = |p: f64| costs.best_count(15, 0.0, |_| p);
        assert_eq!(count(1.0), 15);
        assert!((2..10).contains(&count(0.7)), "{}", count(0.7));
        assert_eq!(count(0.05), 0);
        assert_eq!(costs.best_count(3, 0.0, |_| 1.0), 3);
        assert_eq!(costs.best_count(15, 2.0, |_| 0.9), 0, "guesses that cost more than they save");
    }

    #[test]
    fn a_pass_that_costs_as_much_as_its_tokens_is_never_made() {
        let costs = costs(1.0, &[2]);
        assert_eq!(costs.best_count(15, 0.0, |_| 0.99), 0);
    }

    #[test]
    fn what_was_not_measured_lies_between_its_neighbours() {
        let mut costs = costs(0.1, &[4, 8]);
        assert!((1.3..=1.7).contains(&costs.relative(6)));
        assert!(costs.relative(16) > 1.7);
        costs.measure_prompt(512, Duration::from_millis(512 * 3));
        assert!((costs.relative(16) - (1.7 + 8.0 * 0.3)).abs() < 0.01, "a prompt shows what tokens add");
    }

    #[test]
    fn losses_end_the_guessing_until_they_are_a_small_share() {
        let mut costs = costs(0.0, &[]);
        let pass = |costs: &mut Costs, n, ms| costs.measure(n, Duration::ZERO, Duration::from_millis(ms), 1);
        (0..3).for_each(|_| pass(&mut costs, 2, 16));
        assert!(!costs.allow_guesses());
        (0..100).for_each(|_| pass(&mut costs, 1, 10));
        assert!(costs.allow_guesses() && !costs.allow_trial());
    }

    #[test]
    fn one_slow_pass_says_little() {
        let mut costs = costs(0.1, &[2]);
        costs.measure(2, Duration::ZERO, Duration::from_millis(500), 1);
        assert!(costs.relative(2) < 1.25);
    }
}
