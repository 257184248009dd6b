//! Folding scales into what comes before changes nothing but the weights, and searching for them helps rounding.

mod hybrids;

use std::collections::HashSet;
use std::path::Path;

use hybrids::HYBRIDS;
use sterna_formats::Checkpoint;
use sterna_model::Layerwise;
use sterna_model::layerwise::{FloatBlock, FloatLinear, LayerwiseScratch};
use sterna_quant::observe::Observations;
use sterna_quant::rounding::{
    Damping, Factor, Gram, Order, Search, TokenWeight, compensate, round_to_nearest,
};
use sterna_quant::scaling::{awq, compensated, folds};
use sterna_tensor::{Compute, PackedFormat, Precision};

/// Grouped heads, norms with an offset, sandwich norms, fused projections, biases, experts.
const CHECKPOINTS: [&str; 7] =
    ["llama_gqa", "gemma3", "phi3_plain", "qwen2", "qwen3", "qwen3_moe", "smollm3"];

fn open(name: &str) -> Layerwise {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints").join(name);
    Layerwise::open(&Checkpoint::open(&dir).unwrap()).unwrap()
}

fn run(network: &Layerwise, c: &Compute, index: usize, block: &FloatBlock, tokens: &[u32]) -> Vec<f32> {
    let runnable = network.runnable(index, block).unwrap();
    let mut stream = network.embed(tokens).unwrap();
    network.run(c, &runnable, &mut LayerwiseScratch::default(), &mut stream, |_, _| {});
    stream.x
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Numbers between a half and two that look random.
fn some_scales(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 * 12.9898).sin() * 43_758.547).fract().exp2()).collect()
}

#[test]
fn folds_change_weights_and_nothing_else() {
    let c = Compute::new(2, Precision::Float);
    for name in CHECKPOINTS.into_iter().chain(HYBRIDS) {
        let network = open(name);
        let tokens: Vec<u32> = (0..24).map(|i| i * 7 % network.spec().vocab_size as u32).collect();
        for (index, spec) in network.spec().blocks.iter().enumerate() {
            let block = network.block(index).unwrap();
            let before = run(&network, &c, index, &block, &tokens);
            let mut scaled = network.block(index).unwrap();
            let folds = folds(spec, &block);
            let least = if CHECKPOINTS.contains(&name) { 4 } else { 1 };
            assert!(folds.len() >= least, "{name}: {folds:?}");
            let mut changed: HashSet<String> = HashSet::new();
            for fold in folds {
                changed.extend(fold.readers.iter().cloned());
                let cols =
                    block.linears().iter().find(|layer| fold.readers.contains(&layer.name)).unwrap().cols;
                let mut scales = some_scales(cols);
                fold.tie(&mut scales);
                fold.apply(&mut scaled, &scales);
            }
            let layers = block.linears().into_iter().zip(scaled.linears());
            for (layer, scaled) in layers.filter(|(layer, _)| changed.contains(&layer.name)) {
                assert_ne!(layer.weight, scaled.weight, "{name}: {}", layer.name);
            }
            let after = run(&network, &c, index, &scaled, &tokens);
            let size = before.iter().fold(0f32, |size, x| size.max(x.abs()));
            let difference = largest_difference(&before, &after);
            assert!(difference < 2e-5 * size, "{name}, block {index}: {difference} of {size}");
        }
    }
}

/// What the layers of `block` read when `tokens` run through it.
fn observe(network: &Layerwise, c: &Compute, block: &FloatBlock, tokens: &[u32]) -> Observations {
    let runnable = network.runnable(0, block).unwrap();
    let mut observations = Observations::new(TokenWeight::Plain);
    let cols_of: Vec<(String, usize)> =
        block.linears().into_iter().map(|layer| (layer.name.clone(), layer.cols)).collect();
    let mut stream = network.embed(tokens).unwrap();
    network.run(c, &runnable, &mut LayerwiseScratch::default(), &mut stream, |layer, input| {
        let cols = cols_of.iter().find(|(name, _)| name == layer).unwrap().1;
        observations.add(c, layer, cols, input, usize::MAX);
    });
    observations
}

