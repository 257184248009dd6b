//! Broken GGUF files by the ten thousand: each is refused, or opens and can be read to the last weight, without a
//! panic and without memory beyond a small multiple of the file.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::counting::{Counting, peak_of};
use common::gguf::{ARRAY, BOOL, Builder, F32, STRING, U32, U64, array, string};
use common::{Rng, mutate};
use sterna_formats::gguf::{FromValue, Gguf};
use sterna_formats::{RowOrder, Tensor};
use sterna_tensor::Pool;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of each seed.
const N_MUTATIONS: usize = 10_000;

/// Far above what files of a few KiB need, far below what their hostile counts ask for.
const MAX_BYTES: usize = 1 << 20;

/// Id and bytes of one row of every tensor type: 256 weights, or a block if that is more.
const TENSOR_TYPES: [(u32, usize); 19] = [
    (0, 4 * 256),
    (1, 2 * 256),
    (30, 2 * 256),
    (2, 18 * 8),
    (3, 20 * 8),
    (6, 22 * 8),
    (7, 24 * 8),
    (8, 34 * 8),
    (10, 84),
    (11, 110),
    (12, 144),
    (13, 176),
    (14, 210),
    (20, 18 * 8),
    (23, 136),
    (34, 54),
    (35, 66),
    (36, 256 / 4 + 32),
    (39, 17 * 8),
];

/// A file with every kind of metadata, one with every type of tensor, and one of several experts and rows.
fn seeds() -> Vec<Vec<u8>> {
    let metadata = Builder::new()
        .string("general.architecture", "llama")
        .u32("general.alignment", 32)
        .u32("llama.block_count", 2)
        .entry("llama.rope.freq_base", F32, &1e4f32.to_le_bytes())
        .entry("wide", U64, &7u64.to_le_bytes())
        .entry("flag", BOOL, &[1])
        .strings("tokenizer.ggml.tokens", &["<s>", "a", "b", "ab"])
        .entry("scores", ARRAY, &array(F32, 3, &[0; 12]))
        .entry("nested", ARRAY, &array(ARRAY, 1, &array(STRING, 1, &string(b"x"))))
        .entry("layers", ARRAY, &array(U32, 2, &[1, 0, 0, 0, 2, 0, 0, 0]));
    let mut types = Builder::new();
    for (id, n_bytes) in TENSOR_TYPES {
        types = types.tensor(&format!("t{id}"), &[256, 1], id, &vec![0x5a; n_bytes]);
    }
    let shapes = Builder::new()
        .tensor("norm", &[4], 0, &[0; 16])
        .tensor("q", &[32, 4], 8, &[1; 4 * 34])
        .tensor("experts", &[32, 2, 2], 2, &[2; 4 * 18]);
    vec![metadata.build(), types.build(), shapes.build()]
}

/// Reads everything there is to read; whether it opened.
fn read_all(bytes: Vec<u8>, pool: &Pool) -> bool {
    let Ok(gguf) = Gguf::parse("hostile.gguf", Bytes::from(bytes)) else { return false };
    let metadata = gguf.metadata();
    for (key, value) in metadata.iter() {
        assert!(!value.describe().is_empty());
        let key_is_named = |error: sterna_formats::FormatError| assert!(error.to_string().contains(key));
        fn read<'a, T: FromValue<'a>>(
            found: sterna_formats::Result<Option<T>>,
        ) -> sterna_formats::Result<()> {
            found.map(drop)
        }
        let reads = [
            read(metadata.get::<u32>(key)),
            read(metadata.get::<f32>(key)),
            read(metadata.get::<&str>(key)),
            read(metadata.get::<Vec<&str>>(key)),
            read(metadata.get::<Vec<f32>>(key)),
            read(metadata.get::<Vec<usize>>(key)),
        ];
        reads.into_iter().filter_map(Result::err).for_each(key_is_named);
    }
    gguf.tensors().iter().for_each(|tensor| read_tensor(tensor, pool));
    true
}

fn read_tensor(tensor: &Tensor, pool: &Pool) {
    if let Ok(weights) = tensor.to_f32() {
        assert_eq!(weights.len(), tensor.shape.iter().product::<usize>());
    }
    for order in [RowOrder::AsStored, RowOrder::HalfRotated { n_heads: 2, head_dim: 2, n_dims: 2 }] {
        if let Ok(matrix) = tensor.matrix(order, pool) {
            let mut row = vec![0.0; matrix.cols()];
            (0..matrix.rows()).for_each(|r| matrix.row(r, &mut row));
        }
    }
    if let Ok(slice) = tensor.at(tensor.shape[0] - 1) {
        assert_eq!(slice.shape, tensor.shape[1..]);
    }
}

#[test]
fn mutations_neither_panic_nor_allocate_what_they_say() {
    let pool = Pool::new(1);
    let mut rng = Rng::new(1);
    let mut n_opened = 0;
    for seed in seeds() {
        assert!(read_all(seed.clone(), &pool), "the seed is valid");
        for _ in 0..N_MUTATIONS {
            let mutant = mutate(&seed, &mut rng);
            let (peak, opened) = peak_of(|| read_all(mutant.clone(), &pool));
            assert!(peak < MAX_BYTES, "{peak} bytes allocated for {mutant:?}");
            n_opened += usize::from(opened);
        }
    }
    // Both sides of every check are reached.
    let n_mutants = N_MUTATIONS * seeds().len();
    assert!((n_mutants / 20..n_mutants / 20 * 19).contains(&n_opened), "{n_opened} of {n_mutants} opened");

    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/gguf");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let (peak, _) = peak_of(|| read_all(bytes, &pool));
        assert!(peak < MAX_BYTES, "{peak} bytes allocated for {}", path.display());
    }
}
