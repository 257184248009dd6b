//! The pipeline gives the same codes at any number of threads, many bits cost little, and `auto` is never worse than what it chooses
//! from.

mod hybrids;

use std::collections::BTreeMap;
use std::path::Path;

use hybrids::HYBRIDS;
use sterna_formats::Checkpoint;
use sterna_formats::native::{About, Documents, Writer};
use sterna_model::layerwise::{FloatLinear, vectors_mut};
use sterna_model::{Layerwise, native};
use sterna_quant::pipeline::{Pipeline, Sink};
use sterna_quant::recipe::{Grid, Method, Recipe};
use sterna_quant::rounding::Quantized;
use sterna_quant::{Cost, Result};
use sterna_tensor::{Compute, PackedFormat, Pool, Precision};

const CHECKPOINTS: [&str; 4] = ["llama_gqa", "gemma3", "phi3_plain", "qwen3_moe"];

/// What stays float: routers and what else is small and matters, and here, of low rank, the second halves of adapters.
const FLOATS: [&str; 12] = [
    "adapter_gate_out.weight",
    "adapter_up_out.weight",
    "adapter_q_out.weight",
    "adapter_k_out.weight",
    "adapter_v_out.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "ssm_in_dt.weight",
    "ssm_x.weight",
    "ssm_dt.weight",
    "delta_b.weight",
    "delta_a.weight",
];

#[derive(Debug, Default, PartialEq)]
struct Collected {
    vectors: BTreeMap<String, Vec<f32>>,
    floats: BTreeMap<String, Vec<f32>>,
    matrices: BTreeMap<String, Quantized>,
}

impl Sink for Collected {
    fn vector(&mut self, name: &str, values: &[f32]) -> Result<()> {
        assert!(self.vectors.insert(name.to_owned(), values.to_vec()).is_none(), "{name}");
        Ok(())
    }

    fn float(&mut self, layer: &FloatLinear) -> Result<()> {
        assert!(self.floats.insert(layer.name.clone(), layer.weight.clone()).is_none(), "{}", layer.name);
        Ok(())
    }

    fn matrix(&mut self, name: &str, matrix: &Quantized) -> Result<()> {
        assert!(self.matrices.insert(name.to_owned(), matrix.clone()).is_none(), "{name}");
        Ok(())
    }
}

/// What became of a checkpoint, the relative error of each layer of its first block, and what it cost.
fn quantize(
    name: &str,
    method: Method,
    bits: usize,
    n_threads: usize,
) -> (Collected, BTreeMap<String, f64>, Cost) {
    quantize_network(name, &open(name), method, bits, n_threads)
}

fn open(name: &str) -> Layerwise {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints").join(name);
    Layerwise::open(&Checkpoint::open(&dir).unwrap()).unwrap()
}

fn quantize_network(
    name: &str,
    network: &Layerwise,
    method: Method,
    bits: usize,
    n_threads: usize,
) -> (Collected, BTreeMap<String, f64>, Cost) {
    let grid = Grid::new(bits, 32, bits > 4).unwrap();
    let recipe = Recipe { method, body: grid, embedding: grid, head: grid, layers: BTreeMap::new() };
    let vocab_size = network.spec().vocab_size as u32;
    let text: Vec<Vec<u32>> =
        (0..4).map(|s| (0..40).map(|i| (i * i + 31 * s) % vocab_size).collect()).collect();
    let compute = Compute::new(n_threads, Precision::Float);
    let mut pipeline = Pipeline::new(network, &recipe, &text[..3], &text[3..], &compute).unwrap();
    let (mut collected, mut errors) = (Collected::default(), BTreeMap::new());
    for index in 0..network.spec().blocks.len() {
        let report = pipeline.block(index, &mut collected).unwrap();
        if index == 0 {
            errors = report.errors.into_iter().collect();
        }
    }
    let cost = pipeline.ends(&mut collected).unwrap().expect("text was held out");
    assert!(cost.n_tokens == 40 && cost.same_top <= 1.0 && cost.divergence > 1e-7, "{name}: {cost:?}");
    (collected, errors, cost)
}

