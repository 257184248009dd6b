//! Which chunk a claim is worth, where threads should go through memory in order.
//!
//! A processor fetches ahead of a thread that reads on and on, and begins anew wherever the next chunk lies elsewhere. So the chunks
//! are cut into a span for each thread, which takes them from its front; who finds the own span empty takes one from the back of
//! another's. A claim ([`super::region`]) still is what entitles to a chunk, and there are as many chunks as claims:
//!
//! * A chunk never moves from one span to another, and a span that is empty stays so until the region ends.
//! * So a thread with a claim, which looks into one span after the other, finds a chunk in the last one if in none before:
//!   at every instant as many are left as there are claims without one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::region::Padded;

/// A span for each thread: the first chunk that is left in the upper half, the one after the last in the lower.
pub(super) struct Spans(Vec<Padded<AtomicU64>>);

impl Spans {
    pub(super) fn new(n_threads: usize) -> Spans {
        Spans((0..n_threads).map(|_| Padded(AtomicU64::new(0))).collect())
    }

    /// Cuts `n_chunks` chunks for the first `n_threads` threads. Nobody may hold a claim.
    pub(super) fn cut(&self, n_chunks: u32, n_threads: usize) {
        let n_threads = n_threads.clamp(1, self.0.len()) as u64;
        let start = |thread: u64| u64::from(n_chunks) * thread.min(n_threads) / n_threads;
        for (thread, span) in self.0.iter().enumerate() {
            let thread = thread as u64;
            // Published by the store that opens the region.
            span.0.store(start(thread) << 32 | start(thread + 1), Ordering::Relaxed);
        }
    }

    /// The next chunk of the thread `worker`, which holds a claim.
    pub(super) fn take(&self, worker: usize) -> usize {
        let (others, own) = self.0.split_at(worker.min(self.0.len() - 1));
        let mut next = own.iter().chain(others).enumerate();
        let found = next.find_map(|(i, span)| if i == 0 { first_of(span) } else { last_of(span) });
        found.unwrap_or_else(|| unreachable!("a claim without a chunk"))
    }
}

fn first_of(span: &Padded<AtomicU64>) -> Option<usize> {
    let rest = |span: u64| (span >> 32 < span & 0xffff_ffff).then(|| span + (1 << 32));
    span.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).ok().map(|span| (span >> 32) as usize)
}

fn last_of(span: &Padded<AtomicU64>) -> Option<usize> {
    let rest = |span: u64| (span >> 32 < span & 0xffff_ffff).then(|| span - 1);
    span.0
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest)
        .ok()
        .map(|span| (span as u32 - 1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_taken_once() {
        for (n_chunks, n_threads) in [(1, 4), (7, 3), (16, 2), (5, 1), (3, 9)] {
            let spans = Spans::new(4);
            spans.cut(n_chunks, n_threads);
            let mut taken: Vec<usize> =
                (0..n_chunks as usize).map(|claim| spans.take(claim * 5 % 4)).collect();
            taken.sort_unstable();
            assert_eq!(taken, (0..n_chunks as usize).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_thread_goes_through_its_span_and_then_takes_from_the_back() {
        let spans = Spans::new(2);
        spans.cut(8, 2);
        assert_eq!([0, 0, 1, 0, 0, 0, 1, 1].map(|worker| spans.take(worker)), [0, 1, 4, 2, 3, 7, 5, 6]);
    }
}
