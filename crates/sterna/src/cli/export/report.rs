//! What an export did: a line per pair of types, or every tensor as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use sterna_model::export::Written;

use crate::cli::terminal::note;

/// Field names are those of the JSON.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Report {
    pub(in crate::cli) n_bytes: u64,
    /// Whether every value is what it was.
    exact: bool,
    tensors: Vec<TensorReport>,
}

#[derive(Debug, Serialize)]
struct TensorReport {
    name: String,
    shape: Vec<usize>,
    from: String,
    to: String,
    /// Of all values together, relative; 0 where none changed.
    error: f64,
}

impl Report {
    pub(super) fn new(tensors: Vec<Written>, n_bytes: u64) -> Report {
        let tensors: Vec<TensorReport> = tensors
            .into_iter()
            .map(|Written { name, shape, from, to, error }| TensorReport { name, shape, from, to, error })
            .collect();
        Report { n_bytes, exact: tensors.iter().all(|tensor| tensor.error == 0.0), tensors }
    }

    /// Says on stderr how many tensors of which type became what.
    pub(in crate::cli) fn tell(&self) {
        let mut kinds: BTreeMap<(&str, &str), (usize, f64)> = BTreeMap::new();
        for TensorReport { from, to, error, .. } in &self.tensors {
            let (count, worst) = kinds.entry((from, to)).or_default();
            (*count, *worst) = (*count + 1, worst.max(*error));
        }
        for ((from, to), (count, worst)) in kinds {
            let tensors = if count == 1 { "tensor" } else { "tensors" };
            match worst {
                0.0 => note(format_args!("{count} {tensors}: {from} to {to}, exactly")),
                _ => note(format_args!(
                    "{count} {tensors}: {from} to {to}, relative error at most {worst:.1e}"
                )),
            }
        }
    }
}
