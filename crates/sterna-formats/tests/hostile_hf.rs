//! Mutated safetensors files, configs and shard indexes: each gives tensors or an error, soon, and without
//! allocating more than its size explains.

mod common;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::{Counting, Rng, mutate, peak_of};
use sterna_formats::hf::{ConfigFile, read_safetensors};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const N_MUTATIONS: usize = 12_000;

fn fixture(name: &str) -> Vec<u8> {
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A whole file that is nearly all header: the data of each tensor is cut to one element per dimension.
fn small_safetensors() -> Vec<u8> {
    let types = [("F32", 4), ("BF16", 2), ("F16", 2), ("U8", 1), ("I64", 8)];
    let mut at = 0;
    let entries = types.map(|(dtype, size)| {
        let (from, to) = (at, at + 6 * size);
        at = to;
        format!(
            r#""layers.{dtype}": {{"dtype": "{dtype}", "shape": [2, 3], "data_offsets": [{from}, {to}]}}"#
        )
    });
    let header = format!(r#"{{"__metadata__": {{"format": "pt"}}, {}}}"#, entries.join(", "));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..at).map(|i| i as u8));
    bytes
}

/// Reads every byte of every tensor, as a model would; says whether the file was accepted.
fn use_safetensors(bytes: Bytes) -> bool {
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

/// Runs `N_MUTATIONS` over `seeds`; `reader` says whether it accepted. Some must be accepted and most refused, or
/// the mutations do not test what they should.
fn mutations(seeds: &[Vec<u8>], reader: impl Fn(Vec<u8>) -> bool) {
    let mut rng = Rng::new(1);
    let mut n_accepted = 0;
    for n in 0..N_MUTATIONS {
        let bytes = mutate(&seeds[n % seeds.len()], &mut rng);
        let size = bytes.len();
        let (peak, accepted) = peak_of(|| reader(bytes));
        assert!(peak < 1 << 22, "mutation {n}: {peak} bytes allocated for a file of {size}");
        n_accepted += usize::from(accepted);
    }
    assert!(n_accepted > N_MUTATIONS / 100, "only {n_accepted} of {N_MUTATIONS} accepted");
    assert!(n_accepted < N_MUTATIONS * 9 / 10, "{n_accepted} of {N_MUTATIONS} accepted");
}

/// One test, because the allocator counts for the whole process.
#[test]
fn mutated_files_give_errors() {
    let small = small_safetensors();
    assert!(use_safetensors(small.clone().into()));
    let real = fixture("bitnet_packed/model.safetensors");
    assert!(use_safetensors(real.clone().into()));
    let header_of_real = real[..8 + u64::from_le_bytes(*real.first_chunk().unwrap()) as usize].to_vec();
    mutations(&[small.clone(), small, header_of_real], |bytes| use_safetensors(bytes.into()));

    let names = ["gemma3", "phi3_longrope_long", "qwen3_yarn", "smollm3"];
    let mut seeds: Vec<_> = names.map(|name| fixture(&format!("{name}/config.json"))).into();
    seeds.extend(names.map(|name| fixture(&format!("{name}/config_v5.json"))));
    seeds.push(
        br#"{"time_step_limit": [0.0, Infinity], "a": [-Infinity, NaN], "rope_scaling": {"factor": 8.0}}"#
            .into(),
    );
    assert!(seeds.iter().all(|seed| use_config(seed)));
    mutations(&seeds, |bytes| use_config(&bytes));
}
