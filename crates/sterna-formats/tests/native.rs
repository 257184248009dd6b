//! Native files: what is written is read back, from either kind of origin; what is wrong is refused by name; and no
//! half a file is ever left.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::gguf::Builder;
use common::native::{DATA_START, directory, file, part};
use serde_json::{Value, json};
use sterna_formats::native::{About, Document, Documents, Kind, Native, Writer, verify};
use sterna_formats::{Checkpoint, Config, FormatError, RowOrder, Special, TensorType, Tokenizer};
use sterna_tensor::{DType, PackedFormat, PackedMatrix, Pool};

const F32: TensorType = TensorType::Dense(DType::F32);

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn tokenizer_json() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/byte_level.json")
}

/// The documents of a small Hugging Face directory.
fn documents() -> Documents {
    let document =
        |name: &str, bytes: &[u8]| Document { name: name.to_owned(), bytes: bytes.to_vec().into() };
    let list = vec![
        document("config.json", br#"{"model_type": "llama", "hidden_size": 64}"#),
        document("tokenizer.json", &fs::read(tokenizer_json()).unwrap()),
        document("tokenizer_config.json", br#"{"chat_template": "not this one"}"#),
        document("chat_template.jinja", b"{{ messages }}"),
        document("generation_config.json", br#"{"eos_token_id": [3, 5], "temperature": 0.25}"#),
    ];
    Documents { kind: Kind::Hf, list }
}

fn about() -> About {
    About {
        origin: "somewhere/model".to_owned(),
        license: Some("MIT".to_owned()),
        recipe: json!({"method": "rtn", "bits": 8}),
        quality: json!({"kl": 0.125}),
    }
}

/// Bytes of a packed matrix of 17 x 64.
fn packed(format: PackedFormat) -> Vec<u8> {
    (0..format.n_bytes(17, 64).unwrap()).map(|i| (i % 63) as u8).collect()
}

/// Writes a file with a vector, a matrix and a packed matrix.
fn write(path: &Path) {
    let format = PackedFormat::affine(4, 128).unwrap();
    let mut writer = Writer::create(path, &documents()).unwrap();
    writer.add_f32("norm", &[3], &[1.0, 2.0, 3.0]).unwrap();
    writer.add("router", &[2, 2], TensorType::Dense(DType::F16), &[0, 60, 0, 64, 0, 66, 0, 68]).unwrap();
    let matrix = PackedMatrix::from_bytes(format, 17, 64, packed(format).into()).unwrap();
    writer.add_packed("w", &matrix).unwrap();
    writer.finish(&about()).unwrap();
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sterna");
    write(&path);
    let checkpoint = Checkpoint::open(&path).unwrap();

    let Config::Hf(config) = checkpoint.config() else { panic!("config.json") };
    assert_eq!(config.view().usize("hidden_size").unwrap(), 64);
    assert_eq!(checkpoint.chat_template().unwrap().unwrap(), "{{ messages }}");
    assert_eq!(checkpoint.generation_config().unwrap().eos_token_ids, [3, 5]);
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint).unwrap();
    let expected = Tokenizer::from_file(&tokenizer_json()).unwrap();
    let text = "Hello, wörld";
    assert_eq!(tokenizer.encode(text, Special::Text).unwrap(), expected.encode(text, Special::Text).unwrap());

    let native = checkpoint.native().unwrap();
    assert_eq!(native.version(), sterna_formats::native::VERSION);
    assert_eq!(native.about().unwrap(), about());
    assert_eq!(native.documents().list, documents().list);
    assert_eq!(Documents::of(&checkpoint).unwrap().list, documents().list);

    assert_eq!(checkpoint.tensor("norm").unwrap().to_f32().unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!(checkpoint.tensor("router").unwrap().to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let format = PackedFormat::affine(4, 128).unwrap();
    let w = checkpoint.tensor("w").unwrap();
    assert_eq!((w.ty, w.ty.to_string().as_str()), (TensorType::Packed(format), "a4g128"));
    let expected = PackedMatrix::from_bytes(format, 17, 64, packed(format).into()).unwrap();
    let matrix = w.matrix(RowOrder::AsStored, &Pool::new(1)).unwrap();
    let (mut a, mut b) = ([0.0; 64], [0.0; 64]);
    for row in 0..17 {
        expected.row(row, &mut a);
        matrix.row(row, &mut b);
        assert_eq!(a, b);
    }
    for tensor in checkpoint.tensors() {
        assert!(tensor.data.as_ptr().addr().is_multiple_of(64), "{} is aligned", tensor.name);
    }
    assert!(verify(&path).unwrap() > tokenizer_json().metadata().unwrap().len());
}

#[test]
fn a_directory_or_another_name_will_do() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("model.sterna"));
    assert!(Checkpoint::open(dir.path()).unwrap().native().is_some());
    fs::rename(dir.path().join("model.sterna"), dir.path().join("model.bin")).unwrap();
    assert!(Checkpoint::open(&dir.path().join("model.bin")).unwrap().native().is_some());
}

#[test]
fn the_metadata_of_gguf_files_are_kept_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = Builder::new()
        .string("general.architecture", "llama")
        .string("tokenizer.chat_template", "{{ x }}")
        .u32("llama.block_count", 2)
        .strings("tokenizer.ggml.tokens", &["<s>", "a", "ä"])
        .tensor("w", &[2], 0, &[0; 8])
        .build();
    let path = dir.path().join("origin.gguf");
    fs::write(&path, &gguf).unwrap();
    let origin = Checkpoint::open(&path).unwrap();
    let documents = Documents::of(&origin).unwrap();
    assert_eq!(documents.kind, Kind::Gguf);
    let metadata = documents.get("metadata.gguf").unwrap();
    assert_eq!(metadata[24..], gguf[24..metadata.len()]);

    let path = dir.path().join("model.sterna");
    let mut writer = Writer::create(&path, &documents).unwrap();
    writer.add("v", &[1], F32, &[0; 4]).unwrap();
    writer.finish(&About::default()).unwrap();
    let native = Checkpoint::open(&path).unwrap();
    let (Config::Gguf(a), Config::Gguf(b)) = (origin.config(), native.config()) else { panic!("GGUF") };
    assert!(a.iter().eq(b.iter()));
    assert_eq!(native.chat_template().unwrap().unwrap(), "{{ x }}");
    assert_eq!(native.tensors().len(), 1);
    assert_eq!(native.native().unwrap().about().unwrap(), About::default());
}

#[test]
fn every_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sterna");
    write(&path);
    let good = fs::read(&path).unwrap();
    let message = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        verify(&path).unwrap_err().to_string()
    };
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let place = |piece: &[u8]| good.windows(piece.len()).position(|window| window == piece).unwrap();
    let in_norm = flipped(place(&floats(&[1.0, 2.0, 3.0])) + 5);
    assert!(message(&in_norm).contains("tensor norm: expected contents with the SHA-256"));
    let in_config = flipped(place(b"hidden_size"));
    assert!(message(&in_config).contains("document config.json"));
    let in_recipe = flipped(place(b"\"rtn\""));
    assert!(message(&in_recipe).contains("recipe"));
    let in_directory = flipped(good.len() - 1);
    assert!(message(&in_directory).contains("directory: expected the checksum in the header"));
    // The minor version may be any, and the four bytes after it mean nothing yet.
    for at in (0..10).chain(16..64) {
        assert!(Native::parse("model.sterna", flipped(at).into()).is_err(), "bit of byte {at}");
    }
    for len in [0, 7, 63, 64, 4095, 4096, good.len() / 2, good.len() - 1] {
        assert!(Native::parse("model.sterna", good[..len].to_vec().into()).is_err(), "the first {len} bytes");
    }
}

