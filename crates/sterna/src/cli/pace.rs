//! How long what is left will take.

use std::time::{Duration, Instant};

/// Steps whose mean counts; of later ones, each weighs as one of so many.
const MEMORY: u32 = 10;

/// The mean time of the last steps, however long ago they were: blocks of a large network take minutes each.
pub(super) struct Pace {
    last: Instant,
    done: usize,
    n_times: u32,
    seconds_per_step: f64,
}

impl Pace {
    /// With `done` steps done, of which the time is not known.
    pub(super) fn new(done: usize, now: Instant) -> Pace {
        Pace { last: now, done, n_times: 0, seconds_per_step: 0.0 }
    }

    /// `done` steps are done.
    pub(super) fn set(&mut self, done: usize, now: Instant) {
        let Some(n_steps) = done.checked_sub(self.done).filter(|&n| n > 0) else { return };
        let seconds = now.duration_since(self.last).as_secs_f64() / n_steps as f64;
        self.n_times = (self.n_times + 1).min(MEMORY);
        self.seconds_per_step += (seconds - self.seconds_per_step) / f64::from(self.n_times);
        (self.last, self.done) = (now, done);
    }

    /// What the steps up to `total` will take; `None` before the first is known.
    pub(super) fn left(&self, total: usize) -> Option<Duration> {
        let n_left = total.saturating_sub(self.done) as f64;
        let is_known = self.n_times > 0;
        is_known.then(|| Duration::try_from_secs_f64(self.seconds_per_step * n_left).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn slow_steps_are_not_forgotten_and_quick_ones_do_not_count_for_long() {
        let start = Instant::now();
        let mut pace = Pace::new(0, start);
        assert_eq!(pace.left(30), None);
        pace.set(1, start + MINUTE);
        assert_eq!(pace.left(30), Some(29 * MINUTE));
        pace.set(3, start + 3 * MINUTE);
        assert_eq!(pace.left(30), Some(27 * MINUTE));
        pace.set(3, start + 100 * MINUTE);
        assert_eq!(pace.left(30), Some(27 * MINUTE), "nothing new is done");

        // What an earlier run did is passed over at once.
        let mut pace = Pace::new(0, start);
        (1..=10).for_each(|done| pace.set(done, start));
        (11..=40).for_each(|done| pace.set(done, start + (done - 10) as u32 * MINUTE));
        let left = pace.left(50).unwrap();
        assert!(left > 9 * MINUTE && left <= 10 * MINUTE, "{left:?}");
    }
}