/// The error that compensation leaves in `weights` of 3 bits, relative to the outputs.
fn left_by_compensation(c: &Compute, weights: &[f32], gram: &Gram, factor: &Factor) -> f64 {
    let (rows, cols) = (weights.len() / gram.cols(), gram.cols());
    let format = PackedFormat::affine(3, 32).unwrap();
    let importance = gram.diagonal();
    let search = Search::MinMax;
    let mut q = round_to_nearest(weights, rows, cols, format, Some(&importance), search, &c.pool).unwrap();
    compensate(weights, factor, &mut q, c).unwrap();
    let delta: Vec<f32> = weights.iter().zip(q.dequantize(&c.pool)).map(|(w, q)| w - q).collect();
    gram.error(c, &delta) / gram.error(c, weights)
}

#[test]
fn what_compensation_leaves_is_foreseen() {
    let c = Compute::new(2, Precision::Float);
    let format = PackedFormat::affine(3, 32).unwrap();
    let (mut foreseen, mut measured) = (0.0, 0.0);
    for name in CHECKPOINTS {
        let network = open(name);
        let tokens: Vec<u32> = (0..480).map(|i| i * i * 5 % network.spec().vocab_size as u32).collect();
        let mut block = network.block(0).unwrap();
        let mut observations = observe(&network, &c, &block, &tokens[..tokens.len().min(120)]);
        for fold in folds(&network.spec().blocks[0], &block) {
            let layer = fold.readers.last().unwrap();
            let Some(input) = observations.of(&fold.readers[0]) else { continue };
            let mut factor = Factor::new(&input.gram, Damping::Mean(0.1), Order::Importance, &c).unwrap();
            let reader = |block: &FloatBlock| {
                block.linears().into_iter().find(|other| other.name == *layer).unwrap().clone()
            };
            let own = reader(&block);
            let found = compensated::search(&fold, &[(&own, format)], &factor, &c.pool);
            let scaling = &found.scaling;
            assert!(scaling.error_after <= scaling.error_before, "{name}: {scaling:?}");
            let before = left_by_compensation(&c, &own.weight, &input.gram, &factor);
            found.apply(&mut block, &mut observations);
            factor.scaled_by(&found.scales);
            let gram = &observations.of(&fold.readers[0]).unwrap().gram;
            let after = left_by_compensation(&c, &reader(&block).weight, gram, &factor);
            foreseen += (scaling.error_after / scaling.error_before).ln();
            measured += (after / before).ln();
        }
    }
    assert!(foreseen < 0.0 && measured < 0.25 * foreseen, "{foreseen} foreseen, {measured} measured");
}

#[test]
fn scales_that_are_found_do_not_make_rounding_worse() {
    let c = Compute::new(2, Precision::Float);
    for name in CHECKPOINTS {
        let network = open(name);
        let tokens: Vec<u32> = (0..48).map(|i| i * 5 % network.spec().vocab_size as u32).collect();
        let block = network.block(0).unwrap();
        let observations = observe(&network, &c, &block, &tokens);
        let format_of =
            |layer: &FloatLinear| PackedFormat::affine(3, 32).filter(|_| !layer.name.contains("gate_inp"));
        let found = awq::search(&network, 0, &block, &observations, &format_of, &c).unwrap();
        let scalings: Vec<_> = found.into_iter().map(|found| found.scaling).collect();
        assert!(scalings.len() >= 4, "{name}");
        assert!(
            scalings.iter().all(|scaling| scaling.error_after <= scaling.error_before),
            "{name}: {scalings:?}"
        );
        assert!(scalings.iter().any(|scaling| scaling.power > 0.0), "{name}: {scalings:?}");
    }
}
