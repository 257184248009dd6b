//! Kernels for each width of weights, with one token and with many, how many are many, and how weights come from memory.

use std::time::Instant;

use sterna::synthetic::weight_format;
use sterna::{Compute, Isa, Matrix, Pool, Precision, Tuning};
use sterna_tensor::{
    Activations, Block, BlockSource, CODE_BITS, Fetch, KernelChoice, KernelFamily, NEVER, PackedFormat,
    PackedMatrix, Processor, linear,
};

use super::{LEAST_GAIN, best, compare};
use crate::cli::{table, terminal};

/// Shape of every matrix, as in a model of some 1.5 G weights.
const ROWS: usize = 1536;
const COLS: usize = 1536;
/// Enough of them for more than second-level caches hold.
const N_MATRICES: usize = 12;
/// Enough of those of four bits for more than all caches hold.
const N_FROM_MEMORY: usize = 160;
/// Tokens of a prompt.
const PROMPT: usize = 64;
/// Tokens from which on there may be many.
const FEW: [usize; 8] = [2, 3, 4, 6, 8, 12, 16, 24];

/// Weights of one width, and how they are multiplied.
struct Subject {
    bits: usize,
    matrices: Vec<Matrix>,
    compute: Compute,
    /// Inputs of as many tokens as were asked for, and room for outputs.
    x: Activations,
    y: Vec<f32>,
}

/// How weights are multiplied.
type Candidate = (Isa, KernelFamily);

/// Sets the kernels of `tuning` to the fastest where `isa` is the best there is, and returns a table of what was measured.
pub(super) fn measure(isa: Isa, pool: Pool, tuning: &mut Tuning) -> String {
    let others = Isa::available().into_iter().rev().filter(|other| *other != isa && *other != Isa::Scalar);
    let usual = Processor::this();
    let isas: Vec<Isa> = [isa].into_iter().chain(others).collect();
    let mut compute = Compute { isa, pool, ..Compute::new(1, Precision::Int8) };
    let titles = ["bits", "tokens", "kernels"].into_iter().map(str::to_owned);
    let mut rows = vec![titles.chain(isas.iter().map(|isa| isa.to_string())).collect::<Vec<_>>()];
    rows[0].push("many from".to_owned());
    for bits in CODE_BITS {
        terminal::note(format_args!("measuring kernels · {bits} bits"));
        let Some(format) = format(bits) else { continue };
        let mut subject = Subject::new(bits, format, N_MATRICES, compute);
        let usual_family = KernelFamily::default_for(isa, format, 1);
        let candidates = candidates(&isas, format, usual_family);
        let few = subject.compare(&candidates, 1);
        let dots: Vec<Candidate> = isas.iter().map(|isa| (*isa, KernelFamily::DotProduct)).collect();
        let many = subject.compare(&dots, PROMPT);
        let (few_isa, family) = candidates[best(&few)];
        let many_isa = isas[best(&many)];
        let many_from = subject.many_from((few_isa, family), many_isa);
        let departure = |chosen: Isa| (chosen != isa).then_some(chosen);
        tuning.set(
            bits,
            KernelChoice {
                few: departure(few_isa),
                family: (family != usual_family).then_some(family),
                many: departure(many_isa),
                many_from: (many_from != usual.many_from).then_some(many_from),
            },
        );
        let n_bytes: usize = subject.matrices.iter().map(Matrix::n_bytes).sum();
        let gigabytes = |(_, seconds): &(f64, f64)| format!("{:.1} GB/s", n_bytes as f64 / seconds / 1e9);
        let n_ops = (2 * ROWS * COLS * PROMPT) as f64;
        let operations = |(_, seconds): &(f64, f64)| format!("{:.0} GOP/s", n_ops / seconds / 1e9);
        let row = |tokens: usize, family: KernelFamily, cells: &[String], many_from: &str| {
            let first = [bits.to_string(), tokens.to_string(), family.to_string()];
            first.into_iter().chain(cells.iter().cloned()).chain([many_from.to_owned()]).collect()
        };
        for (cells, of_family) in
            marked(&few, gigabytes).chunks(isas.len()).zip(candidates.chunks(isas.len()))
        {
            rows.push(row(1, of_family[0].1, cells, ""));
        }
        let many_from = if many_from == NEVER { "never".to_owned() } else { many_from.to_string() };
        rows.push(row(PROMPT, KernelFamily::DotProduct, &marked(&many, operations), &many_from));
        compute = subject.compute;
    }
    format!("{}\n{}", table::markdown(&rows), fetches(compute, tuning))
}

