//! Rounding, as its callers see it.

mod data;
mod gptq;
mod moments;

use data::{correlated, difference, normal};
use half::f16;
use proptest::prelude::*;
use sterna_quant::rounding::{Gram, RoundingError, Search, TokenWeight, round_scaled, round_to_nearest};
use sterna_tensor::{Compute, PackedFormat, Precision};

fn formats() -> impl Strategy<Value = PackedFormat> {
    let symmetric = (prop::sample::select(vec![2, 3, 4, 5, 6, 8]), prop::sample::select(vec![32, 64, 128]))
        .prop_map(|(bits, size)| PackedFormat::symmetric(bits, size).unwrap());
    let affine = (2usize..5, prop::sample::select(vec![32, 64, 128]))
        .prop_map(|(bits, size)| PackedFormat::affine(bits, size).unwrap());
    let byte_scales = |format: PackedFormat| format.with_byte_scales().unwrap_or(format);
    prop_oneof![
        symmetric.clone(),
        affine.clone(),
        symmetric.prop_map(byte_scales),
        affine.prop_map(byte_scales)
    ]
}

proptest! {
    #[test]
    fn packing_keeps_what_was_rounded(format in formats(), rows in 1usize..40, cols in 1usize..8, seed: u64) {
        let c = Compute::new(2, Precision::Float);
        let cols = 32 * cols;
        let w = normal(rows * cols, seed);
        for search in [Search::MinMax, Search::Clip] {
            let q = round_to_nearest(&w, rows, cols, format, None, search, &c.pool).unwrap();
            let weights = q.dequantize(&c.pool);
            let packed = q.pack(&c.pool).unwrap();
            let mut row = vec![0.0; cols];
            for (r, weights) in weights.chunks(cols).enumerate() {
                packed.row(r, &mut row);
                prop_assert_eq!(&row[..], weights);
            }
            prop_assert!(q.scales.iter().all(|s| s.is_normal()));
        }
    }

    #[test]
    fn scaling_for_a_moment_is_scaling_and_rounding(
        format in formats(), rows in 1usize..40, cols in 1usize..8, seed: u64
    ) {
        let c = Compute::new(2, Precision::Float);
        let cols = 32 * cols;
        let w = normal(rows * cols, seed);
        let scales: Vec<f32> = normal(cols, seed ^ 1).iter().map(|s| s.abs() + 0.5).collect();
        let scaled: Vec<f32> = w.iter().enumerate().map(|(i, w)| w * scales[i % cols]).collect();
        let importance: Vec<f32> = normal(cols, seed ^ 2).iter().map(|x| x * x).collect();
        let left: Vec<f32> = importance.iter().zip(&scales).map(|(h, scale)| h / (scale * scale)).collect();
        let q = round_to_nearest(&scaled, rows, cols, format, Some(&left), Search::Clip, &c.pool).unwrap();
        let back = |(i, w): (usize, f32)| w * (1.0 / scales[i % cols]);
        let expected: Vec<f32> = q.dequantize(&c.pool).into_iter().enumerate().map(back).collect();
        prop_assert_eq!(round_scaled(&w, format, &scales, &importance, &c.pool).unwrap(), expected);
    }

    #[test]
    fn the_search_never_loses_to_the_whole_range(format in formats(), seed: u64) {
        let c = Compute::new(1, Precision::Float);
        let (rows, cols) = (8, 160);
        let w = normal(rows * cols, seed);
        let importance: Vec<f32> = normal(cols, seed ^ 1).iter().map(|x| x * x).collect();
        let error = |search| {
            let q = round_to_nearest(&w, rows, cols, format, Some(&importance), search, &c.pool).unwrap();
            let cost = |(i, d): (usize, &f32)| f64::from(importance[i % cols]) * f64::from(*d).powi(2);
            difference(&w, &q, &c).iter().enumerate().map(cost).sum::<f64>()
        };
        prop_assert!(error(Search::Clip) <= error(Search::MinMax) * 1.00001);
    }

    #[test]
    fn moments_are_those_of_plain_loops(cols in 1usize..600, n in 1usize..40, seed: u64) {
        let x = normal(n * cols, seed);
        let delta = normal(3 * cols, seed ^ 3);
        let scales: Vec<f32> = normal(cols, seed ^ 4).iter().map(|s| s.abs() + 0.5).collect();
        let outputs = |x: &dyn Fn(usize, usize) -> f32| {
            let output = |d: &[f32], t: usize| (0..cols).map(|j| f64::from(d[j] * x(t, j))).sum::<f64>();
            (0..n).flat_map(|t| delta.chunks(cols).map(move |d| (d, t))).map(|(d, t)| output(d, t).powi(2)).sum::<f64>()
                / n as f64
        };
        let mut results = Vec::new();
        for n_threads in 1..3 {
            let c = Compute::new(n_threads, Precision::Float);
            let mut gram = Gram::new(cols, TokenWeight::Plain);
            let (first, second) = x.split_at(n / 2 * cols);
            gram.add(&c, first);
            gram.add(&c, second);
            prop_assert_eq!(gram.n_tokens(), n);
            let plain = gram.error(&c, &delta);
            let expected = outputs(&|t, j| x[t * cols + j]);
            prop_assert!((plain - expected).abs() <= 1e-4 * expected, "{} {}", plain, expected);
            let diagonal = gram.diagonal();
            gram.scaled_by(&scales);
            let scaled = gram.error(&c, &delta);
            let expected = outputs(&|t, j| x[t * cols + j] / scales[j]);
            prop_assert!((scaled - expected).abs() <= 1e-4 * expected, "{} {}", scaled, expected);
            results.push((plain.to_bits(), scaled.to_bits(), diagonal));
        }
        prop_assert_eq!(&results[0], &results[1]);
    }
}

