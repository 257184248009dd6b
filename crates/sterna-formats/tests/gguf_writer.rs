//! GGUF files are written byte for byte as the reference writer does, whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use sterna_formats::gguf::{Entries, Gguf, TensorInfo, Writer};
use sterna_formats::{GgmlType, OtherType, TensorType};
use sterna_tensor::{DType, PackedFormat};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf/tiny.gguf")
}

/// What `make.py` beside the golden file puts in.
fn entries() -> Entries {
    let mut entries = Entries::default();
    entries.push("general.architecture", "test");
    entries.push("text", "ü, 漢字");
    entries.push("bool", &true);
    entries.push("u8", &200u8);
    entries.push("i8", &-100i8);
    entries.push("u16", &60_000u16);
    entries.push("i16", &-30_000i16);
    entries.push("u32", &4_000_000_000u32);
    entries.push("i32", &-2_000_000_000i32);
    entries.push("u64", &(1u64 << 60));
    entries.push("i64", &-(1i64 << 60));
    entries.push("f32", &0.1f32);
    entries.push("f64", &0.1f64);
    entries.push("strings", ["a", "", "ü"].as_slice());
    entries.push("bools", [true, false].as_slice());
    entries.push("i32s", [1i32, -2, 3].as_slice());
    entries.push("f32s", [0.5f32, -1.5].as_slice());
    entries
}

fn info(name: &str, shape: &[usize], ty: TensorType) -> TensorInfo {
    TensorInfo { name: name.to_owned(), shape: shape.to_vec(), ty }
}

fn infos() -> Vec<TensorInfo> {
    vec![
        info("vector", &[10], TensorType::Dense(DType::F32)),
        info("f16.matrix", &[2, 5], TensorType::Dense(DType::F16)),
        info("stack", &[3, 2, 64], TensorType::Ggml(GgmlType::Q4_0)),
        info("q8_0", &[1, 32], TensorType::Ggml(GgmlType::Q8_0)),
    ]
}

/// The data of the tensors, one after the other.
fn data() -> Vec<Vec<u8>> {
    let floats: Vec<f32> = (-5i8..5).map(|i| f32::from(i) / 8.0).collect();
    let counted = |n: usize, step: usize| (0..n).map(|i| (i * step) as u8).collect();
    vec![DType::F32.narrow(&floats), DType::F16.narrow(&floats), counted(216, 7), counted(34, 11)]
}

#[test]
fn every_byte_is_that_of_the_reference_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    let mut writer = Writer::create(&path, &entries(), infos()).unwrap();
    // In pieces of any size.
    data().iter().flat_map(|tensor| tensor.chunks(7)).for_each(|piece| writer.append(piece).unwrap());
    assert!(!path.exists());
    let n_bytes = writer.finish().unwrap();
    let written = fs::read(&path).unwrap();
    assert_eq!(written, fs::read(golden()).unwrap());
    assert_eq!(n_bytes, written.len() as u64);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn metadata_are_taken_over_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy.gguf");
    let origin = Gguf::open(&golden()).unwrap();
    let all = Entries::of(origin.metadata(), |_| true).unwrap();
    let mut writer = Writer::create(&path, &all, infos()).unwrap();
    data().iter().for_each(|tensor| writer.append(tensor).unwrap());
    writer.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(golden()).unwrap());

    let mut some = Entries::of(origin.metadata(), |key| key.starts_with('u')).unwrap();
    some.push("text", "new");
    let read = some.to_metadata("some.gguf").unwrap();
    assert_eq!(read.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["text", "u16", "u32", "u64", "u8"]);
    assert_eq!(read.get::<&str>("text").unwrap(), Some("new"));
    assert_eq!(read.get::<u64>("u64").unwrap(), Some(1 << 60));
}

#[test]
fn nothing_is_left_of_a_file_that_was_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, "before").unwrap();
    let mut writer = Writer::create(&path, &entries(), infos()).unwrap();
    writer.append(&data()[0]).unwrap();
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.ends_with("model.gguf: tensor f16.matrix: expected 20 bytes, found 0"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_no_reader_would_take_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let f32 = TensorType::Dense(DType::F32);
    let refused = |entries: &Entries, tensors: Vec<TensorInfo>| {
        let error = Writer::create(&path, entries, tensors).unwrap_err().to_string();
        assert!(!path.exists() && fs::read_dir(dir.path()).unwrap().count() == 0);
        error
    };
    let none = Entries::default();
    for (tensors, complaint) in [
        (vec![info("", &[1], f32)], "a name of 1 to 1024 bytes"),
        (vec![info("a", &[1], f32), info("a", &[2], f32)], "tensor a: expected one tensor of this name"),
        (vec![info("a", &[], f32)], "tensor a: expected 1 to 4 dimensions"),
        (vec![info("a", &[1; 5], f32)], "tensor a: expected 1 to 4 dimensions"),
        (vec![info("a", &[2, 0], f32)], "tensor a: expected 1 to 4 dimensions"),
        (vec![info("a", &[2, 33], TensorType::Ggml(GgmlType::Q4_0))], "of whole Q4_0 blocks"),
        (
            vec![info("a", &[2, 32], TensorType::Packed(PackedFormat::Q4_0))],
            "tensor a: s4g32 is not supported",
        ),
        (vec![info("a", &[2], TensorType::Other(OtherType::U16))], "tensor a: U16 is not supported"),
    ] {
        let error = refused(&none, tensors);
        assert!(error.contains(complaint), "{error}");
    }
    let mut twice = entries();
    twice.push("u8", &1u8);
    assert!(refused(&twice, infos()).contains("key u8: expected one value, found a second one"));
    let mut aligned = Entries::default();
    aligned.push("general.alignment", &64u32);
    assert!(refused(&aligned, infos()).contains("general.alignment: expected 32"));

    let mut writer = Writer::create(&path, &none, vec![info("a", &[2], f32)]).unwrap();
    let error = writer.append(&[0; 9]).unwrap_err().to_string();
    assert!(error.ends_with("tensor a: expected 8 bytes more, found 9"), "{error}");
    writer.append(&[0; 8]).unwrap();
    assert!(writer.append(&[0]).is_err());
}
