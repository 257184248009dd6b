//! `--tune`: which kernels and how many threads are fastest on this machine, measured and remembered.
//!
//! A choice departs from the usual one only where that is clearly slower: measured by turns, and by more than the noise of a
//! shared machine.

mod kernels;
mod threads;

use std::fs;
use std::io::{Error, ErrorKind};

use anyhow::Context;
use sterna::{Isa, Pool, Tuning, profile_path, this_device, tuning_profile};

use super::super::{own_files, terminal};

/// Rounds in which all candidates are timed by turns.
const ROUNDS: usize = 9;
/// Share of the time that another choice must save.
const LEAST_GAIN: f64 = 0.03;

/// Measures, writes the profile of this machine, and returns what it found for people.
pub(super) fn run() -> anyhow::Result<String> {
    // Whatever STERNA_ISA says: a profile departs from what is used without it.
    let isa = Isa::available().last().copied().unwrap_or(Isa::Scalar);
    let device = this_device();
    let cache =
        own_files::cache().ok_or_else(|| Error::new(ErrorKind::NotFound, "no directory for caches"))?;
    let path = profile_path(&cache, &device);
    let mut tuning = Tuning::default();
    terminal::note("measuring threads");
    let threads = threads::measure(isa, device.cores);
    (tuning.decode_threads, tuning.prefill_threads) = (Some(threads.decode), Some(threads.prefill));
    let pool = Pool::new(threads.prefill);
    let measured = kernels::measure(isa, pool, &mut tuning);
    let json = tuning_profile::to_json(&tuning, &device)?;
    let folder = path.parent().unwrap_or(&cache);
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    own_files::write(&path, json.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(format!("{}\n{}\nwritten to {}\n\n", threads.table, measured, path.display()))
}

/// The median of `values`, of which there is one at least.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Times `candidates` by turns: of each, the median of its time as a share of the first one's, and its least time in seconds.
fn compare(n_candidates: usize, mut time: impl FnMut(usize) -> f64) -> Vec<(f64, f64)> {
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for _ in 0..=ROUNDS {
        rounds.push((0..n_candidates).map(&mut time).collect());
    }
    // The first one warms up.
    let rounds = &rounds[1..];
    let of = |i: usize| {
        let share = median(rounds.iter().map(|round| round[i] / round[0]).collect());
        (share, rounds.iter().map(|round| round[i]).fold(f64::INFINITY, f64::min))
    };
    (0..n_candidates).map(of).collect()
}

/// Which of the candidates of [`compare`] to take: the first unless another is clearly faster.
fn best(compared: &[(f64, f64)]) -> usize {
    let fastest = (0..compared.len()).min_by(|a, b| compared[*a].0.total_cmp(&compared[*b].0)).unwrap_or(0);
    if compared[fastest].0 < 1.0 - LEAST_GAIN { fastest } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_gain_changes_the_choice() {
        let seconds = [[1.0, 0.98, 2.0], [1.0, 0.9, 0.95]];
        let chosen = seconds.map(|seconds| best(&compare(3, |i| seconds[i])));
        assert_eq!(chosen, [0, 1]);
        assert_eq!(compare(2, |i| (i + 1) as f64), [(1.0, 1.0), (2.0, 2.0)]);
    }
}
