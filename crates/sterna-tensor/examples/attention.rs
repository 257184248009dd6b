//! Speed of attention of one token to a long context, in bytes of keys and values a second, and of 64 tokens, each beside what the
//! machine loads from where they lie, and multiplies.
//!
//! `cargo run --release -p sterna-tensor --example attention -- [THREADS [DEPTH [ISA]]]`

use std::time::Instant;

use sterna_tensor::ops::{AttentionScratch, AttentionShape, attention};
use sterna_tensor::{Compute, Isa, KvPage, KvType, KvView, Precision, limits};

/// Heads, heads of keys and values, and width.
const SHAPES: [(usize, usize, usize); 5] = [(9, 3, 64), (12, 2, 128), (16, 2, 128), (20, 4, 128), (8, 8, 64)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let n_threads: usize = args.next().map_or(Ok(1), |arg| arg.parse())?;
    let depth = args.next().map_or(Ok(16384), |arg| arg.parse())?;
    let isa = match args.next() {
        Some(name) => {
            Isa::available().into_iter().find(|isa| isa.name() == name).ok_or("no such ISA here")?
        }
        None => Isa::best(),
    };
    let c = Compute { isa, ..Compute::new(n_threads, Precision::Int8) };
    let multiply_adds = limits::multiply_add_rate(isa, &c.pool);
    println!(
        "{n_threads} threads, {depth} positions, {isa}; GB/s for 1 token and share of loads, GFLOP/s for 64 and share of multiply-adds"
    );
    println!("| heads | type | 1 token | share | 64 tokens | share |");
    println!("|---|---|---|---|---|---|");
    for (n_heads, n_kv_heads, head_dim) in SHAPES {
        let scale = (head_dim as f32).sqrt().recip();
        let shape = AttentionShape { n_heads, n_kv_heads, head_dim, scale, window: None, softcap: None };
        for ty in KvType::ALL {
            let pages = pages(&c, &shape, ty, depth);
            let n_bytes: usize = pages.iter().map(KvPage::n_bytes).sum();
            let loads = limits::load_rate(isa, &c.pool, n_bytes / n_threads)?;
            let decode = n_bytes as f64 / seconds(&c, &shape, &pages, depth, 1);
            let flops = (4 * 64 * depth * n_heads * head_dim) as f64;
            let prefill = flops / seconds(&c, &shape, &pages, depth, 64);
            println!(
                "| {n_heads}/{n_kv_heads} x {head_dim} | {ty} | {:.2} | {:.0} % | {:.0} | {:.0} % |",
                decode / 1e9,
                100.0 * decode / loads,
                prefill / 1e9,
                100.0 * prefill / multiply_adds,
            );
        }
    }
    Ok(())
}

/// Keys and values that mean nothing.
fn pages(c: &Compute, shape: &AttentionShape, ty: KvType, depth: usize) -> Vec<KvPage> {
    let width = shape.n_kv_heads * shape.head_dim;
    let row: Vec<f32> = (0..2 * width).map(|i| (i as f32 * 12.9898).sin()).collect();
    let mut pages = vec![KvPage::new(shape.n_kv_heads, shape.head_dim, ty); depth.div_ceil(KvPage::LEN)];
    for position in 0..depth {
        let at = position % width;
        let (key, value) = (&row[at..at + width], &row[width - at..][..width]);
        pages[position / KvPage::LEN].write(c.isa, position % KvPage::LEN, key, value);
    }
    pages
}

/// The least time for the last `n_tokens` of `depth`.
fn seconds(c: &Compute, shape: &AttentionShape, pages: &[KvPage], depth: usize, n_tokens: usize) -> f64 {
    let q: Vec<f32> =
        (0..n_tokens * shape.n_heads * shape.head_dim).map(|i| (i as f32 * 78.233).sin()).collect();
    let mut out = vec![0.0; q.len()];
    let mut scratch = AttentionScratch::default();
    let mut best = f64::INFINITY;
    for _ in 0..if n_tokens == 1 { 20 } else { 3 } {
        let start = Instant::now();
        let view = KvView { pages, start: 0 };
        attention(c, shape, &q, view, depth - n_tokens, &mut scratch, &mut out);
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
