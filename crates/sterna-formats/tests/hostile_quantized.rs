//! Broken checkpoints of other quantizers by the ten thousand: each is refused, or every weight of its matrices can be
//! read, without a panic and without memory beyond a small multiple of the file.

mod common;

use std::path::Path;

use bytes::Bytes;
use common::counting::{Counting, peak_of};
use common::{Rng, mutate};
use sterna_formats::RowOrder;
use sterna_formats::hf::{ConfigFile, quantized, read_safetensors};
use sterna_tensor::{Matrix, Pool};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of each seed.
const N_MUTATIONS: usize = 2_000;

/// Far above what files of some KiB need, far below what their hostile sizes ask for.
const MAX_BYTES: usize = 1 << 21;

/// A line of `config.json` and a safetensors file, as for the fuzzer.
struct Input {
    config: Vec<u8>,
    header: Vec<u8>,
    data: Vec<u8>,
}

impl Input {
    fn of(bytes: &[u8]) -> Input {
        let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        let (length, rest) = bytes[end + 1..].split_first_chunk().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Input { config: bytes[..end].to_vec(), header: header.to_vec(), data: data.to_vec() }
    }

    fn mutated(&self, rng: &mut Rng) -> Input {
        let Input { config, header, data } = self;
        let part = rng.below(3);
        let mut change =
            |index, bytes: &[u8]| if part == index { mutate(bytes, rng) } else { bytes.to_vec() };
        let mut input = Input { config: change(0, config), header: change(1, header), data: change(2, data) };
        // As long as before, so that the table of tensors still fits.
        input.data.resize(data.len(), 0);
        input
    }

    fn file(&self) -> Bytes {
        [&(self.header.len() as u64).to_le_bytes()[..], &self.header, &self.data].concat().into()
    }
}

/// Reads every weight in both ways; whether there were matrices.
fn read_all(config: &[u8], file: &Bytes, pool: &Pool) -> bool {
    let Ok(config) = ConfigFile::parse(Path::new("config.json"), config) else { return false };
    let Ok(tensors) = read_safetensors(Path::new("model.safetensors"), file) else { return false };
    let Ok(tensors) = quantized::gather(&config, None, tensors) else { return false };
    let mut has_some = false;
    for tensor in tensors.iter().filter(|tensor| tensor.quantized.is_some()) {
        has_some = true;
        let weights = tensor.to_f32().unwrap();
        let Ok(matrix) = tensor.matrix(RowOrder::AsStored, pool) else { continue };
        let mut row = vec![0.0; matrix.cols()];
        for (r, weights) in weights.chunks(matrix.cols()).enumerate() {
            matrix.row(r, &mut row);
            assert_eq!(row, weights, "{} row {r} of {}", tensor.name, tensor.ty);
        }
        assert!(matches!(matrix, Matrix::Dense(_)) || tensor.shape[1] % 32 == 0);
        assert!(tensor.rows(0..tensor.shape[0] + 1).is_err());
    }
    has_some
}

#[test]
fn mutations_neither_panic_nor_allocate_what_they_say() {
    let pool = Pool::new(1);
    let mut rng = Rng::new(7);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/quantized");
    let mut paths: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let seed = Input::of(&std::fs::read(&path).unwrap());
        assert!(read_all(&seed.config, &seed.file(), &pool), "{} is valid", path.display());
        let mut n_read = 0;
        for _ in 0..N_MUTATIONS {
            let mutant = seed.mutated(&mut rng);
            let file = mutant.file();
            let (peak, is_read) = peak_of(|| read_all(&mutant.config, &file, &pool));
            assert!(peak < MAX_BYTES, "{peak} bytes allocated for {:?} and {file:?}", mutant.config);
            n_read += usize::from(is_read);
        }
        let share = n_read as f64 / N_MUTATIONS as f64;
        assert!((0.05..0.95).contains(&share), "{}: {n_read} of {N_MUTATIONS} read", path.display());
    }
}
