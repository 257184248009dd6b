//! Speed of the matrix kernels on this machine, without a model: `cargo run --release -p sterna-tensor --example
//! kernels -- [threads] [format] [isa]`. Weights are rotated through more memory than the caches hold, as in a model.
//!
//! The limits of the machine are measured in between, because on a shared machine they drift: a share says how much of what there
//! was at the time a kernel reached.

use std::time::Instant;

use half::f16;
use sterna_tensor::{
    Activations, Block, BlockSource, Compute, Isa, KernelChoice, KernelFamily, Matrix, PackedFormat,
    PackedMatrix, Pool, Precision, limits, linear,
};

/// Shape of every matrix, as in a model of some 1.5 G weights.
const ROWS: usize = 1536;
const COLS: usize = 1536;
/// Enough matrices for some 200 MB of 4-bit weights.
const N_MATRICES: usize = 160;
/// Tokens of a pass of prefill, over one matrix.
const PROMPT: usize = 512;
/// Tokens of a small batch, over several matrices.
const BATCH: usize = 16;
/// Measurements of which the median counts.
const ROUNDS: usize = 7;
/// Bytes read by each thread where memory is measured.
const MEMORY_BYTES: usize = 256 << 20;

struct Pattern(PackedFormat);

impl BlockSource for Pattern {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let largest = self.0.largest_code();
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
        "{n_threads} threads; decode of 1 token in GB/s of weights, 10^9 weights/s and share of what memory reads; {BATCH} and {PROMPT} \
         tokens in GOP/s, and share of what int8 dot products do"
    );
    println!(
        "| format | bits | ISA | kernels | pack GB/s | decode | weights | share | {BATCH} | {PROMPT} | share |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let own = [
        "s1g128", "t1g256", "t2g256", "a2g128", "a3g128", "a4g128", "a4g32", "s3g128", "s4g128", "s6g128",
        "s8g128",
    ];
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
        let isas = Isa::available().into_iter();
        for isa in isas.filter(|isa| wanted_isa.as_ref().is_none_or(|wanted| wanted == isa.name())) {
            for family in KernelFamily::ALL.into_iter().filter(|family| family.has(format)) {
                let mut c = Compute { isa, ..Compute::new(n_threads, Precision::Int8) };
                let many_from = (family == KernelFamily::Lookup).then_some(usize::MAX);
                let choice = KernelChoice { family: Some(family), many_from, ..KernelChoice::default() };
                c.tuning.set(format.code_bits(), choice);
                let memory = || limits::load_rate(isa, &c.pool, MEMORY_BYTES).unwrap_or(f64::NAN);
                let decode = measure(&c, &matrices, 1, n_bytes as f64, memory);
                let weights = decode.rate / n_bytes as f64 * (N_MATRICES * ROWS * COLS) as f64;
                let ops = |n_tokens: usize| (2 * ROWS * COLS * n_tokens) as f64;
                let dots = || limits::dot_rate(isa, &c.pool);
                let some = &matrices[..PROMPT / BATCH];
                let batch = measure(&c, some, BATCH, ops(BATCH) * some.len() as f64, dots);
                let prefill = measure(&c, &matrices[..1], PROMPT, ops(PROMPT), dots);
                println!(
                    "| {name} | {:.3} | {isa} | {family} | {pack:.2} | {:.1} | {:.0} | {:.0} % | {:.0} | {:.0} | {:.0} % |",
                    format.bits_per_weight(),
                    decode.rate / 1e9,
                    weights / 1e9,
                    100.0 * decode.share,
                    batch.rate / 1e9,
                    prefill.rate / 1e9,
                    100.0 * prefill.share,
                );
            }
        }
    }
    Ok(())
}

/// Work a second, and what share of the limit that is.
struct Speed {
    rate: f64,
    share: f64,
}

/// The speed of passes over all matrices, each of which is `work`, by turns with `limit`.
fn measure(c: &Compute, matrices: &[Matrix], n_tokens: usize, work: f64, limit: impl Fn() -> f64) -> Speed {
    let values: Vec<f32> = (0..n_tokens * COLS).map(|i| (i % 17) as f32 - 8.0).collect();
    let mut x = Activations::new();
    x.set(&values, COLS, c);
    let mut y = vec![0.0; n_tokens * ROWS];
    let mut rounds: Vec<Speed> = (0..ROUNDS)
        .map(|_| {
            let limit = limit();
            let start = Instant::now();
            for w in matrices {
                linear(c, &x, &mut [(w, &mut y)]);
            }
            let rate = work / start.elapsed().as_secs_f64();
            Speed { rate, share: rate / limit }
        })
        .collect();
    rounds.sort_by(|a, b| a.share.total_cmp(&b.share));
    rounds.swap_remove(ROUNDS / 2)
}
