//! What a change of the network does to its predictions.

use sterna_tensor::Pool;

use crate::error::{QuantError, Result};
use crate::eval::row::{Row, divergence};

/// Tokens whose logits are in memory at a time: enough that reading the head does not set the pace.
pub(crate) const TOKENS: usize = 48;

/// Sums over tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Differences {
    /// Divergence of the predictions from the true ones, in nats.
    pub(crate) divergence: f64,
    /// Tokens whose likeliest successor is still the same.
    pub(crate) same_top: usize,
    pub(crate) n_tokens: usize,
}

impl Differences {
    /// Adds those between the `logits` `[n, vocab_size]` and `other` ones of the same tokens.
    pub(crate) fn add(
        &mut self,
        pool: &Pool,
        vocab_size: usize,
        logits: &[f32],
        other: &[f32],
    ) -> Result<()> {
        let mut rows: Vec<Option<(f64, bool)>> = vec![None; logits.len() / vocab_size];
        pool.run_slices(&mut rows, 1, |i, row, _| {
            let [p, q] = [logits, other].map(|logits| &logits[i * vocab_size..][..vocab_size]);
            let of_both = Row::of(p, i).and_then(|of_p| Ok((of_p, Row::of(q, i)?)));
            row[0] = of_both.ok().map(|(of_p, of_q)| (divergence(p, &of_p, q, &of_q), of_p.top == of_q.top));
        });
        for row in rows {
            let not_finite = || QuantError::NotFinite { layer: "output.weight".to_owned(), what: "logits" };
            let (divergence, same_top) = row.ok_or_else(not_finite)?;
            self.divergence += divergence;
            self.same_top += usize::from(same_top);
            self.n_tokens += 1;
        }
        Ok(())
    }
}
