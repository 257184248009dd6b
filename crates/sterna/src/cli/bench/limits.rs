//! `--limits`: the roofs that this machine puts over every model, and how near each test came to them.
//!
//! Decoding reads all weights once per token, so it is bound by the level of memory that holds them; prompts are bound by
//! multiply-adds.

use std::fmt::Write;
use std::io;

use serde::Serialize;
use sterna::{Isa, Pool};
use sterna_tensor::limits::{dot_rate, load_rate, multiply_add_rate};

use super::caches::{Cache, caches};
use super::measure::Kind;
use super::report::Row;
use crate::cli::{table, terminal, units};

/// What memory is measured with where no cache is known to be larger.
const LEAST_MEMORY_BYTES: usize = 256 << 20;
/// Most bytes that a measurement takes.
const MOST_MEMORY_BYTES: usize = 2 << 30;
/// The rates of this machine. Field names and units are those of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Limits {
    /// From the first-level cache to memory.
    levels: Vec<Level>,
    /// By number of threads.
    rates: Vec<Rates>,
}

/// A cache, or memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Level {
    name: String,
    /// What it holds; `None` for memory.
    bytes: Option<usize>,
    /// What all threads together were made to read.
    read_bytes: usize,
}

/// Of some threads together.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Rates {
    threads: usize,
    /// 10^9 bytes read per second from each level.
    read_gb_per_second: Vec<f64>,
    /// 10^9 operations per second of int8 dot products.
    int8_gop_per_second: f64,
    /// 10^9 operations per second in f32.
    f32_gop_per_second: f64,
}

/// What a model does for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PerToken {
    pub(super) weight_bytes: u64,
    pub(super) multiply_adds: u64,
    /// Whether activations are; else `f32`.
    pub(super) is_int8: bool,
}

impl Limits {
    pub(super) fn measure(isa: Isa, thread_counts: &[usize]) -> io::Result<Limits> {
        let most_threads = thread_counts.iter().copied().max().unwrap_or(1);
        let levels = levels(&caches(), most_threads);
        let rates = thread_counts.iter().map(|&threads| -> io::Result<Rates> {
            terminal::note(format_args!("measuring limits · {threads} threads"));
            let pool = Pool::new(threads);
            let read =
                levels.iter().map(|level| Ok(load_rate(isa, &pool, level.read_bytes / threads)? / 1e9));
            Ok(Rates {
                threads,
                read_gb_per_second: read.collect::<io::Result<_>>()?,
                int8_gop_per_second: dot_rate(isa, &pool) / 1e9,
                f32_gop_per_second: multiply_add_rate(isa, &pool) / 1e9,
            })
        });
        Ok(Limits { rates: rates.collect::<io::Result<_>>()?, levels })
    }

    /// One row for each limit, one column for each number of threads.
    pub(super) fn markdown(&self) -> String {
        let of_level = |(i, level): (usize, &Level)| {
            let size =
                level.bytes.map_or(String::new(), |bytes| format!(" ({})", units::bytes(bytes as u64)));
            (
                format!("read from {}{size}, GB/s", level.name),
                Box::new(move |rates: &Rates| rates.read_gb_per_second[i]) as Figure,
            )
        };
        let mut figures: Vec<(String, Figure)> = self.levels.iter().enumerate().map(of_level).collect();
        figures.push(("int8 dot products, GOP/s".to_owned(), Box::new(|rates| rates.int8_gop_per_second)));
        figures.push(("f32 multiply-adds, GFLOP/s".to_owned(), Box::new(|rates| rates.f32_gop_per_second)));
        let mut rows = vec![vec!["limit".to_owned()]];
        rows[0].extend(self.rates.iter().map(|rates| match rates.threads {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        }));
        for (name, figure) in figures {
            let cells = self.rates.iter().map(|rates| format!("{:.1}", figure(rates)));
            rows.push([name].into_iter().chain(cells).collect());
        }
        table::markdown(&rows)
    }

