//! One product, some times over, for whoever counts instructions: `cargo run --release -p sterna-tensor --example once --
//! FORMAT ISA dot|lookup TOKENS TIMES`. `docs/kernels.md` has the counts for Arm, and how to get them.

use half::f16;
use sterna_tensor::{
    Activations, Block, BlockSource, Compute, Isa, KernelChoice, KernelFamily, Matrix, PackedFormat,
    PackedMatrix, Precision, linear,
};

/// As many tiles as any kernel takes at once.
const ROWS: usize = 48;
const COLS: usize = 4096;

struct Ones;

impl BlockSource for Ones {
    fn block(&self, _: usize, _: usize, out: &mut Block) {
        out.codes.fill(1);
        out.d = f16::ONE;
        out.scales = [1; 16];
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [format, isa, family, n_tokens, n_times] = args.as_slice() else {
        return Err("expected FORMAT ISA dot|lookup TOKENS TIMES".into());
    };
    let format: PackedFormat = format.parse()?;
    let isa = Isa::available().into_iter().find(|known| known.name() == isa).ok_or("no such instructions")?;
    let family: KernelFamily = family.parse().map_err(|()| "neither dot nor lookup")?;
    let (n_tokens, n_times): (usize, usize) = (n_tokens.parse()?, n_times.parse()?);
    let mut c = Compute { isa, ..Compute::new(1, Precision::Int8) };
    // Few tokens are those that are looked up, or one.
    let many_from = Some(if family == KernelFamily::Lookup { usize::MAX } else { 2 });
    let choice = KernelChoice { family: Some(family), many_from, ..KernelChoice::default() };
    c.tuning.set(format.code_bits(), choice);
    let matrix = Matrix::from(PackedMatrix::pack(format, ROWS, COLS, &Ones, &c.pool)?);
    let mut x = Activations::new();
    x.set(&vec![1.0; n_tokens * COLS], COLS, &c);
    let mut y = vec![0.0; n_tokens * ROWS];
    for _ in 0..n_times {
        linear(&c, &x, &mut [(&matrix, &mut y)]);
    }
    println!("{} x {} x {n_tokens}", ROWS, COLS);
    Ok(())
}
