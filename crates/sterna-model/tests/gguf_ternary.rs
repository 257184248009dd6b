//! The ternary types of GGUF files: whichever holds the weights of a BitNet, inputs are rounded per token.

mod common;

use common::gguf::GgufWriter;
use sterna_formats::{Checkpoint, TensorType};
use sterna_model::spec::{Projections, TernaryStorage};
use sterna_model::{KvType, LoadOptions, Logits, Model, Reference, Spec, State, Workspace, forward};
use sterna_tensor::{Compute, PackedFormat, Precision};

/// Width of everything, and the weights of a TQ2_0 block.
const WIDTH: usize = 256;
/// A power of two, so that it does not matter where it is multiplied.
const SCALE: f32 = 0.25;
const TOKENS: [u32; 6] = [1, 5, 2, 2, 7, 3];

/// Numbers of types in tensor tables.
const TQ1_0: u32 = 34;
const TQ2_0: u32 = 35;
const I2_S: u32 = 36;

fn codes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (((i + seed) * 2_654_435_761) >> 7) as u8 % 3).collect()
}

/// Blocks of two runs of 32 bytes, each with four fields of 32 columns, and the scale.
fn tq2_0(codes: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for block in codes.as_chunks::<WIDTH>().0 {
        for run in block.as_chunks::<128>().0 {
            data.extend((0..32).map(|j| (0..4).map(|field| run[32 * field + j] << (2 * field)).sum::<u8>()));
        }
        data.extend(half::f16::from_f32(SCALE).to_le_bytes());
    }
    data
}

/// Bytes of five codes, the last four of four, each a fraction to the base 3; and the scale.
fn tq1_0(codes: &[u8]) -> Vec<u8> {
    let byte = |codes: [u8; 5]| {
        let number = codes.iter().fold(0, |number, &code| 3 * number + u32::from(code));
        (256 * number).div_ceil(243) as u8
    };
    let mut data = Vec::new();
    for block in codes.as_chunks::<WIDTH>().0 {
        data.extend((0..32).map(|j| byte(std::array::from_fn(|t| block[32 * t + j]))));
        data.extend((0..16).map(|j| byte(std::array::from_fn(|t| block[160 + 16 * t + j]))));
        let last = |j| byte(std::array::from_fn(|t| if t < 4 { block[240 + 4 * t + j] } else { 0 }));
        data.extend((0..4).map(last));
        data.extend(half::f16::from_f32(SCALE).to_le_bytes());
    }
    data
}

/// Runs of 32 bytes with four fields, and one scale behind them all.
fn i2_s(codes: &[u8]) -> Vec<u8> {
    let run = |run: &[u8; 128]| {
        let run = *run;
        (0..32).map(move |j| (0..4).map(|field| run[32 * field + j] << (6 - 2 * field)).sum::<u8>())
    };
    let runs = codes.as_chunks().0.iter().flat_map(run);
    runs.chain(SCALE.to_le_bytes()).chain([0; 28]).collect()
}

fn bitnet(ty: u32, factor: Option<f32>) -> Checkpoint {
    network("bitnet-b1.58", ty, factor)
}

/// A network of one block with weights of the type `ty`, and maybe a factor on those of each matrix.
fn network(architecture: &str, ty: u32, factor: Option<f32>) -> Checkpoint {
    let mut file = GgufWriter::default();
    file.str("general.architecture", architecture);
    let sizes = [("block_count", 1), ("context_length", 32), ("embedding_length", WIDTH as u32)];
    let heads =
        [("feed_forward_length", WIDTH as u32), ("attention.head_count", 4), ("attention.head_count_kv", 2)];
    for (key, value) in sizes.into_iter().chain(heads) {
        file.u32(&format!("{architecture}.{key}"), value);
    }
    file.f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5);
    file.f32(&format!("{architecture}.rope.freq_base"), 1e4);
    let embedding: Vec<f32> = (0..8 * WIDTH).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    file.tensor("token_embd.weight", &[8, WIDTH], &embedding);
    file.tensor("output_norm.weight", &[WIDTH], &[1.0; WIDTH]);
    let norms = ["attn_norm", "ffn_norm", "attn_sub_norm", "ffn_sub_norm"];
    for norm in &norms[..if architecture == "llama" { 2 } else { 4 }] {
        file.tensor(&format!("blk.0.{norm}.weight"), &[WIDTH], &[1.0; WIDTH]);
    }
    let rows = [("attn_q", WIDTH), ("attn_k", WIDTH / 2), ("attn_v", WIDTH / 2), ("attn_output", WIDTH)];
    let wide = ["ffn_gate", "ffn_up", "ffn_down"].map(|name| (name, WIDTH));
    for (seed, (name, rows)) in rows.into_iter().chain(wide).enumerate() {
        let codes = codes(rows * WIDTH, seed);
        let data = match ty {
            TQ1_0 => tq1_0(&codes),
            TQ2_0 => tq2_0(&codes),
            _ => i2_s(&codes),
        };
        file.stored(&format!("blk.0.{name}.weight"), &[rows, WIDTH], ty, &data);
        if let Some(factor) = factor {
            file.tensor(&format!("blk.0.{name}.scale"), &[1], &[factor]);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    Checkpoint::open(&file.write(dir.path())).unwrap()
}

fn logits(checkpoint: &Checkpoint, precision: Precision) -> Vec<f32> {
    let compute = Compute::new(1, precision);
    let model = Model::load(checkpoint, &LoadOptions::default(), &compute).unwrap();
    let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
    forward(&model, &compute, &mut state, &mut workspace, &TOKENS, Logits::All).unwrap().to_vec()
}

#[test]
fn the_same_weights_give_the_same_bits_in_any_type() {
    let whole = bitnet(I2_S, None);
    let oracle = |checkpoint: &Checkpoint| Reference::load(checkpoint).unwrap().forward(&TOKENS).unwrap();
    for ty in [TQ1_0, TQ2_0] {
        let blocks = bitnet(ty, None);
        for checkpoint in [&blocks, &whole] {
            let projections = Spec::of(checkpoint).unwrap().projections;
            assert_eq!(projections, Projections::Ternary { storage: TernaryStorage::ByType });
        }
        assert_eq!(oracle(&blocks), oracle(&whole));
        for precision in [Precision::Int8, Precision::Float] {
            assert_eq!(logits(&blocks, precision), logits(&whole, precision), "{precision:?}");
        }
    }
}

#[test]
fn native_files_keep_them_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let bitnets = [(I2_S, None), (TQ1_0, None), (TQ2_0, None), (TQ2_0, Some(0.7))]
        .map(|(ty, factor)| bitnet(ty, factor));
    // The rows of queries and keys are permuted there.
    let llama = network("llama", I2_S, None);
    for origin in bitnets.into_iter().chain([llama]) {
        for of_group in [PackedFormat::ternary, PackedFormat::trits] {
            let native = common::native::ternary(&origin, dir.path(), "model.sterna", of_group);
            let format = of_group(WIDTH).unwrap();
            assert_eq!(native.tensor("blk.0.ffn_up.weight").unwrap().ty, TensorType::Ternary(format));
            assert_eq!(Spec::of(&native).unwrap(), Spec::of(&origin).unwrap());
            let oracles = [&origin, &native].map(|it| Reference::load(it).unwrap().forward(&TOKENS).unwrap());
            assert_eq!(oracles[0], oracles[1], "{format}: the oracle");
            for precision in [Precision::Int8, Precision::Float] {
                assert_eq!(logits(&origin, precision), logits(&native, precision), "{format}, {precision:?}");
            }
        }
    }
}
