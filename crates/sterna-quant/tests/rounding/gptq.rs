//! Rounding that makes up for what it lost.

use sterna_quant::rounding::{
    Damping, Factor, Gram, Grids, Order, Quantized, Refit, RoundingError, Search, TokenWeight, compensate,
    gptq, refit, round_to_nearest,
};
use sterna_tensor::{Compute, PackedFormat, Precision};

use crate::data::{correlated, difference, normal};

struct Problem {
    weights: Vec<f32>,
    rows: usize,
    cols: usize,
    gram: Gram,
    x: Vec<f32>,
}

fn problem(rows: usize, cols: usize, seed: u64, c: &Compute) -> Problem {
    let x = correlated(3 * cols, cols, seed);
    let mut gram = Gram::new(cols, TokenWeight::Plain);
    gram.add(c, &x);
    Problem { weights: normal(rows * cols, seed ^ 99), rows, cols, gram, x }
}

impl Problem {
    fn error(&self, q: &Quantized, c: &Compute) -> f64 {
        self.gram.error(c, &difference(&self.weights, q, c))
    }

    fn gptq(&self, format: PackedFormat, order: Order, grids: Grids, c: &Compute) -> Quantized {
        let factor = Factor::new(&self.gram, Damping::default(), order, c).unwrap();
        gptq(&self.weights, self.rows, format, &factor, grids, Search::Clip, c).unwrap()
    }

    fn nearest(&self, format: PackedFormat, c: &Compute) -> Quantized {
        let importance = self.gram.diagonal();
        let Problem { ref weights, rows, cols, .. } = *self;
        round_to_nearest(weights, rows, cols, format, Some(&importance), Search::Clip, &c.pool).unwrap()
    }
}

/// Algorithm 1 of the GPTQ paper: the upper Cholesky factor of the inverse of `h`, in `f64`, and the rest of the
/// weights moved after each column.
fn published(
    h: &[f64],
    order: &[usize],
    weights: &[f32],
    scales: &[f32],
    zeros: &[f32],
    largest: f32,
) -> Vec<u8> {
    let n = order.len();
    let mut inverse = vec![0.0; n * n];
    // Gauss and Jordan on [H | I], rows and columns in order.
    let mut work: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let row = (0..n).map(|j| h[order[i] * n + order[j]]);
            row.chain((0..n).map(|j| f64::from(i == j))).collect()
        })
        .collect();
    for i in 0..n {
        let pivot = work[i][i];
        work[i].iter_mut().for_each(|v| *v /= pivot);
        let row = work[i].clone();
        for (k, other) in work.iter_mut().enumerate() {
            let factor = other[i];
            if k != i {
                other.iter_mut().zip(&row).for_each(|(v, r)| *v -= factor * r);
            }
        }
    }
    for i in 0..n {
        inverse[i * n..][..n].copy_from_slice(&work[i][n..]);
    }
    // inverse = Uᵀ U
    let mut u = vec![0.0f64; n * n];
    for i in 0..n {
        for j in i..n {
            let sum: f64 = (0..i).map(|k| u[k * n + i] * u[k * n + j]).sum();
            let rest = inverse[i * n + j] - sum;
            u[i * n + j] = if i == j { rest.sqrt() } else { rest / u[i * n + i] };
        }
    }
    let mut w: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
    let mut codes = vec![0; n];
    for i in 0..n {
        let col = order[i];
        let (scale, zero) = (f64::from(scales[col]), f64::from(zeros[col]));
        let code = (w[col] / scale + zero).round_ties_even().clamp(0.0, f64::from(largest));
        codes[col] = code as u8;
        let error = (w[col] - scale * (code - zero)) / u[i * n + i];
        for j in i + 1..n {
            w[order[j]] -= error * u[i * n + j];
        }
    }
    codes
}

