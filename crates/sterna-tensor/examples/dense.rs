//! Speed of float products on this machine, without a model: `cargo run --release -p sterna-tensor --example dense -- [threads]`.
//!
//! The limit is measured in between, because on a shared machine it drifts.

use std::time::Instant;

use bytes::Bytes;
use sterna_tensor::{Activations, Compute, DType, DenseMatrix, Isa, Matrix, Precision, limits, linear};

/// `[rows, cols]` of a model of some 1.5 G weights.
const SHAPES: [[usize; 2]; 3] = [[1536, 1536], [8960, 1536], [1536, 8960]];
const TOKENS: [usize; 3] = [1, 128, 512];
/// Measurements of which the median counts.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n_threads = std::env::args().nth(1).map_or(Ok(1), |arg| arg.parse())?;
    println!("{n_threads} threads, GFLOP/s and share of what multiply-adds of f32 do");
    println!("| weights | rows x columns | {} |", TOKENS.map(|n| format!("{n} tokens")).join(" | "));
    println!("|---|---|---|---|---|");
    let c = Compute { isa: Isa::best(), ..Compute::new(n_threads, Precision::Float) };
    for dtype in [DType::F32, DType::F16] {
        for [rows, cols] in SHAPES {
            let data = Bytes::from(vec![0u8; rows * cols * dtype.size_of()]);
            let matrix = Matrix::from(DenseMatrix::new(rows, cols, dtype, data)?);
            let speeds = TOKENS.map(|n_tokens| speed(&c, &matrix, n_tokens));
            println!("| {dtype} | {rows} x {cols} | {} |", speeds.join(" | "));
        }
    }
    Ok(())
}

fn speed(c: &Compute, matrix: &Matrix, n_tokens: usize) -> String {
    let mut x = Activations::new();
    x.set(&vec![1.0; n_tokens * matrix.cols()], matrix.cols(), c);
    let mut y = vec![0.0; n_tokens * matrix.rows()];
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let limit = limits::multiply_add_rate(c.isa, &c.pool);
            let start = Instant::now();
            linear(c, &x, &mut [(matrix, &mut y)]);
            let rate = 2.0 * (y.len() * matrix.cols()) as f64 / start.elapsed().as_secs_f64();
            (rate / limit, rate)
        })
        .collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (share, rate) = rounds[ROUNDS / 2];
    format!("{:.0}, {:.0} %", rate / 1e9, 100.0 * share)
}