/// What may multiply few tokens with weights of `format`: every family on each of `isas`, the `usual` one first.
fn candidates(isas: &[Isa], format: PackedFormat, usual: KernelFamily) -> Vec<Candidate> {
    let others = KernelFamily::ALL.into_iter().filter(|family| *family != usual && family.has(format));
    [usual].into_iter().chain(others).flat_map(|family| isas.iter().map(move |isa| (*isa, family))).collect()
}

/// Sets how weights come from memory, and returns a table of what was measured.
fn fetches(compute: Compute, tuning: &mut Tuning) -> String {
    terminal::note("measuring fetches");
    let Some(format) = format(4) else { return String::new() };
    let usual = Processor::this().fetch;
    let others = Fetch::ALL.into_iter().filter(|fetch| *fetch != usual);
    let fetches: Vec<Fetch> = [usual].into_iter().chain(others).collect();
    let KernelChoice { few, family, .. } = tuning.choice(4);
    let candidate = (few.unwrap_or(compute.isa), family.unwrap_or(KernelFamily::DotProduct));
    let mut subject = Subject::new(4, format, N_FROM_MEMORY, compute);
    subject.set_tokens(1);
    let compared = compare(fetches.len(), |i| {
        subject.compute.tuning.fetch = Some(fetches[i]);
        subject.time(candidate, NEVER, N_FROM_MEMORY)
    });
    let fastest = fetches[best(&compared)];
    tuning.fetch = (fastest != usual).then_some(fastest);
    let n_bytes: usize = subject.matrices.iter().map(Matrix::n_bytes).sum();
    let gigabytes = |(_, seconds): &(f64, f64)| format!("{:.1} GB/s", n_bytes as f64 / seconds / 1e9);
    let titles = fetches.iter().map(|fetch| format!("from memory, {fetch}")).collect();
    table::markdown(&[titles, marked(&compared, gigabytes)])
}

/// A cell for each candidate, with a star at the one that was taken.
fn marked(compared: &[(f64, f64)], cell: impl Fn(&(f64, f64)) -> String) -> Vec<String> {
    let best = best(compared);
    let star = |i| if i == best { " *" } else { "" };
    compared.iter().enumerate().map(|(i, candidate)| cell(candidate) + star(i)).collect()
}

/// A format with codes of `bits`.
fn format(bits: usize) -> Option<PackedFormat> {
    if bits == 1 { PackedFormat::symmetric(1, 128) } else { weight_format(bits) }
}

impl Subject {
    fn new(bits: usize, format: PackedFormat, n_matrices: usize, compute: Compute) -> Subject {
        let matrix = |_| {
            let packed = PackedMatrix::pack(format, ROWS, COLS, &Pattern(format), &compute.pool);
            packed.ok().map(Matrix::from)
        };
        let matrices = (0..n_matrices).filter_map(matrix).collect();
        Subject { bits, matrices, compute, x: Activations::new(), y: Vec::new() }
    }

    /// Takes inputs of `n_tokens` tokens.
    fn set_tokens(&mut self, n_tokens: usize) {
        let values: Vec<f32> = (0..n_tokens * COLS).map(|i| (i % 17) as f32 - 8.0).collect();
        self.x.set(&values, COLS, &self.compute);
        self.y = vec![0.0; n_tokens * ROWS];
    }

    /// Compares `candidates` with `n_tokens` tokens.
    fn compare(&mut self, candidates: &[Candidate], n_tokens: usize) -> Vec<(f64, f64)> {
        self.set_tokens(n_tokens);
        let (n_matrices, many_from) = if n_tokens == 1 { (N_MATRICES, NEVER) } else { (1, 1) };
        compare(candidates.len(), |i| self.time(candidates[i], many_from, n_matrices))
    }

