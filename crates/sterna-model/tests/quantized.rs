//! A checkpoint that another tool has quantized is the network of the weights that it stands for.

mod common;

use std::path::Path;

use common::{max_difference, native};
use sterna_formats::Checkpoint;
use sterna_model::layerwise::LayerwiseScratch;
use sterna_model::{KvType, Layerwise, LoadOptions, Logits, Model, Reference, State, Workspace, forward};
use sterna_tensor::{Compute, Precision};

const NAMES: [&str; 12] = [
    "awq_gemm",
    "awq_gemm_rows",
    "awq_gemv",
    "gptq_v1",
    "gptq_v1_asymmetric",
    "gptq_v2_asymmetric",
    "gptq_v2_as_v1",
    "gptq_act_order",
    "compressed_symmetric",
    "compressed_asymmetric",
    "mlx_f16",
    "mlx_bf16",
];

const IDS: [u32; 9] = [1, 7, 63, 0, 12, 12, 40, 33, 5];

fn open(name: &str) -> Checkpoint {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/quantized");
    Checkpoint::open(&fixtures.join(name)).unwrap()
}

fn logits(checkpoint: &Checkpoint, precision: Precision) -> Vec<f32> {
    let compute = Compute::new(2, precision);
    let model = Model::load(checkpoint, &LoadOptions::default(), &compute).unwrap();
    let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
    forward(&model, &compute, &mut state, &mut workspace, &IDS, Logits::All).unwrap().to_vec()
}

#[test]
fn logits_are_those_of_the_dequantized_network() {
    let dir = tempfile::tempdir().unwrap();
    for name in NAMES {
        let quantized = open(name);
        let floats = native::in_floats(&quantized, dir.path(), "floats.sterna");
        let oracles = [&quantized, &floats].map(|it| Reference::load(it).unwrap().forward(&IDS).unwrap());
        assert_eq!(oracles[0], oracles[1], "{name}: the oracle");
        let spread = oracles[0].iter().fold(0.0, |max: f32, logit| max.max(logit.abs()));
        assert!(spread > 1.0, "{name}: {spread}");
        for (precision, room) in [(Precision::Float, 1e-4), (Precision::Int8, 0.05)] {
            let difference = max_difference(&logits(&quantized, precision), &oracles[0]);
            assert!(difference <= room * spread, "{name}: {precision:?} differs by {difference} of {spread}");
        }
    }
}

#[test]
fn a_quantizer_reads_the_weights_that_are_meant() {
    let c = Compute::new(1, Precision::Float);
    for name in ["awq_gemm", "gptq_act_order", "mlx_bf16"] {
        let quantized = open(name);
        let layerwise = Layerwise::open(&quantized).unwrap();
        let (mut stream, mut scratch) = (layerwise.embed(&IDS).unwrap(), LayerwiseScratch::default());
        let block = layerwise.block(0).unwrap();
        let runnable = layerwise.runnable(0, &block).unwrap();
        layerwise.run(&c, &runnable, &mut scratch, &mut stream, |_, _| {});

        let model = Model::load(&quantized, &LoadOptions::default(), &c).unwrap();
        let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
        let mut difference = f32::NAN;
        let mut tap = |site: sterna_model::Site, values: &[f32]| {
            if let sterna_model::Site::Block(0) = site {
                difference = max_difference(&stream.x, values);
            }
        };
        let logits = Logits::Last;
        sterna_model::forward_tapped(&model, &c, &mut state, &mut workspace, &IDS, logits, Some(&mut tap))
            .unwrap();
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}