#[test]
fn threads_do_not_change_a_bit() {
    for name in CHECKPOINTS.into_iter().chain(HYBRIDS) {
        for method in [Method::Rtn, Method::Auto] {
            let (one, ..) = quantize(name, method, 4, 1);
            let (two, ..) = quantize(name, method, 4, 2);
            assert!(one == two, "{name}, {method:?}");
            assert!(one.matrices.len() >= 7 && one.vectors.contains_key("output_norm.weight"), "{name}");
            let is_known = |layer: &String| FLOATS.iter().any(|kept| layer.ends_with(kept));
            assert!(one.floats.keys().all(is_known), "{name}: {:?}", one.floats.keys());
        }
    }
}

/// Weights are random, so few bits change everything, by up to four nats at three; eight do not.
#[test]
fn eight_bits_cost_little() {
    for name in CHECKPOINTS.into_iter().chain(HYBRIDS) {
        let (.., cost) = quantize(name, Method::Rtn, 8, 2);
        let most = if name == "zamba2_adapter" { 0.2 } else { 0.03 };
        assert!(cost.divergence < most && cost.same_top > 0.7, "{name}: {cost:?}");
    }
}

#[test]
fn auto_is_at_least_as_good_as_awq() {
    for name in CHECKPOINTS.into_iter().chain(HYBRIDS) {
        for bits in [4, 3] {
            let (_, awq, _) = quantize(name, Method::Awq, bits, 2);
            let (_, auto, _) = quantize(name, Method::Auto, bits, 2);
            assert_eq!(awq.len(), auto.len());
            for (layer, error) in &auto {
                let most = awq[layer] * (1.0 + 1e-4);
                assert!(*error <= most, "{name}, {bits} bits, {layer}: {error} after {}", awq[layer]);
            }
            assert!(auto.values().sum::<f64>() < awq.values().sum::<f64>(), "{name}, {bits} bits");
        }
    }
}

const METHODS: [Method; 4] = [Method::Rtn, Method::Awq, Method::Gptq, Method::Auto];

/// The norms of all blocks as they are in the checkpoint.
fn norms(network: &Layerwise) -> BTreeMap<String, Vec<f32>> {
    let of_block = |index| {
        let mut block = network.block(index).unwrap();
        let vectors = vectors_mut(&mut block, index).into_iter();
        vectors.map(|(name, values)| (name, values.clone())).collect::<Vec<_>>()
    };
    let last = ("output_norm.weight".to_owned(), network.final_norm().to_vec());
    (0..network.spec().blocks.len()).flat_map(of_block).chain([last]).collect()
}

#[test]
fn ternary_layers_are_left_alone() {
    for name in ["bitnet_online", "bitnet_packed"] {
        let network = open(name);
        for method in METHODS {
            let (collected, _, cost) = quantize(name, method, 8, 2);
            assert_eq!(collected.vectors, norms(&network), "{name}, {method:?}");
            assert!(collected.matrices.keys().eq(["token_embd.weight"]) && collected.floats.is_empty());
            // Of the head alone.
            assert!(cost.divergence < 0.01 && cost.same_top > 0.9, "{name}, {method:?}: {cost:?}");
        }
    }
}

/// Values, which read what ternary queries and keys read, and the last matrix of a block, which reads what no other does.
#[test]
fn layers_beside_ternary_ones_are_rounded() {
    let is_float = |name: &str| name.contains("attn_v") || name.contains("ffn_down");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints/bitnet_packed");
    let (origin, place) = (Checkpoint::open(&dir).unwrap(), tempfile::tempdir().unwrap());
    let path = place.path().join("mixed.sterna");
    let mut writer = Writer::create(&path, &Documents::of(&origin).unwrap()).unwrap();
    for tensor in native::tensors(&origin).unwrap() {
        match tensor
            .ternary(PackedFormat::ternary, &Pool::new(1))
            .unwrap()
            .filter(|_| !is_float(&tensor.name))
        {
            Some(weights) => weights.write(&tensor.name, &mut writer).unwrap(),
            None => writer.add_f32(&tensor.name, &tensor.shape(), &tensor.load().unwrap()).unwrap(),
        }
    }
    writer.finish(&About::default()).unwrap();
    let network = Layerwise::open(&Checkpoint::open(&path).unwrap()).unwrap();
    for method in METHODS {
        let (collected, errors, _) = quantize_network("mixed", &network, method, 3, 2);
        assert_eq!(collected.vectors, norms(&network), "{method:?}");
        assert!(collected.floats.is_empty() && collected.matrices.len() == 1 + 2 * 3, "{method:?}");
        let observed = errors.keys().all(|layer| is_float(layer)) && errors.len() == 2;
        assert!(observed || method == Method::Rtn, "{method:?}: {errors:?}");
    }
}
