//! How fast this machine reads memory: the roof over decoding, which reads every weight once per token.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sterna_tensor::Pool;

/// A smaller buffer would measure a cache.
const MIN_BUFFER_BYTES: usize = 256 << 20;
/// What one worker claims at a time.
const CHUNK_WORDS: usize = (1 << 20) / 8;
const PASSES: usize = 4;

/// Bytes per second read by all threads of the pool together: the best of a few passes over a buffer of `n_bytes`, the
/// size of the weights, so that a cache that holds the weights holds the buffer too.
pub(super) fn read_bandwidth(pool: &Pool, n_bytes: usize) -> f64 {
    // Not zeros: untouched zero pages are one page of memory, many times over.
    let buffer = vec![1u64; n_bytes.max(MIN_BUFFER_BYTES) / 8];
    let chunks: Vec<&[u64]> = buffer.chunks(CHUNK_WORDS).collect();
    let total = AtomicU64::new(0);
    let mut best = 0.0f64;
    for _ in 0..PASSES {
        let start = Instant::now();
        pool.run(chunks.len(), |chunk, _worker| {
            total.fetch_add(sum(chunks[chunk]), Ordering::Relaxed);
        });
        best = best.max(size_of_val(buffer.as_slice()) as f64 / start.elapsed().as_secs_f64());
    }
    std::hint::black_box(total.into_inner());
    best
}

/// Sums in 32 independent lanes, which the compiler turns into vector loads that wait for memory and not for each other.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for group in words.chunks_exact(lanes.len()) {
        for (lane, word) in lanes.iter_mut().zip(group) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        assert_eq!(sum(&vec![3; CHUNK_WORDS]), 3 * CHUNK_WORDS as u64);
    }
}