    /// One row for each of `tests`, with the rate that nothing could exceed.
    pub(super) fn shares(&self, tests: &[Row], per_token: PerToken) -> String {
        let mut rows = vec![
            ["test", "threads", "t/s", "limit, t/s", "of limit", "bound by"].map(str::to_owned).to_vec(),
        ];
        for row in tests {
            let Some((limit, bound)) = self.limit(row.kind, row.threads, per_token) else { continue };
            rows.push(vec![
                row.test.clone(),
                row.threads.to_string(),
                format!("{:.2}", row.tokens_per_second),
                format!("{limit:.2}"),
                format!("{:.0} %", 100.0 * row.tokens_per_second / limit),
                bound,
            ]);
        }
        let mut text = table::markdown(&rows);
        let _ = writeln!(text, "\nWithout attention and what else grows with the context.");
        text
    }

    /// Tokens per second, and what sets them.
    fn limit(&self, kind: Kind, threads: usize, per_token: PerToken) -> Option<(f64, String)> {
        let rates = self.rates.iter().find(|rates| rates.threads == threads)?;
        if kind == Kind::Prompt {
            let (rate, what) = match per_token.is_int8 {
                true => (rates.int8_gop_per_second, "int8 dot products"),
                false => (rates.f32_gop_per_second, "f32 multiply-adds"),
            };
            return Some((rate * 1e9 / (2 * per_token.multiply_adds) as f64, what.to_owned()));
        }
        let holds = |level: &Level| level.bytes.is_none_or(|bytes| bytes as u64 >= per_token.weight_bytes);
        let level = self.levels.iter().position(holds)?;
        let rate = rates.read_gb_per_second[level];
        Some((rate * 1e9 / per_token.weight_bytes as f64, format!("reads from {}", self.levels[level].name)))
    }
}

type Figure = Box<dyn Fn(&Rates) -> f64>;

/// What to read for each of `caches`, from small to large, and for memory. Half of a cache stays in it, whatever else is
/// there; caches of one core are as many as `threads`.
fn levels(caches: &[Cache], threads: usize) -> Vec<Level> {
    let of_cache = |cache: &Cache| {
        let copies = if cache.is_shared { 1 } else { threads };
        Level { name: cache.name.clone(), bytes: Some(cache.bytes), read_bytes: cache.bytes / 2 * copies }
    };
    let mut levels: Vec<Level> = caches.iter().map(of_cache).collect();
    let largest = caches.iter().map(|cache| cache.bytes).max().unwrap_or(0);
    let read_bytes = (2 * largest).clamp(LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES);
    levels.push(Level { name: "memory".to_owned(), bytes: None, read_bytes });
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_from_the_level_that_holds_them() {
        let cache = |name: &str, bytes, is_shared| Cache { name: name.to_owned(), bytes, is_shared };
        let levels = levels(&[cache("L2", 2 << 20, false), cache("L3", 64 << 20, true)], 2);
        assert_eq!(
            levels.iter().map(|level| level.read_bytes).collect::<Vec<_>>(),
            [2 << 20, 32 << 20, 256 << 20]
        );
        let rates = Rates {
            threads: 2,
            read_gb_per_second: vec![200.0, 100.0, 20.0],
            int8_gop_per_second: 1000.0,
            f32_gop_per_second: 100.0,
        };
        let limits = Limits { levels, rates: vec![rates] };
        let limit = |kind, weight_bytes, is_int8| {
            let per_token = PerToken { weight_bytes, multiply_adds: 1_000_000_000, is_int8 };
            limits.limit(kind, 2, per_token)
        };
        let generation = |bytes| limit(Kind::Generation, bytes, true);
        assert_eq!(generation(50_000_000), Some((2000.0, "reads from L3".to_owned())));
        assert_eq!(generation(1_000_000_000), Some((20.0, "reads from memory".to_owned())));
        let prompt = |is_int8| limit(Kind::Prompt, 1, is_int8).map(|(limit, _)| limit);
        assert_eq!((prompt(true), prompt(false)), (Some(500.0), Some(50.0)));
        let per_token = PerToken { weight_bytes: 1, multiply_adds: 1, is_int8: true };
        assert_eq!(limits.limit(Kind::Prompt, 1, per_token), None);
    }
}
