//! What quantizing cost, as the file that was made says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sterna_quant::Cost;

/// As far as it is known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Quality {
    /// On text that nothing was fitted to.
    pub(super) held_out: Option<Cost>,
    /// By layer, the error of its output on calibration text relative to the output: of mean squares.
    pub(super) layers: BTreeMap<String, f64>,
}

impl Quality {
    /// In a few lines, for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(Cost { divergence, same_top, n_tokens }) = self.held_out {
            let same_top = 100.0 * same_top;
            lines.push(format!(
                "divergence {divergence:.4} nats, same top token {same_top:.1} %, on {n_tokens} tokens held out"
            ));
        }
        let mut errors: Vec<(&str, f64)> =
            self.layers.iter().map(|(name, error)| (name.as_str(), *error)).collect();
        errors.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        if let (Some((_, median)), Some((name, most))) = (errors.get(errors.len() / 2), errors.last()) {
            lines.push(format!(
                "layers lose {} of their outputs' power (median), at most {}: {name}",
                percent(*median),
                percent(*most)
            ));
        }
        lines
    }
}

/// A share of two digits that count.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let digits = if percent > 0.0 { (1.0 - percent.log10().floor()).clamp(0.0, 6.0) } else { 0.0 };
    format!("{percent:.0$} %", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_two_digits() {
        let of = |share| percent(share);
        assert_eq!(
            [of(0.0), of(0.0032), of(0.123), of(1.5), of(4.56e-6)],
            ["0 %", "0.32 %", "12 %", "150 %", "0.00046 %"]
        );
    }

    #[test]
    fn what_is_known_is_said() {
        assert!(Quality::default().lines().is_empty());
        let layers = [("a", 0.5), ("b", 0.25), ("c", 0.125)].map(|(name, error)| (name.to_owned(), error));
        let held_out = Some(Cost { divergence: 0.25, same_top: 0.5, n_tokens: 512 });
        let lines = Quality { held_out, layers: layers.into() }.lines();
        assert_eq!(
            lines,
            [
                "divergence 0.2500 nats, same top token 50.0 %, on 512 tokens held out",
                "layers lose 25 % of their outputs' power (median), at most 50 %: a",
            ]
        );
    }
}
