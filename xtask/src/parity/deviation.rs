//! How far computed logits are from the reference.

use serde::Serialize;

/// Differences between rows of computed numbers and the recorded ones, summed up row by row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deviation {
    /// Largest |Δ|; infinite when a computed number is not finite.
    pub(crate) max_abs: f64,
    sum_sq: f64,
    sum_sq_reference: f64,
    n_values: usize,
    n_rows: usize,
    n_agreeing: usize,
}

/// The figures of a [`Deviation`].
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figures {
    /// Largest |Δ|.
    pub(crate) max_abs: f64,
    /// Root of the mean of Δ².
    pub(crate) rms: f64,
    /// ‖Δ‖ / ‖reference‖.
    pub(crate) relative: f64,
    /// Share of rows whose largest entry is at the same index.
    pub(crate) top1: f64,
}

impl Deviation {
    /// The deviation of the rows `computed` from `reference`, both `[n, width]`.
    pub(crate) fn of(computed: &[f32], reference: &[f32], width: usize) -> Deviation {
        let mut deviation = Deviation::default();
        for (computed, reference) in computed.chunks_exact(width).zip(reference.chunks_exact(width)) {
            deviation.add_row(computed, reference);
        }
        deviation
    }

    /// Counts one row.
    pub(crate) fn add_row(&mut self, computed: &[f32], reference: &[f32]) {
        for (&computed, &reference) in computed.iter().zip(reference) {
            let delta = f64::from(computed) - f64::from(reference);
            let delta = if delta.is_finite() { delta } else { f64::INFINITY };
            self.max_abs = self.max_abs.max(delta.abs());
            self.sum_sq += delta * delta;
            self.sum_sq_reference += f64::from(reference) * f64::from(reference);
        }
        self.n_values += computed.len();
        self.n_rows += 1;
        self.n_agreeing += usize::from(argmax(computed) == argmax(reference));
    }

    /// The sums as figures.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            max_abs: self.max_abs,
            rms: (self.sum_sq / self.n_values.max(1) as f64).sqrt(),
            relative: (self.sum_sq / self.sum_sq_reference.max(f64::MIN_POSITIVE)).sqrt(),
            top1: self.n_agreeing as f64 / self.n_rows.max(1) as f64,
        }
    }
}

/// Index of the largest number, the first of equals.
pub(crate) fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

/// How far the largest number of `row` is above the second.
pub(crate) fn margin(row: &[f32]) -> f64 {
    let best = argmax(row);
    let others = row.iter().enumerate().filter(|&(index, _)| index != best);
    let second = others.map(|(_, &value)| value).fold(f32::NEG_INFINITY, f32::max);
    f64::from(row[best]) - f64::from(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_known_rows() {
        let figures = Deviation::of(&[1.0, 2.0, 3.0, 0.0], &[1.0, 2.5, 3.0, 4.0], 2).figures();
        assert_eq!(figures.max_abs, 4.0);
        assert!((figures.rms - (16.25f64 / 4.0).sqrt()).abs() < 1e-12);
        assert_eq!(figures.top1, 0.5);
        assert_eq!(margin(&[1.0, 5.0, 4.5]), 0.5);
    }

    #[test]
    fn what_is_not_finite_deviates_without_end() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(Deviation::of(&[bad], &[1.0], 1).max_abs, f64::INFINITY);
        }
    }
}
