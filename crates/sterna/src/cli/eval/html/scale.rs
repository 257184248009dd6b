//! Axes: which part of a plot a value falls on, and where the ticks are.

/// How values are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Linear,
    /// Values are above 0.
    Log,
}

/// An axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    kind: Kind,
    /// Ends, as `position` counts.
    low: f64,
    high: f64,
}

/// Free space at either end, as a share of the range.
const MARGIN: f64 = 0.1;

/// Ticks that an axis has at most.
const MAX_TICKS: usize = 8;

impl Scale {
    /// An axis that shows all of `values`, and a little more. `None` where there are none that it could show.
    pub(super) fn over(kind: Kind, values: impl Iterator<Item = f64>) -> Option<Scale> {
        let shown = values.filter(|value| value.is_finite() && (kind == Kind::Linear || *value > 0.0));
        let (low, high) = shown
            .map(|value| kind.position(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
        if low > high {
            return None;
        }
        // A single value stands in the middle.
        let range = if high > low { high - low } else { 0.1 * low.abs().max(1.0) };
        Some(Scale { kind, low: low - MARGIN * range, high: high + MARGIN * range })
    }

    /// Where `value` is, from 0 to 1; what is beyond the ends is at them.
    pub(super) fn share(&self, value: f64) -> f64 {
        let at = match self.kind == Kind::Log && value <= 0.0 {
            true => self.low,
            false => self.kind.position(value),
        };
        ((at - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Values with round names, in ascending order.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.kind {
            Kind::Linear => self.linear_ticks(),
            Kind::Log => self.log_ticks(),
        }
    }

    /// Multiples of 1, 2 or 5 times a power of ten, four or more of them.
    fn linear_ticks(&self) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [5.0, 2.0, 1.0].into_iter().map(|n| n * power).find(|step| *step <= rough);
        let step = step.unwrap_or(power);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil();
        let values = (0..2 * MAX_TICKS).map(|i| (first + i as f64) * step);
        values
            .take_while(|value| *value <= self.high)
            .map(|value| (value, format!("{value:.decimals$}")))
            .collect()
    }

    /// 1, 2 and 5 times powers of ten; the powers alone where that would be too many, finer ones where it is too few.
    fn log_ticks(&self) -> Vec<(f64, String)> {
        let inside = |digits: &[f64]| -> Vec<f64> {
            let powers = self.low.floor() as i32..=self.high.ceil() as i32;
            let values = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
            values.filter(|value| (self.low..=self.high).contains(&value.log10())).collect()
        };
        let mut values = inside(&[1.0, 2.0, 5.0]);
        if values.len() > MAX_TICKS {
            values = inside(&[1.0]);
        } else if values.len() < 3 {
            values = inside(&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        }
        // As many decimals as the first two digits take, and no zeros behind them.
        let name = |value: f64| {
            let decimals = (1.0 - value.log10().floor()).clamp(0.0, 9.0) as usize;
            let text = format!("{value:.decimals$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        };
        values.into_iter().map(|value| (value, name(value))).collect()
    }
}

impl Kind {
    fn position(self, value: f64) -> f64 {
        match self {
            Kind::Linear => value,
            Kind::Log => value.log10(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scale: Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_have_round_names() {
        let linear = |values: &[f64]| names(Scale::over(Kind::Linear, values.iter().copied()).unwrap());
        assert_eq!(linear(&[3.0, 6.5]), ["3", "4", "5", "6"]);
        assert_eq!(linear(&[100.0, 240.0]), ["100", "120", "140", "160", "180", "200", "220", "240"]);
        let log = |values: &[f64]| names(Scale::over(Kind::Log, values.iter().copied()).unwrap());
        assert_eq!(log(&[0.003, 0.24]), ["0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2"]);
        assert_eq!(log(&[1e-6, 10.0]), ["0.000001", "0.00001", "0.0001", "0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(log(&[0.21, 0.29]), ["0.25"]);
    }

    #[test]
    fn one_value_stands_in_the_middle() {
        for kind in [Kind::Linear, Kind::Log] {
            let scale = Scale::over(kind, [0.2].into_iter()).unwrap();
            assert!((scale.share(0.2) - 0.5).abs() < 1e-9);
            assert!(!scale.ticks().is_empty());
        }
    }

    #[test]
    fn what_cannot_be_shown_does_not_count() {
        assert_eq!(Scale::over(Kind::Log, [0.0, -1.0, f64::NAN].into_iter()), None);
        let scale = Scale::over(Kind::Log, [0.0, 0.1, 1.0].into_iter()).unwrap();
        assert_eq!((scale.share(0.0), scale.share(1e9)), (0.0, 1.0));
    }
}
