//! Recurrences as they were earlier in a sequence: what it can go back to without reading all of it again.

use super::mixer::MixerState;
use super::recurrent::Recurrent;

/// Most bytes of snapshots, but for the last, which is always kept.
const MAX_BYTES: usize = 128 << 20;

/// Snapshots of the mixers of one sequence, shortest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshots {
    kept: Vec<Snapshot>,
}

/// All recurrences after some tokens.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// The tokens.
    pub(super) length: usize,
    /// For each mixer.
    pub(super) states: Vec<Option<Recurrent>>,
    n_bytes: usize,
}

impl Snapshot {
    /// `states` after `length` tokens.
    pub(super) fn new(length: usize, states: Vec<Option<Recurrent>>) -> Snapshot {
        let n_bytes = states.iter().flatten().map(Recurrent::n_bytes).sum();
        Snapshot { length, states, n_bytes }
    }
}

impl Snapshots {
    /// Shortest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        self.kept.iter()
    }

    /// Keeps what `mixers` are after `length` tokens, the longest sequence so far.
    pub(super) fn take(&mut self, length: usize, mixers: &[MixerState]) {
        if self.kept.last().is_some_and(|last| last.length == length) {
            return;
        }
        let states = mixers.iter().map(|mixer| mixer.recurrent().cloned()).collect();
        self.push(Snapshot::new(length, states));
    }

    /// Keeps `snapshot`, which is longer than all others.
    pub(super) fn push(&mut self, snapshot: Snapshot) {
        self.kept.push(snapshot);
        while self.n_bytes() > MAX_BYTES && self.kept.len() > 1 {
            self.drop_least_useful();
        }
    }

    /// The longest of at most `length` tokens.
    pub(super) fn at_most(&self, length: usize) -> Option<&Snapshot> {
        self.kept.iter().rfind(|snapshot| snapshot.length <= length)
    }

    /// Forgets those of more than `length` tokens.
    pub(super) fn truncate(&mut self, length: usize) {
        self.kept.retain(|snapshot| snapshot.length <= length);
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.kept.iter().map(|snapshot| snapshot.n_bytes).sum()
    }

    /// Without the last: the one without which the gap between its neighbours is smallest.
    fn drop_least_useful(&mut self) {
        let gap = |i: usize| {
            let before = if i == 0 { 0 } else { self.kept[i - 1].length };
            self.kept[i + 1].length - before
        };
        if let Some(least) = (0..self.kept.len() - 1).min_by_key(|&i| gap(i)) {
            self.kept.remove(least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixer::conv::ConvState;

    #[test]
    fn a_budget_thins_out_what_is_close_together_and_keeps_the_last() {
        // A convolution with a long memory: 40 MiB a snapshot, so that three fit.
        let mixer = MixerState::Recurrent(Recurrent::ShortConv(ConvState::new(11, 1 << 20)));
        let mut snapshots = Snapshots::default();
        for length in [100, 110, 900, 1000, 1000] {
            snapshots.take(length, std::slice::from_ref(&mixer));
            assert!(snapshots.n_bytes() <= MAX_BYTES);
        }
        let lengths = |snapshots: &Snapshots| snapshots.kept.iter().map(|it| it.length).collect::<Vec<_>>();
        assert_eq!(lengths(&snapshots), [110, 900, 1000]);
        assert_eq!(snapshots.at_most(999).unwrap().length, 900);
        assert!(snapshots.at_most(109).is_none());
        snapshots.truncate(900);
        assert_eq!(lengths(&snapshots), [110, 900]);
    }
}
