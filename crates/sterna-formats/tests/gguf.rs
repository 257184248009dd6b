//! GGUF files: what a right one gives, and what each wrong one is told.

mod common;

use std::fs;

use bytes::Bytes;
use common::gguf::{ARRAY, BOOL, Builder, F32, STRING, U32, U64, array, string};
use sterna_formats::gguf::{Gguf, Value};
use sterna_formats::{GgmlType, RowOrder, TensorType};
use sterna_tensor::{DType, Pool};

/// Ids of tensor types.
const TENSOR_F32: u32 = 0;
const TENSOR_Q4_0: u32 = 2;
const TENSOR_I2_S: u32 = 36;

fn parse(builder: &Builder) -> sterna_formats::Result<Gguf> {
    Gguf::parse("model.gguf", Bytes::from(builder.build()))
}

#[track_caller]
fn assert_refused(builder: &Builder, parts: &[&str]) {
    let message = parse(builder).unwrap_err().to_string();
    for part in ["model.gguf: "].iter().chain(parts) {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

/// The four weights 1, 2, 3, 4.
fn floats() -> Vec<u8> {
    (1..=4).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

#[test]
fn reads_metadata_and_tensors() {
    for version in [2, 3] {
        let mut builder = Builder::new()
            .string("general.architecture", "llama")
            .u32("llama.block_count", 30)
            .entry("llama.rope.freq_base", F32, &1e4f32.to_le_bytes())
            .entry("flag", BOOL, &[1])
            .entry("wide", U64, &(1u64 << 40).to_le_bytes())
            .strings("tokens", &["a", "", "ü"])
            .entry("scores", ARRAY, &array(F32, 2, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]))
            .entry("empty", ARRAY, &array(U32, 0, &[]))
            .entry(
                "nested",
                ARRAY,
                &array(ARRAY, 2, &[array(U32, 0, &[]), array(U32, 1, &[7, 0, 0, 0])].concat()),
            )
            .tensor("norm", &[4], TENSOR_F32, &floats())
            .tensor("weight", &[2, 2], TENSOR_F32, &floats())
            .tensor("packed", &[64, 1, 1], TENSOR_Q4_0, &[0; 36]);
        builder.version = version;
        let gguf = parse(&builder).unwrap();

        let metadata = gguf.metadata();
        assert_eq!(metadata.require::<&str>("general.architecture").unwrap(), "llama");
        assert_eq!(metadata.require::<usize>("llama.block_count").unwrap(), 30);
        assert_eq!(metadata.require::<i32>("llama.block_count").unwrap(), 30);
        assert_eq!(metadata.require::<f32>("llama.rope.freq_base").unwrap(), 1e4);
        assert!(metadata.require::<bool>("flag").unwrap());
        assert_eq!(metadata.require::<u64>("wide").unwrap(), 1 << 40);
        assert_eq!(metadata.require::<Vec<&str>>("tokens").unwrap(), ["a", "", "ü"]);
        assert_eq!(metadata.require::<Vec<f32>>("scores").unwrap(), [1.0, -2.0]);
        assert_eq!(metadata.require::<Vec<u32>>("empty").unwrap(), Vec::<u32>::new());
        assert_eq!(metadata.require::<Vec<&str>>("empty").unwrap(), [""; 0]);
        assert!(matches!(metadata.value("nested"), Some(Value::Array(nested)) if nested.len() == 2));
        assert_eq!(metadata.get::<u32>("absent").unwrap(), None);
        assert_eq!(metadata.iter().count(), 9);

        let names: Vec<&str> = gguf.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["norm", "weight", "packed"]);
        let weight = gguf.tensor("weight").unwrap();
        assert_eq!((weight.shape.as_slice(), weight.ty), (&[2, 2][..], TensorType::Dense(DType::F32)));
        assert_eq!(weight.to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let packed = gguf.tensor("packed").unwrap();
        assert_eq!((packed.shape.as_slice(), packed.ty), (&[1, 1, 64][..], TensorType::Ggml(GgmlType::Q4_0)));
    }
}

#[test]
fn matrices_of_i2_s_end_in_their_scale() {
    let data = [&[0b00_01_10_01; 32][..], &0.5f32.to_le_bytes(), &[0xff; 28]].concat();
    let gguf = parse(&Builder::new().tensor("w", &[64, 2], TENSOR_I2_S, &data)).unwrap();
    let weight = gguf.tensor("w").unwrap();
    assert_eq!((weight.shape.as_slice(), weight.ty, weight.n_bytes()), (&[2, 64][..], TensorType::I2S, 64));
    assert_eq!(weight.ty.to_string(), "I2_S");
    let expected = [[-0.5; 32], [0.0; 32], [0.5; 32], [0.0; 32]];
    assert_eq!(weight.to_f32().unwrap(), expected.concat());
    assert!(weight.rows(0..1).is_err() && weight.matrix(RowOrder::AsStored, &Pool::new(1)).is_err());

    // The innermost dimension comes first in the file.
    for (shape, data) in [(&[64, 1][..], &data[..48]), (&[128][..], &data[..]), (&[64, 1, 2][..], &data[..])]
    {
        let builder = Builder::new().tensor("w", shape, TENSOR_I2_S, data);
        assert_refused(&builder, &["tensor w", "I2_S"]);
    }
    // Without its tail the tensor reaches beyond the file.
    let builder = Builder::new().tensor("w", &[64, 2], TENSOR_I2_S, &data[..32]);
    assert_refused(&builder, &["tensor w", "expected data up to byte 64", "32 bytes of tensor data"]);
}

#[test]
fn metadata_errors_name_key_expected_and_found() {
    let builder = Builder::new()
        .string("name", "llama")
        .u32("count", 7)
        .entry("wide", U64, &(1u64 << 40).to_le_bytes())
        .entry("bytes", STRING, &string(&[0xff]))
        .entry("tokens", ARRAY, &array(STRING, 2, &[string(b"a"), string(&[0xff])].concat()))
        .entry("scores", ARRAY, &array(F32, 1, &[0; 4]));
    let gguf = parse(&builder).unwrap();
    let metadata = gguf.metadata();
    let message = |error: sterna_formats::FormatError| error.to_string();
    assert_eq!(
        message(metadata.require::<u32>("name").unwrap_err()),
        "model.gguf: key name: expected a u32, found the string \"llama\""
    );
    assert_eq!(
        message(metadata.get::<&str>("count").unwrap_err()),
        "model.gguf: key count: expected a string, found the integer 7"
    );
    assert_eq!(
        message(metadata.get::<u32>("wide").unwrap_err()),
        "model.gguf: key wide: expected a u32, found the integer 1099511627776"
    );
    assert!(message(metadata.get::<&str>("bytes").unwrap_err()).contains("not UTF-8"));
    assert!(
        message(metadata.get::<Vec<&str>>("tokens").unwrap_err())
            .contains("found element 1, which is not UTF-8")
    );
    assert_eq!(
        message(metadata.get::<Vec<u32>>("scores").unwrap_err()),
        "model.gguf: key scores: expected an array of u32, found element 0: the float 0"
    );
    assert_eq!(
        message(metadata.get::<Vec<f32>>("tokens").unwrap_err()),
        "model.gguf: key tokens: expected an array of floats, found an array of 2 string values"
    );
    assert_eq!(message(metadata.require::<u32>("absent").unwrap_err()), "model.gguf: key absent is missing");
}

#[test]
fn refuses_wrong_headers() {
    let mut builder = Builder::new();
    builder.magic = *b"GGJT";
    assert_refused(&builder, &["magic: expected \"GGUF\", found \"GGJT\""]);
    for (version, found) in
        [(1, "GGUF version 1"), (4, "GGUF version 4"), (3 << 24, "big-endian GGUF (version 3)")]
    {
        let mut builder = Builder::new();
        builder.version = version;
        assert_refused(&builder, &["version: ", found, "not supported"]);
    }
    for count in [1, 1 << 60, u64::MAX] {
        let mut builder = Builder::new();
        builder.n_entries = Some(count);
        assert_refused(&builder, &["metadata_kv_count: expected a count of at most 0", &count.to_string()]);
        let mut builder = Builder::new();
        builder.n_tensors = Some(count);
        assert_refused(&builder, &["tensor_count: expected a count of at most 0", &count.to_string()]);
    }
}

#[test]
fn refuses_wrong_metadata() {
    let refused = |builder: Builder, parts: &[&str]| assert_refused(&builder.u32("last", 0), parts);
    let entry = |ty, value: &[u8]| Builder::new().entry("k", ty, value);
    refused(Builder::new().u32("", 1), &["key of metadata entry 0: expected 1 to 1024 bytes, found 0"]);
    refused(Builder::new().u32(&"k".repeat(1025), 1), &["key of metadata entry 0", "found 1025"]);
    refused(Builder::new().u32("k", 1).u32("k", 2), &["key k: expected one value, found a second one"]);
    refused(entry(13, &[0]), &["key k: expected a value type from 0 to 12, found 13"]);
    refused(
        entry(STRING, &u64::MAX.to_le_bytes()),
        &["key k: expected a count of at most", &u64::MAX.to_string()],
    );
    refused(entry(ARRAY, &array(99, 0, &[])), &["key k: expected a value type", "found 99"]);
    for element in [U32, U64, BOOL, STRING, ARRAY] {
        for len in [1 << 20, 1 << 60, u64::MAX] {
            let parts = ["key k: expected a count of at most", &len.to_string()];
            refused(entry(ARRAY, &array(element, len, &[])), &parts);
        }
    }
    let nested = (0..100).fold(array(U32, 0, &[]), |inner, _| array(ARRAY, 1, &inner));
    refused(entry(ARRAY, &nested), &["key k: expected arrays nested at most 8 deep"]);
    for alignment in [0, 3, 48, 1 << 30] {
        let builder = Builder::new().u32("general.alignment", alignment);
        refused(builder, &["key general.alignment: expected a power of two", &alignment.to_string()]);
    }
    refused(
        Builder::new().string("general.alignment", "32"),
        &["key general.alignment: expected an unsigned integer"],
    );
}

#[test]
fn refuses_wrong_tensors() {
    let with = |dims: &[u64], ty, offset| {
        Builder::new().tensor("a", &[4], TENSOR_F32, &floats()).table_entry("b", dims, ty, offset)
    };
    let refused = |dims: &[u64], ty, offset, parts: &[&str]| assert_refused(&with(dims, ty, offset), parts);
    refused(&[], TENSOR_F32, 32, &["tensor b: expected 1 to 4 dimensions, found 0"]);
    refused(&[1; 5], TENSOR_F32, 32, &["tensor b: expected 1 to 4 dimensions, found 5"]);
    refused(&[4, 0], TENSOR_F32, 32, &["tensor b: expected dimensions from 1 on, found 0"]);
    for dims in [[1 << 60, 1 << 60], [1 << 32, 1 << 32], [u64::MAX, 1], [1 << 62, 2]] {
        refused(&dims, TENSOR_F32, 32, &["tensor b: ", "a size that can be counted", "F32"]);
    }
    refused(&[33], TENSOR_Q4_0, 32, &["tensor b: expected rows that are a multiple of 32", "Q4_0 [33]"]);
    refused(&[4], 16, 32, &["tensor b: tensor type IQ2_XXS is not supported"]);
    refused(&[4], 4, 32, &["tensor b: tensor type 4 is not supported"]);
    refused(&[4], u32::MAX, 32, &["tensor b: tensor type 4294967295 is not supported"]);
    refused(&[4], TENSOR_F32, 33, &["tensor b: expected an offset aligned to 32, found 33"]);
    refused(
        &[16],
        TENSOR_F32,
        u64::MAX - 31,
        &["tensor b: expected an offset with 64 bytes after it", "18446744073709551584"],
    );
    refused(
        &[4],
        TENSOR_F32,
        0,
        &["tensor b: expected data after those of a, which end at 16, found offset 0"],
    );
    refused(&[4], TENSOR_F32, 32, &["tensor b: expected data up to byte 48", "found 32 bytes", "truncated"]);
    refused(&[4], TENSOR_F32, 1 << 40, &["tensor b: expected data up to byte", "truncated"]);

    let twice =
        Builder::new().tensor("a", &[4], TENSOR_F32, &floats()).tensor("a", &[4], TENSOR_F32, &floats());
    assert_refused(&twice, &["tensor a: expected one tensor of this name, found a second one"]);
    let unnamed = Builder::new().tensor("", &[4], TENSOR_F32, &floats());
    assert_refused(&unnamed, &["name of tensor 0: expected 1 to 1024 bytes, found 0"]);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = Builder::new()
        .string("name", "x")
        .strings("tokens", &["a", "b"])
        .tensor("a", &[8], TENSOR_F32, &[0; 32])
        .build();
    Gguf::parse("whole", Bytes::from(bytes.clone())).unwrap();
    for len in 0..bytes.len() {
        let error = Gguf::parse("cut.gguf", Bytes::copy_from_slice(&bytes[..len])).unwrap_err();
        assert!(error.to_string().starts_with("cut.gguf: "), "{len} bytes: {error}");
    }
}

/// Shard `number` of `count` with one tensor, as it is written by `gguf-split`.
fn shard(number: u16, count: u16, tensor: &str) -> Vec<u8> {
    const U16: u32 = 2;
    Builder::new()
        .u32("number_of_this_shard", number.into())
        .entry("split.no", U16, &number.to_le_bytes())
        .entry("split.count", U16, &count.to_le_bytes())
        .u32("split.tensors.count", 2)
        .tensor(tensor, &[4], TENSOR_F32, &floats())
        .build()
}

#[test]
fn shards_are_opened_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = |number: usize| dir.path().join(format!("my-model-{number:05}-of-00002.gguf"));
    fs::write(path(1), shard(0, 2, "a")).unwrap();
    let missing = Gguf::open(&path(1)).unwrap_err().to_string();
    assert!(missing.contains("my-model-00002-of-00002.gguf: "), "{missing}");

    fs::write(path(2), shard(1, 2, "b")).unwrap();
    for first in [1, 2] {
        let gguf = Gguf::open(&path(first)).unwrap();
        let names: Vec<&str> = gguf.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(gguf.metadata().require::<u32>("number_of_this_shard").unwrap(), 0);
    }

    let refused = |second: Vec<u8>, part: &str| {
        fs::write(path(2), second).unwrap();
        let message = Gguf::open(&path(1)).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    };
    refused(shard(1, 2, "a"), "tensor a: expected one tensor of this name, found one more in another shard");
    refused(shard(0, 2, "b"), "00002-of-00002.gguf: key split.no: expected 1, found 0");
    refused(shard(1, 3, "b"), "00002-of-00002.gguf: key split.count: expected 2, found 3");

    let renamed = dir.path().join("renamed.gguf");
    fs::write(&renamed, shard(0, 2, "a")).unwrap();
    let message = Gguf::open(&renamed).unwrap_err().to_string();
    assert!(message.contains("file name: expected …-00001-of-00002.gguf"), "{message}");
}
