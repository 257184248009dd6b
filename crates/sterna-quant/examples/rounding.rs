//! Times and errors of rounding random matrices: `rounding [ROWSxCOLS]... [FORMAT]... [N_TOKENS]`.

use std::time::Instant;

use sterna_quant::rounding::{
    Damping, Factor, Gram, Grids, Order, Quantized, Refit, Search, TokenWeight, gptq, refit, round_to_nearest,
};
use sterna_tensor::{Compute, PackedFormat, Precision};

fn main() {
    let (mut shapes, mut formats, mut n_tokens) = (Vec::new(), Vec::<PackedFormat>::new(), 4096);
    for argument in std::env::args().skip(1) {
        if let Some((rows, cols)) = argument.split_once('x') {
            shapes.push((rows.parse().expect("rows"), cols.parse().expect("columns")));
        } else if let Ok(format) = argument.parse() {
            formats.push(format);
        } else {
            n_tokens = argument.parse().expect("a shape, a format or a number of tokens");
        }
    }
    if shapes.is_empty() {
        shapes = vec![(8960, 1536), (1536, 8960)];
    }
    if formats.is_empty() {
        formats = vec![PackedFormat::affine(4, 128).expect("a format")];
    }
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let c = Compute::new(n_threads, Precision::Float);
    for (rows, cols) in shapes {
        for &format in &formats {
            report(rows, cols, format, n_tokens, &c);
        }
    }
}

fn report(rows: usize, cols: usize, format: PackedFormat, n_tokens: usize, c: &Compute) {
    println!("{rows} x {cols}, {format}, {n_tokens} tokens, {} threads", c.pool.n_threads());
    let weights = numbers(rows * cols, 1);
    let mut gram = Gram::new(cols, TokenWeight::Plain);
    let mut seconds = 0.0;
    for first in (0..n_tokens).step_by(1024) {
        let x = inputs(1024.min(n_tokens - first), cols, first as u64);
        let start = Instant::now();
        gram.add(c, &x);
        seconds += start.elapsed().as_secs_f64();
    }
    println!("  {seconds:7.2} s  moments");

    let importance = gram.diagonal();
    let mut unit = None;
    let mut show = |name: &str, make: &mut dyn FnMut() -> Quantized| {
        let start = Instant::now();
        let quantized = make();
        let seconds = start.elapsed().as_secs_f64();
        let rounded = quantized.dequantize(&c.pool);
        let delta: Vec<f32> = weights.iter().zip(rounded).map(|(w, q)| w - q).collect();
        let start = Instant::now();
        let error = gram.error(c, &delta);
        let relative = error / *unit.get_or_insert(error);
        println!("  {seconds:7.2} s  {name}: error {relative:.4} ({:.2} s)", start.elapsed().as_secs_f64());
        quantized
    };
    for search in [Search::MinMax, Search::Clip] {
        let nearest = || {
            round_to_nearest(&weights, rows, cols, format, Some(&importance), search, &c.pool)
                .expect("weights")
        };
        show(&format!("nearest, {search:?}"), &mut { nearest });
    }
    for order in [Order::Columns, Order::Importance] {
        for damping in [Damping::Mean(0.01), Damping::Own(0.01)] {
            let start = Instant::now();
            let factor = Factor::new(&gram, damping, order, c).expect("moments");
            println!("  {:7.2} s  factor, {order:?}, {:?}", start.elapsed().as_secs_f64(), factor.damping());
            for grids in [Grids::Static, Grids::Entered] {
                if order == Order::Columns || grids == Grids::Static {
                    let round =
                        || gptq(&weights, rows, format, &factor, grids, Search::Clip, c).expect("weights");
                    let start = show(&format!("gptq, {order:?}, {damping:?}, {grids:?}"), &mut { round });
                    let mut refitted = |grids, codes, n_sweeps| {
                        let options = Refit { grids, codes, n_sweeps };
                        let name = format!("  refit, grids {grids}, codes {codes}, {n_sweeps} sweeps");
                        show(&name, &mut || {
                            let mut quantized = start.clone();
                            refit(&weights, &gram, &factor, &mut quantized, options, c).expect("weights");
                            quantized
                        });
                    };
                    refitted(true, false, 1);
                    refitted(false, true, 1);
                    refitted(true, true, 1);
                    refitted(true, true, 3);
                }
            }
        }
    }
}

/// Numbers about a normal distribution, the same for the same seed.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| 0.02 * ((0..6).map(|_| uniform()).sum::<f32>() - 3.0)).collect()
}

/// Inputs of a few common factors and noise, some channels larger than others.
fn inputs(n: usize, cols: usize, seed: u64) -> Vec<f32> {
    const RANK: usize = 16;
    let (mix, factors, mut x) =
        (numbers(RANK * cols, 7), numbers(n * RANK, seed + 8), numbers(n * cols, seed + 9));
    for (x, factors) in x.chunks_mut(cols).zip(factors.chunks(RANK)) {
        for (j, x) in x.iter_mut().enumerate() {
            let common: f32 = factors.iter().enumerate().map(|(k, f)| f * mix[k * cols + j]).sum();
            let size = if j % 97 == 3 { 10.0 } else { 1.0 };
            *x = size * (*x + 50.0 * common);
        }
    }
    x
}
