//! Checkpoints that AutoAWQ, GPTQModel, MLX and compressed-tensors have packed, against their own weights.

mod common;

use common::quantized::{Stored, directory};
use serde_json::json;
use sterna_formats::hf::read_safetensors;
use sterna_formats::{Checkpoint, RowOrder, Tensor, TensorType, mapped};
use sterna_tensor::{Matrix, Pool};

/// Every fifth row of every quantized matrix.
fn expected(name: &str) -> Vec<Tensor> {
    let path = directory(name).join("expected.safetensors");
    read_safetensors(&path, &mapped::open(&path).unwrap()).unwrap()
}

/// How a matrix is held in memory.
fn held(matrix: &Matrix) -> String {
    match matrix {
        Matrix::Packed(matrix) => matrix.format().to_string(),
        Matrix::Dense(matrix) => matrix.dtype().to_string(),
    }
}

/// Fails at the first weight that is off by more than `room`.
fn check(found: &[f32], expected: &[f32], room: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= room, "{what}, weight {i}: {found}, expected {expected}");
    }
}

fn rows_of(matrix: &Matrix) -> Vec<f32> {
    let mut out = vec![0.0; matrix.rows() * matrix.cols()];
    out.chunks_mut(matrix.cols()).enumerate().for_each(|(row, out)| matrix.row(row, out));
    out
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const K: &str = "model.layers.0.self_attn.k_proj.weight";
const V: &str = "model.layers.0.self_attn.v_proj.weight";
const O: &str = "model.layers.0.self_attn.o_proj.weight";
const GATE: &str = "model.layers.0.mlp.gate_proj.weight";
const UP: &str = "model.layers.0.mlp.up_proj.weight";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A tensor, how it is described, and how it is held.
type Described = (&'static str, &'static str, &'static str);

const CHECKPOINTS: [(&str, &[Described]); 13] = [
    ("awq_gemm", &[(Q, "AWQ 4-bit g32", "a4g32"), (DOWN, "AWQ 4-bit g32", "a4g32")]),
    ("awq_gemm_rows", &[(Q, "AWQ 4-bit g64", "a4g64"), (DOWN, "AWQ 4-bit g96", "a4g96")]),
    ("awq_gemv", &[(Q, "AWQ 4-bit g32", "a4g32"), (DOWN, "AWQ 4-bit g32", "a4g32")]),
    (
        "gptq_v1",
        &[
            (Q, "GPTQ 4-bit g32", "s4g32"),
            (K, "GPTQ 2-bit g32", "s2g32"),
            (V, "GPTQ 3-bit g32", "s3g32"),
            (GATE, "GPTQ 8-bit g32", "s8g32"),
        ],
    ),
    (
        "gptq_v1_asymmetric",
        &[
            (Q, "GPTQ 4-bit g32", "a4g32"),
            (K, "GPTQ 2-bit g32", "a2g32"),
            (V, "GPTQ 3-bit g32", "a3g32"),
            (GATE, "GPTQ 8-bit g32", "w8g32"),
        ],
    ),
    ("gptq_v2_asymmetric", &[(Q, "GPTQ 4-bit g32", "a4g32")]),
    ("gptq_v2_as_v1", &[(Q, "GPTQ 4-bit g32", "s4g32")]),
    ("gptq_act_order", &[(Q, "GPTQ 4-bit act-order", "F32")]),
    (
        "compressed_symmetric",
        &[(Q, "CT 4-bit g32", "s4g32"), (V, "CT 4-bit g32", "w4g32"), (DOWN, "CT 8-bit g96", "s8g96")],
    ),
    (
        "compressed_asymmetric",
        &[
            (Q, "CT 4-bit g32", "a4g32"),
            (V, "CT 4-bit g32", "w4g32"),
            (O, "CT 4-bit act-order", "F32"),
            (DOWN, "CT 8-bit g96", "w8g96"),
        ],
    ),
    (
        "mlx_f16",
        &[
            (EMBEDDING, "MLX 4-bit g32", "m4g32"),
            (Q, "MLX 2-bit g32", "m2g32"),
            (K, "MLX 3-bit g32", "m3g32"),
            (V, "MLX 5-bit g32", "m5g32"),
            (O, "MLX 6-bit g32", "m6g32"),
            (GATE, "MLX 8-bit g32", "m8g32"),
            (UP, "MLX 4-bit g64", "m4g64"),
        ],
    ),
    (
        "mlx_bf16",
        &[
            (EMBEDDING, "MLX 4-bit g32", "w4g32"),
            (Q, "MLX 4-bit g32", "m4g32"),
            (DOWN, "MLX 8-bit g32", "m8g32"),
        ],
    ),
    ("mlx_f32", &[(EMBEDDING, "MLX 4-bit g32", "w4g32"), (UP, "MLX 4-bit g64", "w4g64")]),
];

#[test]
fn weights_are_those_of_the_tool_that_made_them() {
    let pool = Pool::new(2);
    for (name, described) in CHECKPOINTS {
        let checkpoint = Checkpoint::open(&directory(name)).unwrap();
        let expected = expected(name);
        let n_quantized =
            checkpoint.tensors().filter(|tensor| matches!(tensor.ty, TensorType::Quantized(_))).count();
        assert_eq!(n_quantized, expected.len(), "{name}");
        for expected in &expected {
            let tensor = checkpoint.tensor(&expected.name).unwrap();
            let (cols, what) = (tensor.shape[1], format!("{name} {}", tensor.name));
            let all = tensor.to_f32().unwrap();
            let fifths = |all: &[f32]| all.chunks(cols).step_by(5).flatten().copied().collect::<Vec<f32>>();
            // Products of f32 scales are rounded by MLX, and here only with the minimum added.
            let room = if name == "mlx_f32" { 1e-7 } else { 0.0 };
            check(&fifths(&all), &expected.to_f32().unwrap(), room, &what);
            let matrix = tensor.matrix(RowOrder::AsStored, &pool).unwrap();
            check(&rows_of(&matrix), &all, 0.0, &what);
        }
        for (tensor, ty, format) in described {
            let tensor = checkpoint.tensor(tensor).unwrap();
            assert_eq!(tensor.ty.to_string(), *ty, "{name} {}", tensor.name);
            let matrix = tensor.matrix(RowOrder::AsStored, &pool).unwrap();
            assert_eq!(held(&matrix), *format, "{name} {}", tensor.name);
        }
    }
}

#[test]
fn rows_are_cut_and_reordered_like_those_of_any_tensor() {
    let pool = Pool::new(1);
    for name in ["awq_gemm", "gptq_v1", "gptq_act_order", "mlx_bf16"] {
        let checkpoint = Checkpoint::open(&directory(name)).unwrap();
        let tensor = checkpoint.tensor(Q).unwrap();
        let (cols, all) = (tensor.shape[1], tensor.to_f32().unwrap());
        let part = tensor.rows(9..40).unwrap();
        assert_eq!(part.shape, [31, cols]);
        assert_eq!(part.to_f32().unwrap(), all[9 * cols..40 * cols]);
        let inner = part.rows(3..5).unwrap().matrix(RowOrder::AsStored, &pool).unwrap();
        assert_eq!(rows_of(&inner), all[12 * cols..14 * cols]);
        assert!(part.rows(0..32).is_err());
        let order = RowOrder::HalfRotated { n_heads: 2, head_dim: 32, n_dims: 32 };
        let reordered = rows_of(&tensor.matrix(order, &pool).unwrap());
        for (row, found) in reordered.chunks(cols).enumerate() {
            assert_eq!(found, &all[order.stored_row(row) * cols..][..cols], "{name} row {row}");
        }
        assert!(tensor.n_bytes() > tensor.data.len());
        assert!(part.n_bytes() < tensor.n_bytes() / 2);
    }
}

#[test]
fn stacked_experts_of_mlx_are_a_matrix_each() {
    const STACK: &str = "model.layers.0.mlp.switch_mlp.down_proj";
    let stored = Stored::read("mlx_f16");
    let whole = stored.clone().gather().unwrap();
    let whole = whole.iter().find(|tensor| tensor.name == DOWN).unwrap().to_f32().unwrap();
    let mut stacked = stored;
    for part in ["weight", "scales", "biases"] {
        let tensor = stacked.tensors.iter_mut().find(|tensor| tensor.name == DOWN.replace("weight", part));
        let tensor = tensor.unwrap();
        // Two experts of half of the rows.
        tensor.name = format!("{STACK}.{part}");
        tensor.shape = vec![2, tensor.shape[0] / 2, tensor.shape[1]];
    }
    let tensors = stacked.clone().gather().unwrap();
    for expert in 0..2 {
        let name = format!("model.layers.0.mlp.experts.{expert}.down_proj.weight");
        let tensor = tensors.iter().find(|tensor| tensor.name == name).unwrap();
        assert_eq!(tensor.shape, [32, 96]);
        assert_eq!(tensor.to_f32().unwrap(), whole[expert * 32 * 96..][..32 * 96]);
    }
    let elsewhere = |tensor: &mut Tensor| tensor.shape = vec![1, tensor.shape[0], tensor.shape[1]];
    let odd = Stored::read("mlx_f16").changing(Q, elsewhere).gather().unwrap_err().to_string();
    assert!(odd.contains("q_proj.weight: expected two dimensions"), "{odd}");
    let uneven = |tensor: &mut Tensor| *tensor = tensor.rows(0..1).unwrap();
    let uneven = stacked.changing(&format!("{STACK}.scales"), uneven).gather().unwrap_err().to_string();
    assert!(uneven.contains("switch_mlp.down_proj.scales: expected at least 2 rows"), "{uneven}");
}

#[test]
fn a_folder_of_auto_gptq_describes_itself_in_a_file_of_its_own() {
    let from = directory("gptq_v2_as_v1");
    let to = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let section = config.as_object_mut().unwrap().remove("quantization_config").unwrap();
    std::fs::write(to.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(from.join("model.safetensors"), to.path().join("gptq_model-4bit-32g.safetensors")).unwrap();
    let error = Checkpoint::open(to.path()).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("quantization_config"), "{error}");
    let beside = to.path().join("quantize_config.json");
    std::fs::write(&beside, json!({"bits": 5, "group_size": 32}).to_string()).unwrap();
    let error = Checkpoint::open(to.path()).unwrap_err().to_string();
    assert!(error.contains("quantize_config.json: bits"), "{error}");
    std::fs::write(&beside, section.to_string()).unwrap();
    let [expected, found] = [from.as_path(), to.path()].map(|dir| Checkpoint::open(dir).unwrap());
    let weights = |checkpoint: &Checkpoint| checkpoint.tensor(Q).unwrap().to_f32().unwrap();
    assert_eq!(weights(&found), weights(&expected));
}
