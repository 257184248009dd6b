//! What the thread pool costs, and what a busy neighbour does to it: the numbers of `docs/threads.md`.
//!
//! `cargo run --release -p sterna-tensor --example threads`

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use sterna_tensor::Pool;

/// Like a decode step of a small model: regions per token, and chunks and bytes per region.
const REGIONS: usize = 150;
const CHUNKS: usize = 16;
const CHUNK_BYTES: usize = 32 << 10;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("busy") {
        loop {
            std::hint::spin_loop();
        }
    }
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{n_cores} cores");
    for n_threads in [1, 2, n_cores, 4 * n_cores] {
        println!("empty region, {n_threads} threads: {:.2} us", empty_region(&Pool::new(n_threads)));
    }
    println!("empty region, workers asleep: {:.2} us", region_after_a_nap(&Pool::new(n_cores)));

    let weights = vec![1u64; CHUNKS * CHUNK_BYTES * 8];
    let alone = tokens_per_second(&Pool::new(1), &weights);
    let together = tokens_per_second(&Pool::new(n_cores), &weights);
    println!("decode: 1 thread {alone:.0} tok/s, {n_cores} threads {together:.0} tok/s");
    let Some(busy) = Neighbour::start() else { return println!("no busy neighbour could be started") };
    let alone = tokens_per_second(&Pool::new(1), &weights);
    let together = tokens_per_second(&Pool::new(n_cores), &weights);
    drop(busy);
    println!("with one core busy: 1 thread {alone:.0} tok/s, {n_cores} threads {together:.0} tok/s");
}

/// Microseconds.
fn empty_region(pool: &Pool) -> f64 {
    let n = 100_000;
    let start = Instant::now();
    (0..n).for_each(|_| pool.run(pool.n_threads(), |_, _| ()));
    start.elapsed().as_secs_f64() * 1e6 / f64::from(n)
}

/// Microseconds.
fn region_after_a_nap(pool: &Pool) -> f64 {
    let n = 200;
    let mut total = Duration::ZERO;
    for _ in 0..n {
        std::thread::sleep(Duration::from_millis(1));
        let start = Instant::now();
        pool.run(pool.n_threads(), |_, _| ());
        total += start.elapsed();
    }
    total.as_secs_f64() * 1e6 / f64::from(n)
}

/// Passes of [`REGIONS`] regions that each sum a part of `weights`, for two seconds.
fn tokens_per_second(pool: &Pool, weights: &[u64]) -> f64 {
    let start = Instant::now();
    let mut n_tokens = 0;
    while start.elapsed() < Duration::from_secs(2) {
        for region in 0..REGIONS {
            pool.run(CHUNKS, |chunk, _| {
                let n = CHUNK_BYTES / size_of::<u64>();
                let first = (region * CHUNKS + chunk) * n % (weights.len() - n);
                std::hint::black_box(weights[first..first + n].iter().sum::<u64>());
            });
        }
        n_tokens += 1;
    }
    f64::from(n_tokens) / start.elapsed().as_secs_f64()
}

/// Another process that never gives its core away.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Option<Neighbour> {
        let program = std::env::current_exe().ok()?;
        Command::new(program).arg("busy").spawn().ok().map(Neighbour)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have been ended by someone else; then there is nothing left to do.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}
