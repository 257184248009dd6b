//! Quantized checkpoints that do not fit together are refused, by the name of the field or tensor.

mod common;

use bytes::Bytes;
use common::quantized::Stored;
use serde_json::{Value, json};
use sterna_formats::{OtherType, RowOrder, Tensor, TensorType};
use sterna_tensor::{DType, Pool};

const Q: &str = "model.layers.0.self_attn.q_proj";

/// The error of `stored`, which must say all of `parts`.
fn check_refused(stored: Stored, parts: &[&str]) {
    let Err(error) = stored.gather() else { panic!("not refused: {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn configurations_are_refused_by_field_and_value() {
    let section = "/quantization_config";
    let group = "/quantization_config/config_groups/group_0";
    let cases: [(&str, String, Value, &[&str]); 27] = [
        ("awq_gemm", format!("{section}/quant_method"), json!("fp8"), &["quant_method", "awq, gptq", "fp8"]),
        ("awq_gemm", format!("{section}/quant_method"), json!(null), &["quant_method", "missing"]),
        ("awq_gemm", format!("{section}/version"), json!("marlin"), &["version", "gemm or gemv", "marlin"]),
        ("awq_gemm", format!("{section}/bits"), json!(8), &["quantization_config.bits", "4", "8"]),
        ("awq_gemm", format!("{section}/group_size"), json!(0), &["group_size", "above 0"]),
        ("awq_gemm", format!("{section}/group_size"), json!(-2), &["group_size", "-2"]),
        ("awq_gemm", format!("{section}/group_size"), json!(1u64 << 60), &["scales", "[1, 64]", "[3, 64]"]),
        ("awq_gemm", format!("{section}/group_size"), json!(48), &["scales", "[2, 64]", "[3, 64]"]),
        ("awq_gemm", format!("{section}/version"), json!("gemv"), &["scales", "found [3, 64]"]),
        ("awq_gemv", format!("{section}/version"), json!("gemm"), &["scales"]),
        ("awq_gemv", format!("{section}/group_size"), json!(16), &["groups of 32, 64", "of 16"]),
        ("awq_gemm", format!("{section}/quant_method"), json!("gptq"), &["scales", "groups"]),
        ("gptq_v1", section.to_owned(), json!(null), &["quantization_config", "qweight", "missing"]),
        ("gptq_v1", section.to_owned(), json!([4]), &["quantization_config", "an object"]),
        (
            "gptq_v2_as_v1",
            format!("{section}/bits"),
            json!(8),
            &["qweight", "96 inputs of [8] bits", "12 words"],
        ),
        ("gptq_v2_as_v1", format!("{section}/bits"), json!(5), &["bits", "2, 3, 4 or 8"]),
        ("gptq_v2_as_v1", format!("{section}/group_size"), json!(64), &["g_idx", "groups of 64", "of 32"]),
        (
            "gptq_v1",
            format!("{section}/checkpoint_format"),
            json!("gptq_p"),
            &["checkpoint_format", "gptq_p"],
        ),
        (
            "mlx_f16",
            "/quantization/mode".to_owned(),
            json!("mxfp4"),
            &["quantization.mode", "affine", "mxfp4"],
        ),
        ("mlx_f16", "/quantization/bits".to_owned(), json!(7), &["quantization.bits", "7"]),
        ("mlx_f16", "/quantization/group_size".to_owned(), json!(48), &["group_size", "multiple of 32"]),
        ("mlx_f16", "/quantization/group_size".to_owned(), json!(64), &["scales", "[64, 1]", "[64, 2]"]),
        ("mlx_f16", "/quantization/bits".to_owned(), json!(8), &["scales", "shape"]),
        ("compressed_symmetric", format!("{section}/format"), json!("float-quantized"), &["format", "float"]),
        (
            "compressed_symmetric",
            format!("{group}/input_activations"),
            json!({"num_bits": 8}),
            &["group_0.input_activations", "null"],
        ),
        ("compressed_symmetric", format!("{group}/weights/num_bits"), json!(9), &["num_bits", "1 to 8", "9"]),
        (
            "compressed_symmetric",
            format!("{group}/weights/symmetric"),
            json!(false),
            &["weight_packed", "one of the schemes", "no zero points"],
        ),
    ];
    for (name, path, value, parts) in cases {
        let mut stored = Stored::read(name);
        if path.ends_with("mode") {
            stored.config["quantization"]["mode"] = json!("affine");
        }
        check_refused(stored.with(&path, value), parts);
    }
}

#[test]
fn parts_that_are_missing_or_left_over_are_named() {
    for (name, part, said) in [
        ("awq_gemm", "scales", "q_proj.scales is missing"),
        ("awq_gemm", "qzeros", "q_proj.qzeros is missing"),
        ("awq_gemm", "qweight", "expected model.layers.0.self_attn.q_proj.qweight beside it, found it alone"),
        ("gptq_v1", "qzeros", "q_proj.qzeros is missing"),
        ("mlx_f16", "biases", "q_proj.biases is missing"),
        ("mlx_f16", "weight", "q_proj.weight is missing"),
        ("mlx_f16", "scales", "expected model.layers.0.self_attn.q_proj.scales beside it"),
        ("compressed_symmetric", "weight_scale", "q_proj.weight_scale is missing"),
        ("compressed_symmetric", "weight_shape", "q_proj.weight_shape is missing"),
        ("compressed_asymmetric", "weight_zero_point", "q_proj.weight_packed: expected one of the schemes"),
    ] {
        check_refused(Stored::read(name).without(&format!("{Q}.{part}")), &["model.safetensors", said]);
    }
    let mut both = Stored::read("awq_gemm");
    let float = both.tensors.iter().find(|tensor| tensor.name == "lm_head.weight").unwrap().clone();
    both.tensors.push(Tensor { name: format!("{Q}.weight"), ..float });
    check_refused(both, &["q_proj.weight", "expected it quantized or not, found both"]);
}

/// Numbers in place of a tensor's own.
fn integers(values: &[i32]) -> impl FnOnce(&mut Tensor) {
    move |tensor| {
        tensor.data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }
}

#[test]
fn tensors_of_other_types_shapes_and_values_are_named() {
    let as_f32 = |tensor: &mut Tensor| tensor.ty = TensorType::Dense(DType::F32);
    check_refused(
        Stored::read("awq_gemm").changing(&format!("{Q}.qweight"), as_f32),
        &["q_proj.qweight", "I32 or U32", "F32"],
    );
    let as_u8 = |tensor: &mut Tensor| tensor.ty = TensorType::Other(OtherType::U8);
    check_refused(
        Stored::read("gptq_v1").changing(&format!("{Q}.scales"), as_u8),
        &["q_proj.scales", "expected floats, found U8"],
    );
    let cut = |tensor: &mut Tensor| *tensor = tensor.rows(0..1).unwrap();
    for (name, part) in [
        ("awq_gemm", "qzeros"),
        ("awq_gemm", "scales"),
        ("gptq_v1", "qweight"),
        ("gptq_v1", "scales"),
        ("gptq_v1", "qzeros"),
        ("gptq_v1", "g_idx"),
        ("mlx_f16", "scales"),
        ("mlx_f16", "biases"),
        ("compressed_asymmetric", "weight_packed"),
        ("compressed_asymmetric", "weight_shape"),
        ("compressed_asymmetric", "weight_zero_point"),
    ] {
        check_refused(
            Stored::read(name).changing(&format!("{Q}.{part}"), cut),
            &["model.safetensors", Q, "expected", "found"],
        );
    }
    let mut groups = [0; 64];
    for wrong in [2, -1, i32::MAX] {
        groups[40] = wrong;
        let stored = Stored::read("gptq_v1").changing(&format!("{Q}.g_idx"), integers(&groups));
        check_refused(stored, &["q_proj.g_idx", "groups from 0 to 1", &wrong.to_string()]);
    }
    let shape = |values: [i64; 2]| {
        move |tensor: &mut Tensor| {
            tensor.data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
        }
    };
    for wrong in [[0, 64], [-1, 64], [64, i64::MAX], [i64::MAX, 64], [64, 72]] {
        let stored =
            Stored::read("compressed_symmetric").changing(&format!("{Q}.weight_shape"), shape(wrong));
        check_refused(stored, &["q_proj.weight_", "expected", "found"]);
    }
}

#[test]
fn scales_that_are_not_finite_are_found_when_they_are_used() {
    let nan = |tensor: &mut Tensor| {
        let mut data = tensor.data.to_vec();
        let at = data.len() - 2;
        data[at..].copy_from_slice(&half::f16::NAN.to_le_bytes());
        tensor.data = Bytes::from(data);
    };
    for (name, part) in [("awq_gemm", "scales"), ("gptq_v1", "scales"), ("mlx_f16", "biases")] {
        let tensors = Stored::read(name).changing(&format!("{Q}.{part}"), nan).gather().unwrap();
        let tensor = tensors.iter().find(|tensor| tensor.name == format!("{Q}.weight")).unwrap();
        let message = tensor.matrix(RowOrder::AsStored, &Pool::new(1)).unwrap_err().to_string();
        assert!(
            message.ends_with("expected scales of finite weights, found NaN in row 63, group 1"),
            "{message}"
        );
    }
}
