//! Speed of what lies between the linear layers, on one thread: norms, gates, rounding, convolutions, recurrences, and products
//! with float weights. Beside bytes read and written once, and operations, a second: what share that is of loads from where so
//! many bytes lie, and of multiply-adds in registers. What is near neither limit waits for its own results, or has more to do than
//! its definition says.
//!
//! `cargo run --release -p sterna-tensor --example operations -- [TOKENS [ISA]]`; attention and packed weights have examples of
//! their own.

use std::time::Instant;

use sterna_tensor::ops::{
    ConvActivation, DeltaInput, DeltaShape, SelectiveInput, SsdInput, SsdShape, causal_conv, gated_delta,
    gelu_tanh_mul, relu2_mul, rms_norm, rope, selective_scan, silu_mul, softmax, ssd_scan,
};
use sterna_tensor::{Activations, Compute, DType, DenseMatrix, Isa, Matrix, Precision, limits, linear};

/// Width of the residual stream, and of inner layers and recurrences.
const WIDTH: usize = 1536;
const INNER: usize = 3072;
/// Seconds that a measurement takes at least, and how many there are: the best counts.
const LONG_ENOUGH: f64 = 0.01;
const REPETITIONS: usize = 5;

/// Something to time.
struct Operation<'a> {
    name: String,
    /// Read or written, each once.
    n_bytes: usize,
    /// Multiplications and additions of the definition; the exponential of a gate counts as none.
    n_ops: usize,
    run: Box<dyn FnMut() + 'a>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let n_tokens: usize = args.next().map_or(Ok(1), |arg| arg.parse())?;
    let isa = match args.next() {
        Some(name) => {
            Isa::available().into_iter().find(|isa| isa.name() == name).ok_or("no such ISA here")?
        }
        None => Isa::best(),
    };
    let c = Compute { isa, ..Compute::new(1, Precision::Int8) };
    let of_floats = Compute { isa, ..Compute::new(1, Precision::Float) };
    let multiply_adds = limits::multiply_add_rate(isa, &c.pool);
    println!("{n_tokens} tokens, 1 thread, {isa}; {:.0} GFLOP/s of multiply-adds", multiply_adds / 1e9);
    println!("| operation | KB | µs | GB/s | of loads | GFLOP/s | of multiply-adds |");
    println!("|---|---|---|---|---|---|---|");
    let mut operations = row_operations(&c, n_tokens);
    operations.extend(recurrences(&c, n_tokens));
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        operations.push(dense(&of_floats, dtype, n_tokens)?);
    }
    for mut operation in operations {
        let loads = limits::load_rate(isa, &c.pool, operation.n_bytes)?;
        let seconds = seconds(&mut operation.run);
        let (bytes, ops) = (operation.n_bytes as f64 / seconds, operation.n_ops as f64 / seconds);
        println!(
            "| {} | {:.0} | {:.2} | {:.1} | {:.0} % | {:.1} | {:.0} % |",
            operation.name,
            operation.n_bytes as f64 / 1e3,
            seconds * 1e6,
            bytes / 1e9,
            100.0 * bytes / loads,
            ops / 1e9,
            100.0 * ops / multiply_adds,
        );
    }
    Ok(())
}

/// The least time of `run`.
fn seconds(run: &mut dyn FnMut()) -> f64 {
    let mut time = |n_times: usize| {
        let start = Instant::now();
        (0..n_times).for_each(|_| run());
        start.elapsed().as_secs_f64()
    };
    let mut n_times = 1;
    while time(n_times) < LONG_ENOUGH {
        n_times *= 2;
    }
    (0..REPETITIONS).map(|_| time(n_times)).fold(f64::INFINITY, f64::min) / n_times as f64
}

/// Numbers between -1 and 1.
fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 12.9898).sin()).collect()
}

fn operation<'a>(name: &str, n_floats: usize, n_ops: usize, run: impl FnMut() + 'a) -> Operation<'a> {
    Operation { name: name.to_owned(), n_bytes: 4 * n_floats, n_ops, run: Box::new(run) }
}

/// What takes each row of a layer's input or output by itself.
fn row_operations(c: &Compute, n_tokens: usize) -> Vec<Operation<'_>> {
    let (isa, n) = (c.isa, n_tokens * WIDTH);
    let (x, weight) = (noise(n), noise(WIDTH));
    let mut out = vec![0.0; n];
    let norm = operation("norm", 2 * n + WIDTH, 4 * n, {
        let (x, weight) = (x.clone(), weight.clone());
        move || rms_norm(isa, &x, &weight, 1e-6, &mut out)
    });
    let mut rounded = Activations::new();
    let rounding = operation("keep and round to int8", 2 * n + n / 32 * 16, 2 * n, {
        let x = x.clone();
        move || rounded.set(&x, WIDTH, c)
    });
    let mut refined = Activations::new();
    let refining = operation("keep and round to two int8", 2 * n + n / 32 * 32, 5 * n, {
        let x = x.clone();
        move || refined.set_refined(&x, WIDTH, c)
    });
    let (mut rotated, table) = (x.clone(), noise(n_tokens * 64));
    let rotation = operation("rotation, heads of 128", 2 * n + 2 * table.len(), 3 * n, move || {
        rope(isa, &mut rotated, n_tokens, 128, &table, &table);
    });
    let mut scores = x;
    let softmax = operation("softmax", 2 * n, 3 * n, move || softmax(isa, &mut scores));
    type Gate = fn(Isa, &[f32], &[f32], &mut [f32]);
    let gates: [(&str, Gate, usize); 3] =
        [("silu gate", silu_mul, 3), ("gelu gate", gelu_tanh_mul, 8), ("relu² gate", relu2_mul, 2)];
    let n = n_tokens * INNER;
    let gate = |(name, gate, n_ops): (&str, Gate, usize)| {
        let (x, y, mut out) = (noise(n), noise(n), vec![0.0; n]);
        operation(name, 3 * n, n_ops * n, move || gate(isa, &x, &y, &mut out))
    };
    [norm, rounding, refining, rotation, softmax].into_iter().chain(gates.map(gate)).collect()
}

