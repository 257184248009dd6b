//! How often guesses come true, by what is known of a guess beforehand.

/// Classes of guesses that are told apart.
const CLASSES: usize = 33;
/// How many observations the first estimate weighs as much as.
const PRIOR_WEIGHT: f64 = 4.0;
/// Observations of a class that are remembered in full; then older ones fade, since text changes.
const MEMORY: f64 = 64.0;

/// For each class of guesses, how often those of it came true.
#[derive(Debug, Clone)]
pub(super) struct Acceptance {
    classes: [Class; CLASSES],
}

#[derive(Debug, Clone, Copy)]
struct Class {
    hits: f64,
    trials: f64,
}

impl Acceptance {
    /// Nothing observed; `prior` is the first estimate of each class.
    pub(super) fn new(prior: impl Fn(usize) -> f64) -> Acceptance {
        let class = |i| Class { hits: PRIOR_WEIGHT * prior(i), trials: PRIOR_WEIGHT };
        Acceptance { classes: std::array::from_fn(class) }
    }

    /// A guess of `class` came true or not. Classes beyond the last count as that.
    pub(super) fn observe(&mut self, class: usize, came_true: bool) {
        let class = &mut self.classes[class.min(CLASSES - 1)];
        if class.trials >= MEMORY {
            let fade = 1.0 - 1.0 / MEMORY;
            class.hits *= fade;
            class.trials *= fade;
        }
        class.hits += f64::from(u8::from(came_true));
        class.trials += 1.0;
    }

    /// The share of guesses of `class` that come true, above 0.
    pub(super) fn of(&self, class: usize) -> f64 {
        let Class { hits, trials } = self.classes[class.min(CLASSES - 1)];
        hits / trials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_what_is_observed_and_forget() {
        let mut acceptance = Acceptance::new(|_| 0.5);
        assert_eq!(acceptance.of(3), 0.5);
        (0..40).for_each(|_| acceptance.observe(3, true));
        assert!(acceptance.of(3) > 0.9 && acceptance.of(4) == 0.5);
        (0..200).for_each(|_| acceptance.observe(3, false));
        assert!(acceptance.of(3) < 0.1, "{}", acceptance.of(3));
        acceptance.observe(1000, true);
        assert!(acceptance.of(CLASSES - 1) > 0.5);
    }
}
