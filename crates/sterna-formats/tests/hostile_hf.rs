//! Mutated safetensors files and configs: each gives tensors, fields or an error, soon, and without allocating more
//! than its size explains.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::counting::{Counting, peak_of};
use common::{Rng, mutate};
use sterna_formats::hf::{ConfigFile, read_safetensors};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const N_MUTATIONS: usize = 12_000;

/// The seeds that the fuzzer begins with too: valid files and old offenders.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Reads every byte of every tensor, as a model would; says whether the file was accepted.
fn use_safetensors(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(tensors) = read_safetensors(Path::new("model.safetensors"), &bytes) else { return false };
    for tensor in &tensors {
        assert_eq!(tensor.ty.n_bytes(&tensor.shape), Some(tensor.data.len()));
        match tensor.to_f32() {
            Ok(values) => assert_eq!(values.len(), tensor.n_elements()),
            Err(_) => drop(std::hint::black_box(tensor.data.to_vec())),
        }
    }
    true
}

fn use_config(bytes: &[u8]) -> bool {
    let Ok(config) = ConfigFile::parse(Path::new("config.json"), bytes) else { return false };
    let view = config.view();
    for key in ["hidden_size", "rope_scaling", "rope_parameters", "eos_token_id", "layer_types", "rope_theta"]
    {
        let _ = (view.opt_usize(key), view.opt_f32(key), view.opt_str(key), view.opt_bool(key));
        let _ = (view.opt_ids(key), view.opt_strs(key), view.opt_f32s(key), view.opt_bools(key));
        if let Ok(Some(sub)) = view.opt_sub(key) {
            let _ = (sub.f32("factor"), sub.f32s("long_factor"), sub.str("rope_type"));
        }
    }
    true
}

/// Makes the header length of a mutated safetensors file right again, so that the mutation reaches the header's
/// text and not only its length.
fn reframe(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.windows(2).rposition(|pair| pair == b"}}").map_or(0, |at| at + 2);
    if let (Some(length), Some(header_len)) = (bytes.first_chunk_mut::<8>(), end.checked_sub(8)) {
        *length = (header_len as u64).to_le_bytes();
    }
    bytes
}

/// Reads the seeds and `N_MUTATIONS` of them, every other one repaired by `repair`; `reader` says whether it
/// accepted. Some must be accepted and some refused, or the mutations do not test what they should.
fn mutations(target: &str, repair: impl Fn(Vec<u8>) -> Vec<u8>, reader: impl Fn(&[u8]) -> bool) {
    let seeds = corpus(target);
    let mut rng = Rng::new(1);
    let mutated = (0..N_MUTATIONS).map(|n| {
        let bytes = mutate(&seeds[n % seeds.len()], &mut rng);
        if n % 2 == 0 { bytes } else { repair(bytes) }
    });
    let mut n_accepted = 0;
    for (n, bytes) in seeds.iter().cloned().chain(mutated).enumerate() {
        let (peak, accepted) = peak_of(|| reader(&bytes));
        assert!(peak < 1 << 20, "{target}, input {n}: {peak} bytes allocated for a file of {}", bytes.len());
        n_accepted += usize::from(accepted);
    }
    let share = n_accepted as f64 / N_MUTATIONS as f64;
    assert!((0.02..0.8).contains(&share), "{target}: {n_accepted} of {N_MUTATIONS} accepted");
}

/// One test, because the allocator counts for the whole process.
#[test]
fn mutated_files_give_errors() {
    mutations("safetensors", reframe, use_safetensors);
    mutations("config", |bytes| bytes, use_config);
}