#[test]
fn codes_are_those_of_the_published_algorithm() {
    let c = Compute::new(2, Precision::Float);
    for (format, seed) in [("a4g32", 1), ("a3g128", 2), ("s4g64", 3), ("a2g32", 4)] {
        let format: PackedFormat = format.parse().unwrap();
        let (rows, cols) = (3, 160);
        let problem = problem(rows, cols, seed, &c);
        let n = problem.x.len() / cols;
        let mut h = vec![0.0f64; cols * cols];
        for x in problem.x.chunks(cols) {
            for (i, row) in h.chunks_mut(cols).enumerate() {
                let at = f64::from(x[i]) / n as f64;
                row.iter_mut().zip(x).for_each(|(h, x)| *h += at * f64::from(*x));
            }
        }
        let mean = (0..cols).map(|i| h[i * cols + i]).sum::<f64>() / cols as f64;
        for i in 0..cols {
            let at = &mut h[i * cols + i];
            *at += if *at == 0.0 { 1.0 } else { 0.01 * mean };
        }
        for order in [Order::Columns, Order::Importance] {
            let q = problem.gptq(format, order, Grids::Static, &c);
            let mut columns: Vec<usize> = (0..cols).collect();
            if order == Order::Importance {
                let diagonal = problem.gram.diagonal();
                columns.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
            }
            let size = format.group_size().unwrap();
            let n_groups = cols.div_ceil(size);
            for row in 0..rows {
                let group = |col: usize| row * n_groups + col / size;
                let scales: Vec<f32> = (0..cols).map(|col| q.scales[group(col)].to_f32()).collect();
                let zero = |col| f32::from(*q.zero_points.get(group(col)).unwrap_or(&format.zero()));
                let zeros: Vec<f32> = (0..cols).map(zero).collect();
                let weights = &problem.weights[row * cols..][..cols];
                let largest = f32::from(format.largest_code());
                let expected = published(&h, &columns, weights, &scales, &zeros, largest);
                assert_eq!(&q.codes[row * cols..][..cols], expected, "{format}, {order:?}, row {row}");
            }
        }
    }
}

#[test]
fn it_loses_less_than_rounding_to_nearest() {
    let c = Compute::new(2, Precision::Float);
    for format in ["a4g128", "a3g32", "s4g32", "a2g64", "s3g256", "s8g32"] {
        let format: PackedFormat = format.parse().unwrap();
        for (order, grids) in [
            (Order::Columns, Grids::Static),
            (Order::Columns, Grids::Entered),
            (Order::Importance, Grids::Static),
        ] {
            let mut ratios = Vec::new();
            for seed in 0..5 {
                let problem = problem(40, 288, 10 + seed, &c);
                let nearest = problem.error(&problem.nearest(format, &c), &c);
                ratios.push(problem.error(&problem.gptq(format, order, grids, &c), &c) / nearest);
            }
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            assert!(mean < 0.9, "{format}, {order:?}, {grids:?}: {ratios:?}");
            assert!(ratios.iter().all(|&ratio| ratio < 1.05), "{format}, {order:?}, {grids:?}: {ratios:?}");
        }
    }
}