#[test]
fn zeros_and_tiny_weights_stay_what_they_are() {
    let c = Compute::new(1, Precision::Float);
    for format in ["a4g32", "s4g32", "a2g64", "s8g32"] {
        let format: PackedFormat = format.parse().unwrap();
        for search in [Search::MinMax, Search::Clip] {
            let round = |w: &[f32]| round_to_nearest(w, 1, 64, format, None, search, &c.pool).unwrap();
            assert_eq!(round(&[0.0; 64]).dequantize(&c.pool), [0.0; 64]);
            let tiny: Vec<f32> = normal(64, 1).iter().map(|w| w * 1e-7).collect();
            let q = round(&tiny);
            assert!(q.scales.iter().all(|s| s.is_normal()));
            assert!(difference(&tiny, &q, &c).iter().all(|d| d.abs() <= f16::MIN_POSITIVE.to_f32()));
            let ends: Vec<f32> = (0..64).map(|i| if i % 2 == 0 { 65504.0 } else { -65504.0 }).collect();
            assert!(round(&ends).scales.iter().all(|s| s.is_normal()));
        }
    }
}

#[test]
fn what_cannot_be_rounded_is_refused() {
    let c = Compute::new(1, Precision::Float);
    let format = PackedFormat::affine(4, 32).unwrap();
    let round = |w: &[f32], importance: Option<&[f32]>| {
        round_to_nearest(w, 2, 32, format, importance, Search::Clip, &c.pool)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let mut w = [0.5; 64];
    for bad in [f32::NAN, f32::INFINITY, 1e5] {
        w[33] = bad;
        let expected = format!("weight [1, 1] is {bad}, expected a number between -65504 and 65504");
        assert_eq!(round(&w, None), expected);
    }
    let mut importance = [1.0; 32];
    importance[3] = f32::NAN;
    let expected = "the mean square of input 3 is NaN, expected a finite number";
    assert_eq!(round(&[0.5; 64], Some(&importance)), expected);
    assert_eq!(round(&[0.5; 64], Some(&[1.0; 31])), "moments of 31 inputs for a matrix of 32 columns");
    let pool = &c.pool;
    let wrong = round_to_nearest(&[0.0; 512], 2, 256, PackedFormat::Q4_K, None, Search::MinMax, pool);
    assert_eq!(wrong, Err(RoundingError::Format(PackedFormat::Q4_K)));
    assert!(round_to_nearest(&[0.0; 40], 2, 20, format, None, Search::MinMax, pool).is_err());
}

#[test]
fn sinks_weigh_what_they_are_let() {
    let c = Compute::new(1, Precision::Float);
    let mut x = correlated(32, 64, 5);
    x[..64].iter_mut().for_each(|x| *x *= 1000.0);
    let trace = |weight| {
        let mut gram = Gram::new(64, weight);
        gram.add(&c, &x);
        gram.diagonal().iter().sum::<f32>()
    };
    assert!((trace(TokenWeight::Unit) / 64.0 - 1.0).abs() < 1e-4);
    assert!(trace(TokenWeight::Capped(2.0)) < 1e-3 * trace(TokenWeight::Plain));
    assert_eq!(trace(TokenWeight::Capped(1e9)), trace(TokenWeight::Plain));
}
