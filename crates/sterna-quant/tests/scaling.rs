//! Folding scales into what comes before changes nothing but the weights, and searching for them helps rounding.

use std::path::Path;

use sterna_formats::Checkpoint;
use sterna_model::Layerwise;
use sterna_model::layerwise::{FloatBlock, FloatLinear, LayerwiseScratch};
use sterna_quant::observe::Observations;
use sterna_quant::rounding::TokenWeight;
use sterna_quant::scaling::awq::scale_block;
use sterna_quant::scaling::folds;
use sterna_tensor::{Compute, PackedFormat, Precision};

/// Grouped heads, norms with an offset, sandwich norms, fused projections, biases, experts.
const CHECKPOINTS: [&str; 7] =
    ["llama_gqa", "gemma3", "phi3_plain", "qwen2", "qwen3", "qwen3_moe", "smollm3"];

fn open(name: &str) -> Layerwise {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints").join(name);
    Layerwise::open(&Checkpoint::open(&dir).unwrap()).unwrap()
}

fn run(network: &Layerwise, c: &Compute, index: usize, block: &FloatBlock, x: &[f32]) -> Vec<f32> {
    let runnable = network.runnable(index, block).unwrap();
    let mut x = x.to_vec();
    network.run(c, &runnable, &mut LayerwiseScratch::default(), &mut x, |_, _| {});
    x
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
    for name in CHECKPOINTS {
        let network = open(name);
        let tokens: Vec<u32> = (0..24).map(|i| i * 7 % network.spec().vocab_size as u32).collect();
        let x = network.embed(&tokens).unwrap();
        for (index, spec) in network.spec().blocks.iter().enumerate() {
            let block = network.block(index).unwrap();
            let before = run(&network, &c, index, &block, &x);
            let mut scaled = network.block(index).unwrap();
            let folds = folds(spec, &block);
            assert!(folds.len() >= 4, "{name}: {folds:?}");
            for fold in folds {
                let cols =
                    block.linears().iter().find(|layer| fold.readers.contains(&layer.name)).unwrap().cols;
                let mut scales = some_scales(cols);
                fold.tie(&mut scales);
                fold.apply(&mut scaled, &scales);
            }
            for (layer, scaled) in block.linears().into_iter().zip(scaled.linears()) {
                assert_ne!(layer.weight, scaled.weight, "{name}: {}", layer.name);
            }
            let after = run(&network, &c, index, &scaled, &x);
            let size = before.iter().fold(0f32, |size, x| size.max(x.abs()));
            let difference = largest_difference(&before, &after);
            assert!(difference < 2e-5 * size, "{name}, block {index}: {difference} of {size}");
        }
    }
}

#[test]
fn scales_that_are_found_do_not_make_rounding_worse() {
    let c = Compute::new(2, Precision::Float);
    for name in CHECKPOINTS {
        let network = open(name);
        let tokens: Vec<u32> = (0..48).map(|i| i * 5 % network.spec().vocab_size as u32).collect();
        let x = network.embed(&tokens).unwrap();
        let mut block = network.block(0).unwrap();
        let runnable = network.runnable(0, &block).unwrap();
        let mut observations = Observations::new(TokenWeight::Plain);
        let cols_of: Vec<(String, usize)> =
            block.linears().into_iter().map(|layer| (layer.name.clone(), layer.cols)).collect();
        network.run(&c, &runnable, &mut LayerwiseScratch::default(), &mut x.clone(), |layer, input| {
            let cols = cols_of.iter().find(|(name, _)| name == layer).unwrap().1;
            observations.add(&c, layer, cols, input, usize::MAX);
        });
        let format_of =
            |layer: &FloatLinear| PackedFormat::affine(3, 32).filter(|_| !layer.name.contains("gate_inp"));
        let scalings = scale_block(&network, 0, &mut block, &mut observations, &format_of, &c).unwrap();
        assert!(scalings.len() >= 4, "{name}");
        assert!(
            scalings.iter().all(|scaling| scaling.error_after <= scaling.error_before),
            "{name}: {scalings:?}"
        );
        assert!(scalings.iter().any(|scaling| scaling.power > 0.0), "{name}: {scalings:?}");
    }
}