#[test]
fn threads_do_not_show() {
    let run = |n_threads| {
        let c = Compute::new(n_threads, Precision::Float);
        let problem = problem(150, 320, 5, &c);
        let format = PackedFormat::affine(4, 64).unwrap();
        [(Order::Columns, Grids::Entered), (Order::Importance, Grids::Static)]
            .map(|(order, grids)| problem.gptq(format, order, grids, &c))
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn static_grids_can_be_given() {
    let c = Compute::new(1, Precision::Float);
    let problem = problem(10, 192, 6, &c);
    let format = PackedFormat::affine(3, 64).unwrap();
    let factor = Factor::new(&problem.gram, Damping::Own(0.01), Order::Columns, &c).unwrap();
    let weights = &problem.weights;
    let expected = gptq(weights, 10, format, &factor, Grids::Static, Search::Clip, &c).unwrap();
    let mut q = problem.nearest(format, &c);
    compensate(weights, &factor, &mut q, &c).unwrap();
    assert_eq!(q, expected);
    let other =
        Factor::new(&Gram::new(32, TokenWeight::Plain), Damping::default(), Order::Columns, &c).unwrap();
    let wrong = compensate(weights, &other, &mut q, &c);
    assert_eq!(wrong, Err(RoundingError::Inputs { expected: 192, found: 32 }));
}

#[test]
fn a_scaled_factor_is_that_of_scaled_inputs() {
    let c = Compute::new(1, Precision::Float);
    let mut problem = problem(10, 352, 6, &c);
    let scales: Vec<f32> = (0..352).map(|i| (i as f32 * 0.37).sin().exp2()).collect();
    let (format, damping) = (PackedFormat::affine(3, 32).unwrap(), Damping::Own(0.1));
    let mut scaled = Factor::new(&problem.gram, damping, Order::Columns, &c).unwrap();
    scaled.scaled_by(&scales);
    problem.gram.scaled_by(&scales);
    let fresh = Factor::new(&problem.gram, damping, Order::Columns, &c).unwrap();
    let pairs = scaled.diagonal().into_iter().zip(fresh.diagonal()).zip(problem.gram.diagonal());
    // What damping adds to inputs that are always zero does not matter.
    for ((scaled, fresh), _) in pairs.filter(|(_, moment)| *moment > 0.0) {
        assert!((scaled - fresh).abs() < 1e-3 * fresh, "{scaled} is not {fresh}");
    }
    let errors = [scaled, fresh].map(|factor| {
        let mut q = problem.nearest(format, &c);
        compensate(&problem.weights, &factor, &mut q, &c).unwrap();
        refit(&problem.weights, &problem.gram, &factor, &mut q, Refit::default(), &c).unwrap();
        problem.error(&q, &c)
    });
    assert!((errors[0] / errors[1] - 1.0).abs() < 0.01, "{errors:?}");
}

#[test]
fn dead_inputs_and_few_tokens_do_no_harm() {
    let c = Compute::new(1, Precision::Float);
    let format = PackedFormat::affine(4, 32).unwrap();
    let weights = normal(4 * 64, 3);
    // No input at all: rounding to nearest.
    let mut gram = Gram::new(64, TokenWeight::Plain);
    let round = |gram: &Gram| {
        let factor = Factor::new(gram, Damping::default(), Order::Columns, &c)?;
        gptq(&weights, 4, format, &factor, Grids::Static, Search::MinMax, &c)
    };
    let nearest = round_to_nearest(&weights, 4, 64, format, None, Search::MinMax, &c.pool).unwrap();
    assert_eq!(round(&gram).unwrap(), nearest);
    // One token: moments of rank 1.
    gram.add(&c, &correlated(1, 64, 4));
    assert!(round(&gram).is_ok());
    let mut factor = Factor::new(&gram, Damping::Mean(0.0), Order::Columns, &c).unwrap();
    assert!(factor.damping() != Damping::Mean(0.0), "no factor without damping");
    factor = Factor::new(&gram, Damping::Own(0.1), Order::Columns, &c).unwrap();
    assert_eq!(factor.damping(), Damping::Own(0.1));
    let mut x = vec![1.0; 64];
    x[5] = f32::INFINITY;
    gram.add(&c, &x);
    let found = round(&gram).unwrap_err();
    assert_eq!(found, RoundingError::Moment { col: 5, value: f32::INFINITY });
}

#[test]
fn refitting_never_makes_it_worse() {
    let c = Compute::new(2, Precision::Float);
    for format in ["a4g128", "a3g32", "s4g32", "a2g96", "s3g320", "s8g64", "a4g512"] {
        let format: PackedFormat = format.parse().unwrap();
        for seed in 0..3 {
            let problem = problem(70, 352, 30 + seed, &c);
            let factor = Factor::new(&problem.gram, Damping::Mean(0.0), Order::Columns, &c).unwrap();
            let starts = [
                problem.nearest(format, &c),
                problem.gptq(format, Order::Columns, Grids::Entered, &c),
                problem.gptq(format, Order::Importance, Grids::Static, &c),
            ];
            for (i, start) in starts.into_iter().enumerate() {
                for (grids, codes) in [(true, false), (false, true), (true, true)] {
                    let mut q = start.clone();
                    let mut error = problem.error(&q, &c);
                    let first = error;
                    for sweep in 0..3 {
                        let options = Refit { grids, codes, n_sweeps: 1 };
                        refit(&problem.weights, &problem.gram, &factor, &mut q, options, &c).unwrap();
                        let after = problem.error(&q, &c);
                        let case = format!("{format}, start {i}, {grids}, {codes}, sweep {sweep}");
                        assert!(after <= error * 1.0001, "{case}: {error} became {after}");
                        error = after;
                    }
                    assert!(error < first, "{format}, start {i}: nothing gained");
                    assert!(q.scales.iter().all(|s| s.is_normal()));
                    assert!(q.pack(&c.pool).is_ok());
                }
            }
        }
    }
}

#[test]
fn refitting_is_the_same_on_any_number_of_threads() {
    let run = |n_threads| {
        let c = Compute::new(n_threads, Precision::Float);
        let problem = problem(150, 320, 8, &c);
        let mut q = problem.nearest(PackedFormat::affine(3, 64).unwrap(), &c);
        let factor = Factor::new(&problem.gram, Damping::Mean(0.1), Order::Columns, &c).unwrap();
        refit(&problem.weights, &problem.gram, &factor, &mut q, Refit::default(), &c).unwrap();
        q
    };
    assert_eq!(run(1), run(2));
}
