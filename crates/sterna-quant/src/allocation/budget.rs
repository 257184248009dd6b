//! The best choices under a budget of bytes.

use super::{Choice, Unit};

/// The bytes of all units where each takes its smallest choice.
pub fn smallest(units: &[Unit]) -> u64 {
    units.iter().filter_map(|unit| unit.choices.iter().map(|choice| choice.n_bytes).min()).sum()
}

/// A choice for each unit, such that they take at most `budget` bytes and cost little: steps along the lower convex
/// hull of each unit's choices, the steps that save most a byte first. No other choices of as many bytes cost less; of
/// the last bytes, too few for the next step, some are spent on later ones. `None` where not even the smallest fit.
pub fn allocate(units: &[Unit], budget: u64) -> Option<Vec<Choice>> {
    let hulls: Vec<Vec<Choice>> = units.iter().map(|unit| hull(&unit.choices)).collect();
    let mut steps: Vec<(usize, Choice, f64)> = Vec::new();
    for (unit, hull) in hulls.iter().enumerate() {
        steps.extend(hull.windows(2).map(|pair| (unit, pair[1], gain(pair[0], pair[1]))));
    }
    // Stable: the steps of one unit stay in order, since each gains less than the one before.
    steps.sort_by(|(.., a), (.., b)| b.total_cmp(a));
    let mut chosen: Vec<Choice> = hulls.iter().map(|hull| hull.first().copied()).collect::<Option<_>>()?;
    let mut left = budget.checked_sub(chosen.iter().map(|choice| choice.n_bytes).sum())?;
    let mut stopped = vec![false; units.len()];
    for (unit, choice, _) in steps {
        let more = choice.n_bytes - chosen[unit].n_bytes;
        if !stopped[unit] && more <= left {
            left -= more;
            chosen[unit] = choice;
        } else {
            stopped[unit] = true;
        }
    }
    Some(chosen)
}

/// What the step from one choice to the next larger saves a byte.
fn gain(from: Choice, to: Choice) -> f64 {
    (from.cost - to.cost) / (to.n_bytes - from.n_bytes) as f64
}

/// The choices that are the best for some price of a byte, from small to large.
fn hull(choices: &[Choice]) -> Vec<Choice> {
    let mut sorted = choices.to_vec();
    sorted.sort_by(|a, b| a.n_bytes.cmp(&b.n_bytes).then(a.cost.total_cmp(&b.cost)));
    let mut hull: Vec<Choice> = Vec::new();
    for choice in sorted {
        if hull.last().is_some_and(|last| choice.cost >= last.cost) {
            continue;
        }
        while let [.., before, last] = hull[..]
            && gain(before, last) <= gain(last, choice)
        {
            hull.pop();
        }
        hull.push(choice);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::usual_grids;
    use proptest::prelude::*;

    fn unit(choices: &[(u64, f64)]) -> Unit {
        let grid = usual_grids()[0];
        let choices = choices.iter().map(|&(n_bytes, cost)| Choice { grid, n_bytes, cost }).collect();
        Unit { pattern: String::new(), choices }
    }

    fn total(chosen: &[Choice]) -> (u64, f64) {
        (chosen.iter().map(|choice| choice.n_bytes).sum(), chosen.iter().map(|choice| choice.cost).sum())
    }

    #[test]
    fn bytes_go_where_they_save_most() {
        let units = [unit(&[(10, 8.0), (20, 1.0)]), unit(&[(10, 2.0), (20, 1.5), (30, 0.0)])];
        let of = |budget| allocate(&units, budget).map(|chosen| total(&chosen));
        assert_eq!(smallest(&units), 20);
        assert_eq!(of(19), None);
        assert_eq!(of(20), Some((20, 10.0)));
        assert_eq!(of(35), Some((30, 3.0)));
        // The middle choice of the second unit lies above the line from the first to the last.
        assert_eq!(of(49), Some((30, 3.0)));
        assert_eq!(of(50), Some((50, 1.0)));
    }

    proptest! {
        #[test]
        fn no_other_choice_of_as_many_bytes_costs_less(
            units in prop::collection::vec(prop::collection::vec((1u64..50, 0.0f64..10.0), 1..5), 1..5),
            budget in 0u64..200,
        ) {
            let units: Vec<Unit> = units.iter().map(|choices| unit(choices)).collect();
            match allocate(&units, budget) {
                None => prop_assert!(budget < smallest(&units)),
                Some(chosen) => {
                    prop_assert!(total(&chosen).0 <= budget);
                    // With what it spends as the budget, it can be beaten only by the part of a step.
                    let mut every = vec![(0, 0.0)];
                    for unit in &units {
                        let with = |&(bytes, cost): &(u64, f64)| {
                            unit.choices.iter().map(move |choice| (bytes + choice.n_bytes, cost + choice.cost))
                        };
                        every = every.iter().flat_map(with).collect();
                    }
                    let best = every.iter().filter(|(bytes, _)| *bytes <= budget).map(|(_, cost)| *cost);
                    let best = best.fold(f64::INFINITY, f64::min);
                    let largest_step = units.iter().map(|unit| {
                        let costs = unit.choices.iter().map(|choice| choice.cost);
                        costs.clone().fold(0.0, f64::max) - costs.fold(f64::INFINITY, f64::min)
                    });
                    prop_assert!(total(&chosen).1 <= best + largest_step.fold(0.0, f64::max) + 1e-9);
                }
            }
        }
    }
}
