//! The tokens still in the running for one draw, most likely first, and the filters that shorten the list.

use std::cmp::Ordering;

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub token: u32,
    /// Its logit after the repeat penalty.
    pub logit: f32,
    /// Its probability of being drawn; the list sums to 1.
    pub probability: f64,
}

/// Most likely first; equal logits in order of their ids, so that a draw never depends on the sorting algorithm.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// How many candidates are sorted at first when only top-p bounds their number.
const FIRST_SORTED: usize = 256;

/// Every token that has a chance. NaN counts as impossible; +inf as the largest float.
fn possible(logits: &[f32]) -> impl Iterator<Item = Candidate> {
    let candidates = (0u32..).zip(logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY);
    candidates.map(|(token, logit)| Candidate { token, logit: logit.min(f32::MAX), probability: 0.0 })
}

/// The most likely token; 0 if none has a chance, so that a broken model yields a wrong token and not a panic.
pub(super) fn greedy(logits: &[f32]) -> u32 {
    possible(logits).min_by(by_rank).map_or(0, |candidate| candidate.token)
}

/// Fills `list` with the possible tokens, in order of their ids; with token 0 alone if none is possible.
pub(super) fn collect(list: &mut Vec<Candidate>, logits: &[f32]) {
    list.clear();
    list.extend(possible(logits));
    if list.is_empty() {
        list.push(Candidate { token: 0, logit: 0.0, probability: 0.0 });
    }
}

/// Keeps the `k` most likely (0 keeps all), without sorting them.
pub(super) fn top_k(list: &mut Vec<Candidate>, k: usize) {
    if k > 0 && k < list.len() {
        list.select_nth_unstable_by(k - 1, by_rank);
        list.truncate(k);
    }
}

/// Sorts by rank and keeps the smallest prefix whose probability reaches `p` (the nucleus; Holtzman et al., 2020).
/// Always keeps one.
pub(super) fn top_p(list: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 {
        list.sort_unstable_by(by_rank);
        return;
    }
    let max = max_logit(list);
    let total: f64 = list.iter().map(|c| weight(c.logit, max, 1.0)).sum();
    let mut sorted = 0;
    let mut cumulative = 0.0;
    // Sorting a vocabulary of 262,144 to find a nucleus of thirty tokens would cost more than the draw: sort a little,
    // and more only if it was not enough.
    while sorted < list.len() {
        let rest = &mut list[sorted..];
        let step = (7 * sorted).max(FIRST_SORTED).min(rest.len());
        if step < rest.len() {
            rest.select_nth_unstable_by(step - 1, by_rank);
        }
        rest[..step].sort_unstable_by(by_rank);
        for (i, candidate) in rest[..step].iter().enumerate() {
            cumulative += weight(candidate.logit, max, 1.0) / total;
            if cumulative >= f64::from(p) {
                list.truncate(sorted + i + 1);
                return;
            }
        }
        sorted += step;
    }
}

/// Keeps those at least `min_p` times as likely as the most likely one. `list` is sorted.
pub(super) fn min_p(list: &mut Vec<Candidate>, min_p: f32) {
    let max = max_logit(list);
    let kept = list.iter().take_while(|c| weight(c.logit, max, 1.0) >= f64::from(min_p)).count();
    list.truncate(kept.max(1));
}

/// Gives each candidate its share of softmax(logit / temperature).
pub(super) fn softmax(list: &mut [Candidate], temperature: f32) {
    let max = max_logit(list);
    let mut total = 0.0;
    for candidate in list.iter_mut() {
        candidate.probability = weight(candidate.logit, max, temperature);
        total += candidate.probability;
    }
    list.iter_mut().for_each(|candidate| candidate.probability /= total);
}

/// exp((logit - max) / temperature): the unnormalised probability, 1 for the most likely token.
fn weight(logit: f32, max: f32, temperature: f32) -> f64 {
    ((f64::from(logit) - f64::from(max)) / f64::from(temperature)).exp()
}

fn max_logit(list: &[Candidate]) -> f32 {
    list.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
}
