//! Block decoders against vectors of the Python package `gguf`, and packed matrices against the decoders.

use std::path::Path;

use bytes::Bytes;
use sterna_formats::{GgmlType, RowOrder, Tensor, TensorType, ggml};
use sterna_tensor::{Matrix, Pool};

/// Stored blocks and their weights; `tests/fixtures/ggml/make.py` wrote them.
fn vector(ty: GgmlType) -> (Vec<u8>, Vec<f32>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/ggml");
    let read = |extension| {
        let path = dir.join(ty.name().to_lowercase()).with_extension(extension);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let weights = read("f32").as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (read("blocks"), weights)
}

#[track_caller]
fn assert_same_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{what}, weight {i}: {found} and {expected}");
    }
}

/// The vector as a `[rows, cols]` tensor.
fn tensor(ty: GgmlType, rows: usize) -> (Tensor, Vec<f32>) {
    let (blocks, weights) = vector(ty);
    let shape = vec![rows, weights.len() / rows];
    let tensor = Tensor::new("vector", ty.name(), shape, TensorType::Ggml(ty), Bytes::from(blocks)).unwrap();
    (tensor, weights)
}

#[test]
fn dequantizes_as_the_reference_bit_for_bit() {
    for ty in GgmlType::ALL {
        let (blocks, expected) = vector(ty);
        let mut weights = vec![f32::NAN; expected.len()];
        ggml::dequantize(ty, &blocks, &mut weights);
        assert_same_bits(&weights, &expected, ty.name());
    }
}

#[test]
fn matrices_hold_exactly_the_weights() {
    let pool = Pool::new(2);
    for ty in GgmlType::ALL {
        let (tensor, weights) = tensor(ty, 4);
        let matrix = tensor.matrix(RowOrder::AsStored, &pool).unwrap();
        assert_eq!((matrix.rows(), matrix.cols()), (4, 512));
        let is_packed = matches!(matrix, Matrix::Packed(_));
        assert_eq!(is_packed, !matches!(ty, GgmlType::Q2_K | GgmlType::MXFP4), "{ty}");
        for (row, expected) in weights.chunks_exact(512).enumerate() {
            let mut found = vec![f32::NAN; 512];
            matrix.row(row, &mut found);
            assert_same_bits(&found, expected, &format!("{ty}, row {row}"));
        }
    }
}

#[test]
fn half_rotated_order_undoes_the_permutation_of_converters() {
    let pool = Pool::new(1);
    // Two heads of four rows: a converter writes rows 0 1 2 3 of a head as 0 2 1 3.
    let order = RowOrder::HalfRotated { n_heads: 2, head_dim: 4, n_dims: 4 };
    let stored_rows = [0, 2, 1, 3, 4, 6, 5, 7];
    for ty in [GgmlType::Q4_0, GgmlType::Q6_K, GgmlType::TQ1_0, GgmlType::Q2_K, GgmlType::MXFP4] {
        let (tensor, weights) = tensor(ty, 8);
        let matrix = tensor.matrix(order, &pool).unwrap();
        for (row, stored) in stored_rows.into_iter().enumerate() {
            let mut found = vec![f32::NAN; 256];
            matrix.row(row, &mut found);
            assert_same_bits(&found, &weights[stored * 256..][..256], &format!("{ty}, row {row}"));
        }
    }
}

#[test]
fn slices_are_the_rows_they_say() {
    let (tensor, weights) = tensor(GgmlType::Q5_K, 8);
    let rows = tensor.rows(2..5).unwrap();
    assert_eq!(rows.shape, [3, 256]);
    assert_same_bits(&rows.to_f32().unwrap(), &weights[512..1280], "rows 2..5");

    let stack = Tensor::new("vector", "experts", vec![2, 4, 256], tensor.ty, tensor.data).unwrap();
    let expert = stack.at(1).unwrap();
    assert_eq!(expert.shape, [4, 256]);
    assert_same_bits(&expert.to_f32().unwrap(), &weights[1024..], "expert 1");
    assert!(
        stack
            .at(2)
            .unwrap_err()
            .to_string()
            .contains("tensor experts: expected at least 3 rows, found 2 rows")
    );
}
