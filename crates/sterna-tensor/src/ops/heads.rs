//! Recurrences whose heads have nothing to do with one another, spread over the threads.

use crate::{Compute, Disjoint};

/// Elements of state times tokens below which waking other threads costs more than it saves.
const MIN_PARALLEL: usize = 1 << 16;

/// Calls `run(head, its state, outputs)` once for each of `n_heads`. `states` are those of all heads, one after the other;
/// `y` is `[n, …]`, of whose rows each head may write columns that are its own.
pub(super) fn for_heads(
    c: &Compute,
    n_heads: usize,
    n: usize,
    states: &mut [f32],
    y: &mut [f32],
    run: impl Fn(usize, &mut [f32], &Disjoint<'_, f32>) + Sync,
) {
    let len = states.len() / n_heads;
    let is_small = n * states.len() < MIN_PARALLEL || c.pool.n_threads() == 1;
    let (states, y) = (Disjoint::new(states), Disjoint::new(y));
    let head = |head: usize| {
        // SAFETY: every head is run once, and its state is nobody else's.
        let state = unsafe { states.slice(head * len..(head + 1) * len) };
        run(head, state, &y);
    };
    match is_small {
        true => (0..n_heads).for_each(head),
        false => c.pool.run(n_heads, |chunk, _| head(chunk)),
    }
}