#[test]
fn newer_files_are_refused_or_overlooked_by_their_version() {
    let mut of_tomorrow = directory(&[]);
    of_tomorrow["a new field"] = json!([1, {"deep": [2]}]);
    let parse = |version| Native::parse("new.sterna", file(version, &[], &of_tomorrow.to_string()).into());
    assert_eq!(parse((1, 7)).unwrap().0.version(), (1, 7));
    for version in [(2, 0), (0, 9), (u16::MAX, 0)] {
        let error = parse(version).unwrap_err();
        assert!(matches!(error, FormatError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("this program reads version 1"), "{error}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let at = DATA_START as u64;
    let one = |ty: &str, shape: Value, data: Value| directory(&[("w", ty, shape, data)]);
    let max = u64::MAX;
    for (directory, parts) in [
        (one("f32", json!([4]), part(at + 4, 16)), ["tensor w", "multiple of 64"]),
        (one("F32", json!([4]), part(0, 16)), ["tensor w", "between 4096 and 4352"]),
        (one("F32", json!([64]), part(at + 128, 256)), ["tensor w", "between 4096 and 4352"]),
        (one("F32", json!([4]), part(max - 63, 16)), ["tensor w", "offset 18446744073709551552"]),
        (one("F32", json!([4]), part(at, max)), ["tensor w", "4096"]),
        (one("F32", json!([4]), part(max, max)), ["tensor w", "multiple of 64"]),
        (one("F32", json!([5]), part(at, 16)), ["tensor w", "20 bytes for F32"]),
        (one("F32", json!([1u64 << 62, 4]), part(at, 16)), ["tensor w", "can be counted"]),
        (one("F32", json!([1u64 << 62, 0]), part(at, 0)), ["tensor w", "from 1 on"]),
        (one("F32", json!([1, 1, 1, 1, 1]), part(at, 4)), ["tensor w", "at most 4 dimensions"]),
        (one("a4g128", json!([64]), part(at, 64)), ["tensor w", "a4g128"]),
        (one("a4g128", json!([1, 33]), part(at, 64)), ["tensor w", "a4g128"]),
        (one("a4g128", json!([1, 32]), part(at, 64)), ["tensor w", "bytes for a4g128 [1, 32]"]),
        (one("a4g128", json!([max, max]), part(at, 64)), ["tensor w", "can be counted"]),
        (one("a9g128", json!([16, 32]), part(at, 64)), ["tensor w", "type a9g128 is not supported"]),
        (one("Q9_X", json!([16, 32]), part(at, 64)), ["tensor w", "type Q9_X is not supported"]),
        (one("F32", json!([-4]), part(at, 16)), ["directory", "-4"]),
        (one("F32", json!("4"), part(at, 16)), ["directory", "\"4\""]),
        (one("F32", json!([4]), json!({"offset": at, "length": 16})), ["directory", "sha256"]),
        (
            one("F32", json!([4]), json!({"offset": at, "length": 16, "sha256": "G".repeat(64)})),
            ["directory", "64 digits"],
        ),
        (
            directory(&[
                ("w", "F32", json!([20]), part(at, 80)),
                ("v", "F32", json!([4]), part(at + 64, 16)),
            ]),
            ["tensor v", "between 4176 and"],
        ),
        (
            directory(&[("w", "F32", json!([4]), part(at, 16)), ("w", "F32", json!([4]), part(at + 64, 16))]),
            ["tensor w", "a second one"],
        ),
        (directory(&[("", "F32", json!([4]), part(at, 16))]), ["name of a tensor", "0 bytes"]),
    ] {
        let bytes = Bytes::from(file((1, 0), &[0; 256], &directory.to_string()));
        let message = Native::parse("model.sterna", bytes).unwrap_err().to_string();
        for part in [&["model.sterna"][..], &parts].concat() {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
    for name in ["", ".hidden", "../up", "a/b", "a\\b", "ä", "C:"] {
        let mut directory = directory(&[]);
        directory["documents"] = json!([{"name": name, "data": part(at, 1)}]);
        let bytes = Bytes::from(file((1, 0), &[0; 64], &directory.to_string()));
        assert!(Native::parse("model.sterna", bytes).is_err(), "{name:?}");
    }
    for text in ["", "[]", "{}", "null", &"[".repeat(100_000), &"{\"recipe\":".repeat(100_000)] {
        let bytes = Bytes::from(file((1, 0), &[], text));
        let message = Native::parse("model.sterna", bytes).unwrap_err().to_string();
        assert!(message.contains("model.sterna: directory"), "{message}");
    }
}

#[test]
fn reports_that_are_no_json_spoil_nothing_else() {
    let mut directory = directory(&[]);
    directory["recipe"] = part(DATA_START as u64, 8);
    let deep = "[".repeat(8);
    let bytes = Bytes::from(file((1, 0), deep.as_bytes(), &directory.to_string()));
    let (native, _) = Native::parse("model.sterna", bytes).unwrap();
    assert!(native.about().unwrap_err().to_string().contains("model.sterna: recipe: expected JSON"));
}

/// What is in `dir`.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_left_of_a_file_that_was_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sterna");
    fs::write(&path, "what was there before").unwrap();
    let mut writer = Writer::create(&path, &documents()).unwrap();
    writer.add("v", &[1], F32, &[0; 4]).unwrap();
    assert_eq!(names(dir.path()), ["model.sterna", "model.sterna.part"]);
    let unfinished = fs::read(dir.path().join("model.sterna.part")).unwrap();
    assert!(Native::parse("model.sterna.part", unfinished.into()).is_err());
    drop(writer);
    assert_eq!(names(dir.path()), ["model.sterna"]);
    assert_eq!(fs::read(&path).unwrap(), b"what was there before");

    write(&path);
    assert!(Checkpoint::open(&path).is_ok());
    assert_eq!(names(dir.path()), ["model.sterna"]);

    // A directory is in the way of the last step.
    let taken = dir.path().join("taken.sterna");
    fs::create_dir(&taken).unwrap();
    let writer = Writer::create(&taken, &documents()).unwrap();
    assert!(writer.finish(&About::default()).is_err());
    assert_eq!(names(dir.path()), ["model.sterna", "taken.sterna"]);
    assert!(Writer::create(&dir.path().join("absent/model.sterna"), &documents()).is_err());
}

#[test]
fn ternary_weights_have_a_type_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sterna");
    let mut writer = Writer::create(&path, &documents()).unwrap();
    let of_name = |name: &str| -> PackedFormat { name.parse().unwrap() };
    for name in ["t2g64", "t1g256"] {
        let format = of_name(name);
        writer.add(name, &[17, 64], TensorType::Ternary(format), &packed(format)).unwrap();
    }
    let not_ternary = TensorType::Ternary(of_name("s2g64"));
    let error = writer.add("w", &[17, 64], not_ternary, &packed(of_name("s2g64"))).unwrap_err().to_string();
    assert!(error.contains("tensor w") && error.contains("type s2g64a8"), "{error}");
    writer.finish(&about()).unwrap();

    let checkpoint = Checkpoint::open(&path).unwrap();
    for name in ["t2g64", "t1g256"] {
        let (format, tensor) = (of_name(name), checkpoint.tensor(name).unwrap());
        assert_eq!((tensor.ty, tensor.ty.to_string()), (TensorType::Ternary(format), format!("{name}a8")));
        let plain = PackedMatrix::from_bytes(format, 17, 64, packed(format).into()).unwrap();
        let mut row = [0.0; 64];
        for (r, values) in tensor.to_f32().unwrap().chunks_exact(64).enumerate() {
            plain.row(r, &mut row);
            assert_eq!(values, row, "{name}");
        }
    }
    // As a reader sees it that does not know them.
    for (ty, is_known) in
        [("t2g64a8", true), ("t2g64a4", false), ("a8", false), ("a4g32a8", false), ("Q4_K", false)]
    {
        let tensors = [("w", ty, json!([16, 64]), part(DATA_START as u64, 64 + 256))];
        let bytes = file((1, 9), &[1; 64 + 256], &directory(&tensors).to_string());
        match Native::parse("model.sterna", bytes.into()) {
            Ok(_) => assert!(is_known, "{ty}"),
            Err(error) => {
                let error = error.to_string();
                let is_told =
                    error.contains("model.sterna: tensor w") && error.contains(&format!("type {ty}"));
                assert!(!is_known && is_told, "{error}");
            }
        }
    }
}

#[test]
fn the_writer_refuses_what_no_reader_would_take() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sterna");
    let mut writer = Writer::create(&path, &Documents::default()).unwrap();
    writer.add("v", &[2], F32, &[0; 8]).unwrap();
    let format = PackedFormat::affine(4, 128).unwrap();
    for (name, shape, ty, n_bytes) in [
        ("v", &[2][..], F32, 8),
        ("", &[2], F32, 8),
        ("w", &[2], F32, 7),
        ("w", &[0], F32, 0),
        ("w", &[64], TensorType::Packed(format), 64),
        ("w", &[2, 33], TensorType::Packed(format), 64),
        ("w", &[2], TensorType::Other(sterna_formats::OtherType::U8), 2),
        ("w", &[32], TensorType::Ggml(sterna_formats::GgmlType::Q4_0), 18),
    ] {
        let error = writer.add(name, shape, ty, &vec![0; n_bytes]).unwrap_err().to_string();
        assert!(error.contains("model.sterna: tensor "), "{error}");
    }
    writer.finish(&About::default()).unwrap();
    let (_, tensors) = Native::open(&path).unwrap();
    assert_eq!(tensors.len(), 1);
    let message = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(message.contains("model.sterna: document config.json is missing"), "{message}");
    for name in ["", "../config.json", "config.json"] {
        let document = |name: &str| Document { name: name.to_owned(), bytes: Bytes::new() };
        let list = vec![document("config.json"), document(name)];
        assert!(Writer::create(&path, &Documents { kind: Kind::Hf, list }).is_err(), "{name:?}");
    }
    assert_eq!(names(dir.path()), ["model.sterna"]);
}

/// Everything that an interrupted writer leaves beside `path`.
fn left_beside(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The file of [`write`] in two runs, with what a killed program leaves between.
fn write_interrupted(path: &Path, unsaved: &[u8]) {
    let format = PackedFormat::affine(4, 128).unwrap();
    let mut writer = Writer::create(path, &documents()).unwrap();
    writer.add_f32("norm", &[3], &[1.0, 2.0, 3.0]).unwrap();
    writer.checkpoint(&json!({"blocks": 0})).unwrap();
    writer.add("router", &[2, 2], TensorType::Dense(DType::F16), &[0, 60, 0, 64, 0, 66, 0, 68]).unwrap();
    writer.checkpoint(&json!({"blocks": 1})).unwrap();
    writer.add_f32("lost", &[1], &[9.0]).unwrap();
    drop(writer);
    assert_eq!(left_beside(path), ["it.sterna.part", "it.sterna.part.json"]);
    let part = path.with_extension("sterna.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes.extend(unsaved);
    fs::write(&part, bytes).unwrap();

    let mut resumed = Writer::resume(path).unwrap().unwrap();
    assert_eq!(resumed.state, json!({"blocks": 1}));
    let names: Vec<&str> = resumed.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["norm", "router"]);
    assert_eq!(resumed.tensors[0].data.as_ref(), floats(&[1.0, 2.0, 3.0]));
    assert!(resumed.writer.add_f32("norm", &[1], &[0.0]).is_err(), "the name is taken");
    resumed.writer.add("w", &[17, 64], TensorType::Packed(format), &packed(format)).unwrap();
    resumed.writer.finish(&about()).unwrap();
}

#[test]
fn an_interrupted_file_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, interrupted) = (dir.path().join("a/it.sterna"), dir.path().join("b/it.sterna"));
    [&whole, &interrupted].into_iter().for_each(|path| fs::create_dir(path.parent().unwrap()).unwrap());
    write(&whole);
    write_interrupted(&interrupted, &[7; 1000]);
    assert_eq!(left_beside(&interrupted), ["it.sterna"]);
    assert!(fs::read(&whole).unwrap() == fs::read(&interrupted).unwrap());
}

#[test]
fn what_was_not_noted_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it.sterna");
    assert!(Writer::resume(&path).unwrap().is_none());
    let begin = || {
        let mut writer = Writer::create(&path, &documents()).unwrap();
        writer.add_f32("norm", &[3], &[1.0, 2.0, 3.0]).unwrap();
        writer
    };
    begin().checkpoint(&json!(1)).unwrap();
    // A new beginning forgets the old one.
    drop(begin());
    assert!(Writer::resume(&path).unwrap().is_none());

    begin().checkpoint(&json!(2)).unwrap();
    let part = dir.path().join("it.sterna.part");
    let mut bytes = fs::read(&part).unwrap();
    let norm = bytes.windows(4).rposition(|four| four == 3.0f32.to_le_bytes()).unwrap();
    bytes[norm] ^= 1;
    fs::write(&part, &bytes).unwrap();
    let error = Writer::resume(&path).unwrap_err().to_string();
    assert!(error.contains("tensor norm") && error.contains("SHA-256"), "{error}");
    fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    assert!(Writer::resume(&path).unwrap().is_none(), "shorter than noted");
    fs::write(dir.path().join("it.sterna.part.json"), "{}").unwrap();
    let error = Writer::resume(&path).unwrap_err().to_string();
    assert!(error.contains("it.sterna.part.json") && error.contains("journal"), "{error}");
}