    /// Rows from which on the kernel for many by `many` is faster than `few`. Looking up is never for more than were tried: tables
    /// are made anew for every part of a matrix.
    fn many_from(&mut self, few: Candidate, many: Isa) -> usize {
        let shares = FEW.map(|n_tokens| {
            self.set_tokens(n_tokens);
            let choices = [(few, NEVER), ((many, KernelFamily::DotProduct), 1)];
            compare(2, |i| self.time(choices[i].0, choices[i].1, 2))[1].0
        });
        let most = if few.1 == KernelFamily::Lookup { FEW[FEW.len() - 1] } else { NEVER };
        border(&shares, Processor::this().many_from).min(most)
    }

    /// Seconds of the products with `n_matrices`.
    fn time(&mut self, (isa, family): Candidate, many_from: usize, n_matrices: usize) -> f64 {
        let (few, many) = (Some(isa), Some(isa));
        let choice = KernelChoice { few, family: Some(family), many, many_from: Some(many_from) };
        self.compute.tuning.set(self.bits, choice);
        let start = Instant::now();
        for matrix in &self.matrices[..n_matrices] {
            linear(&self.compute, &self.x, &mut [(matrix, &mut self.y)]);
        }
        start.elapsed().as_secs_f64()
    }
}

/// From which of [`FEW`] tokens on to use the kernel for many, whose times there are `shares` of those of the one for few: where
/// all of them together take least, unless the usual border is about as good.
fn border(shares: &[f64; FEW.len()], usual: usize) -> usize {
    let cost = |first: usize| first as f64 + shares[first..].iter().sum::<f64>();
    let candidates = 0..=FEW.len();
    let best = candidates.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(0);
    let of_usual = FEW.iter().position(|n| *n == usual).unwrap_or(FEW.len());
    match cost(best) < cost(of_usual) - LEAST_GAIN {
        true => FEW.get(best).copied().unwrap_or(NEVER),
        false => usual,
    }
}

/// Weights that mean nothing.
struct Pattern(PackedFormat);

impl BlockSource for Pattern {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let largest = self.0.largest_code();
        for (i, code) in out.codes[..self.0.block_len()].iter_mut().enumerate() {
            *code = (row * 7 + block * 13 + i * 5) as u8 & largest;
        }
        out.d = self.0.stored_scale(0.01);
        out.zero = largest / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_is_where_the_time_is_least() {
        assert_eq!(border(&[2.0, 1.5, 1.2, 1.1, 0.8, 0.7, 0.6, 0.6], 8), 8);
        assert_eq!(border(&[2.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.6], 8), 3);
        assert_eq!(border(&[2.0, 1.5, 1.2, 0.99, 0.8, 0.7, 0.6, 0.6], 8), 8);
        assert_eq!(border(&[1.1; FEW.len()], 8), NEVER);
        assert_eq!(border(&[0.999; FEW.len()], NEVER), NEVER);
        assert_eq!(border(&[0.9; FEW.len()], NEVER), 2);
    }

    #[test]
    fn the_usual_kernels_are_the_first_candidates() {
        let (isas, [dot, lookup]) = ([Isa::Avx2, Isa::Scalar], KernelFamily::ALL);
        let of = |format: &str, usual| candidates(&isas, format.parse().expect("a format"), usual);
        let all = [(Isa::Avx2, lookup), (Isa::Scalar, lookup), (Isa::Avx2, dot), (Isa::Scalar, dot)];
        assert_eq!(of("s1g128", lookup), all);
        assert_eq!(of("s8g128", dot), all[2..]);
    }

    #[test]
    fn every_width_is_measured() {
        let mut tuning = Tuning::default();
        for bits in CODE_BITS {
            let format = format(bits).expect("a format of each width");
            assert_eq!(format.code_bits(), bits);
            tuning.set(bits, KernelChoice::default());
        }
    }
}
