//! Speed of the matrix kernels on this machine, without a model: `cargo run --release -p sterna-tensor --example
//! kernels -- [threads] [format] [isa]`. Weights are rotated through more memory than the caches hold, as in a model.

use std::time::{Duration, Instant};

use half::f16;
use sterna_tensor::{
    Activations, Block, BlockSource, Compute, Isa, Matrix, PackedFormat, PackedMatrix, Pool, Precision,
    linear,
};

/// Shape of every matrix, as in a model of some 1.5 G weights.
const ROWS: usize = 1536;
const COLS: usize = 1536;
/// Enough matrices for some 200 MB of 4-bit weights.
const N_MATRICES: usize = 160;
/// Prefill is timed on few rows and tokens, many times, so that the best time is one that nothing interrupted.
const PROMPT: usize = 64;
const PROMPT_ROWS: usize = 256;

struct Pattern(PackedFormat);

impl BlockSource for Pattern {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let largest = ((1u32 << self.0.code_bits()) - 1) as u8;
        for (i, code) in out.codes[..self.0.block_len()].iter_mut().enumerate() {
            *code = (row * 7 + block * 13 + i * 5) as u8 & largest;
        }
        out.d = f16::from_f32(0.01);
        out.m = f16::from_f32(0.02);
        out.zero = largest / 2;
        out.scales = [3; 16];
        out.mins = [2; 16];
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let n_threads = args.next().map_or(Ok(1), |arg| arg.parse())?;
    let wanted = args.next();
    let wanted_isa = args.next();
    println!(
        "{n_threads} threads; decode of 1 token in GB/s of weights, prefill of {PROMPT} tokens in GOP/s"
    );
    println!("| format | bits | ISA | pack GB/s | decode | prefill |");
    println!("|---|---|---|---|---|---|");
    let own = ["a2g128", "a3g128", "a4g128", "a4g32", "s3g128", "s4g128", "s6g128", "s8g128"];
    let formats = match wanted {
        Some(name) => vec![name],
        None => PackedFormat::ALL.iter().map(|(name, _)| *name).chain(own).map(str::to_owned).collect(),
    };
    for name in formats {
        let format: PackedFormat = name.parse()?;
        let pool = Pool::new(n_threads);
        let start = Instant::now();
        let matrices: Vec<Matrix> = (0..N_MATRICES)
            .map(|_| PackedMatrix::pack(format, ROWS, COLS, &Pattern(format), &pool).map(Matrix::from))
            .collect::<Result<_, _>>()?;
        let n_bytes: usize = matrices.iter().map(Matrix::n_bytes).sum();
        let pack = n_bytes as f64 / start.elapsed().as_secs_f64() / 1e9;
        let small = Matrix::from(PackedMatrix::pack(format, PROMPT_ROWS, COLS, &Pattern(format), &pool)?);
        for isa in Isa::available() {
            if wanted_isa.as_ref().is_some_and(|wanted| wanted != isa.name()) {
                continue;
            }
            let c = Compute { isa, pool: Pool::new(n_threads), precision: Precision::Int8 };
            let decode = n_bytes as f64 / seconds(&c, &matrices, 1, 10) / 1e9;
            let ops = (2 * PROMPT_ROWS * COLS * PROMPT) as f64;
            let prefill = ops / seconds(&c, std::slice::from_ref(&small), PROMPT, 100) / 1e9;
            let bits = format.bits_per_weight();
            println!("| {name} | {bits:.3} | {isa} | {pack:.2} | {decode:.1} | {prefill:.0} |");
        }
    }
    Ok(())
}

/// Time of a pass over all matrices, taking for each the best of several passes: other processes disturb it least.
fn seconds(c: &Compute, matrices: &[Matrix], n_tokens: usize, n_passes: usize) -> f64 {
    let values: Vec<f32> = (0..n_tokens * COLS).map(|i| (i % 17) as f32 - 8.0).collect();
    let mut x = Activations::new();
    x.set(&values, COLS, c);
    let mut y = vec![0.0; n_tokens * matrices[0].rows()];
    let mut best = vec![Duration::MAX; matrices.len()];
    for _ in 0..n_passes {
        for (w, best) in matrices.iter().zip(&mut best) {
            let start = Instant::now();
            linear(c, &x, &mut [(w, &mut y)]);
            *best = start.elapsed().min(*best);
        }
    }
    best.iter().sum::<Duration>().as_secs_f64()
}
