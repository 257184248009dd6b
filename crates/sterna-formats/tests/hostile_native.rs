//! Broken native files by the ten thousand: each is refused, or opens and can be read to the last weight, without a
//! panic and without memory beyond a small multiple of the file.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::counting::{Counting, peak_of};
use common::native::{DATA_START, directory, file, part, seal};
use common::{Rng, mutate};
use serde_json::json;
use sterna_formats::native::Native;
use sterna_formats::{RowOrder, TensorType};
use sterna_tensor::{PackedFormat, Pool};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of each seed, sealed and not.
const N_MUTATIONS: usize = 10_000;

/// Far above what files of some ten KiB need, far below what their hostile sizes ask for.
const MAX_BYTES: usize = 1 << 21;

/// Types with the bytes of a matrix `[3, 64]`, a tile with three rows.
fn types() -> Vec<(String, usize)> {
    let own = ["a2g32", "a3g64", "a4g128", "s2g32", "s3g64", "s4g128", "s6g32", "s8g64"];
    let others = ["Q4_1", "Q5_0", "Q5_1", "t1g32", "t2g32", "s1g128", "t1g64a8", "t2g64a8"];
    let packed = own.into_iter().chain(others).map(|name| {
        let format: PackedFormat = name.trim_end_matches("a8").parse().unwrap();
        (name.to_owned(), format.n_bytes(3, 64).unwrap())
    });
    let dense = [("F32", 4), ("F16", 2), ("BF16", 2)].map(|(name, size)| (name.to_owned(), size * 3 * 64));
    packed.chain(dense).collect()
}

/// A file with a tensor of every type, and one with documents and reports.
fn seeds() -> Vec<Vec<u8>> {
    let (mut data, mut tensors) = (Vec::new(), Vec::new());
    let types = types();
    for (name, n_bytes) in &types {
        let offset = (DATA_START + data.len()) as u64;
        tensors.push((name.as_str(), name.as_str(), json!([3, 64]), part(offset, *n_bytes as u64)));
        data.resize((data.len() + n_bytes).next_multiple_of(64), 0x2a);
    }
    let types = file((1, 0), &data, &directory(&tensors).to_string());

    let mut told = directory(&[("v", "F32", json!([2]), part(4096 + 256, 8))]);
    let config = br#"{"model_type": "llama", "hidden_size": 64}"#;
    let recipe = br#"{"method": "rtn", "groups": [128, {"of": null}]}"#;
    told["documents"] = json!([
        {"name": "config.json", "data": part(4096, config.len() as u64)},
        {"name": "tokenizer.json", "data": part(4096 + 64, 2)},
    ]);
    told["recipe"] = part(4096 + 128, recipe.len() as u64);
    told["license"] = json!("MIT");
    let mut data = vec![0; 320];
    data[..config.len()].copy_from_slice(config);
    data[64..66].copy_from_slice(b"{}");
    data[128..128 + recipe.len()].copy_from_slice(recipe);
    vec![types, file((1, 0), &data, &told.to_string())]
}

/// Reads everything there is to read; whether it opened.
fn read_all(bytes: Bytes, pool: &Pool) -> bool {
    let Ok((native, tensors)) = Native::parse("hostile.sterna", bytes) else { return false };
    let _ = native.about();
    native.documents().list.iter().for_each(|document| assert!(!document.name.contains('/')));
    for tensor in &tensors {
        assert_eq!(tensor.ty.n_bytes(&tensor.shape), Some(tensor.data.len()));
        if let Ok(weights) = tensor.to_f32() {
            assert_eq!(weights.len(), tensor.shape.iter().product::<usize>());
        }
        if let Ok(matrix) = tensor.matrix(RowOrder::AsStored, pool) {
            let mut row = vec![0.0; matrix.cols()];
            (0..matrix.rows()).for_each(|r| matrix.row(r, &mut row));
        } else {
            let is_packed = matches!(tensor.ty, TensorType::Packed(_) | TensorType::Ternary(_));
            assert!(!is_packed, "{}", tensor.name);
        }
        let _ = tensor.rows(0..1);
    }
    true
}

#[test]
fn mutations_neither_panic_nor_allocate_what_they_say() {
    let pool = Pool::new(1);
    let mut rng = Rng::new(5);
    let (mut n_opened, mut n_mutants) = (0, 0);
    for seed in seeds() {
        assert!(read_all(seed.clone().into(), &pool), "the seed is valid");
        for _ in 0..N_MUTATIONS {
            // Most of a file are zeros and weights, which may be anything: header and directory are what matters.
            let directory = u64::from_le_bytes(*seed[16..].first_chunk().unwrap()) as usize;
            let mut mutant = match rng.below(4) {
                0 => mutate(&seed, &mut rng),
                1 => [&mutate(&seed[..64], &mut rng), &seed[64..]].concat(),
                _ => [&seed[..directory], &mutate(&seed[directory..], &mut rng)].concat(),
            };
            if rng.below(8) > 0 {
                seal(&mut mutant);
            }
            let mutant = Bytes::from(mutant);
            let (peak, opened) = peak_of(|| read_all(mutant.clone(), &pool));
            assert!(peak < MAX_BYTES, "{peak} bytes allocated for {mutant:?}");
            n_opened += usize::from(opened);
            n_mutants += 1;
        }
    }
    // Both sides of every check are reached.
    assert!((n_mutants / 20..n_mutants / 20 * 19).contains(&n_opened), "{n_opened} of {n_mutants} opened");

    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/native");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = Bytes::from(std::fs::read(&path).unwrap());
        let (peak, _) = peak_of(|| read_all(bytes, &pool));
        assert!(peak < MAX_BYTES, "{peak} bytes allocated for {}", path.display());
    }
}