/// Convolutions and what keeps a state.
fn recurrences(c: &Compute, n_tokens: usize) -> Vec<Operation<'_>> {
    const TAPS: usize = 4;
    let (isa, n) = (c.isa, n_tokens * INNER);
    let (window, taps) = (noise(n + (TAPS - 1) * INNER), noise(TAPS * INNER));
    let mut out = vec![0.0; n];
    let n_floats = window.len() + taps.len() + n;
    let convolution = operation("convolution, 4 taps", n_floats, 2 * TAPS * n, move || {
        causal_conv(isa, &window, &taps, None, ConvActivation::Identity, &mut out);
    });

    let shape = SsdShape { n_heads: INNER / 64, head_dim: 64, n_groups: 1, state_size: 128 };
    let (xbc, steps, d) =
        (noise(n_tokens * shape.xbc_size()), vec![0.1; n_tokens * shape.n_heads], noise(shape.n_heads));
    let (mut state, mut y) = (noise(shape.state_len()), vec![0.0; n]);
    let mut scores = vec![0.0; shape.scores_len(n_tokens)];
    let n_states = INNER * shape.state_size;
    let n_floats = 2 * n_states + xbc.len() + 2 * steps.len() + y.len();
    let n_ops = n_tokens * 5 * n_states;
    let ssd = operation("Mamba-2, heads of 64 with 128 states", n_floats, n_ops, move || {
        let input = SsdInput { first: 0, xbc: &xbc, dt: &steps, decay: &steps, d: &d };
        ssd_scan(c, shape, input, &mut state, &mut scores, &mut y);
    });

    let shape = DeltaShape { n_key_heads: 12, n_value_heads: 24, key_dim: 128, value_dim: 128 };
    let (qkv, gates) = (noise(n_tokens * shape.qkv_size()), vec![0.1; n_tokens * shape.n_value_heads]);
    let (mut state, mut y) = (noise(shape.state_len()), vec![0.0; n_tokens * shape.values_size()]);
    let n_floats = 2 * state.len() + qkv.len() + 2 * gates.len() + y.len();
    let n_ops = n_tokens * 7 * state.len();
    let delta = operation("gated delta rule, heads of 128", n_floats, n_ops, move || {
        gated_delta(c, shape, DeltaInput { qkv: &qkv, beta: &gates, decay: &gates }, &mut state, &mut y);
    });

    const STATES: usize = 16;
    let (x, steps, b) = (noise(n), vec![0.1; n], noise(n_tokens * STATES));
    let (a, d) = (vec![-1.0; STATES * INNER], noise(INNER));
    let (mut state, mut y) = (noise(STATES * INNER), vec![0.0; n]);
    let n_floats = 3 * state.len() + 3 * n;
    let n_ops = n_tokens * 6 * state.len();
    let selective = operation("Mamba-1, 16 states", n_floats, n_ops, move || {
        let input = SelectiveInput { x: &x, dt: &steps, b: &b, c: &b, a: &a, d: &d };
        selective_scan(c, input, &mut state, &mut y);
    });
    vec![convolution, ssd, delta, selective]
}

/// A matrix of floats as it lies in a file.
fn dense(c: &Compute, dtype: DType, n_tokens: usize) -> Result<Operation<'_>, Box<dyn std::error::Error>> {
    let bytes = dtype.narrow(&noise(WIDTH * WIDTH));
    let matrix = Matrix::from(DenseMatrix::new(WIDTH, WIDTH, dtype, bytes.into())?);
    let (mut x, mut y) = (Activations::new(), vec![0.0; n_tokens * WIDTH]);
    x.set(&noise(n_tokens * WIDTH), WIDTH, c);
    let n_bytes = matrix.n_bytes() + 8 * n_tokens * WIDTH;
    let n_ops = 2 * n_tokens * WIDTH * WIDTH;
    let run = Box::new(move || linear(c, &x, &mut [(&matrix, &mut y)]));
    Ok(Operation { name: format!("{dtype} weights, {WIDTH} x {WIDTH}"), n_bytes, n_ops, run })
}
