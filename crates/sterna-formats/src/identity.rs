//! Which model a checkpoint is, wherever it lies.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{Checkpoint, Config, Tensor};

/// Bytes that are looked at in three places of each tensor.
const SAMPLE: usize = 256;

/// SHA-256 of the configuration and, for each tensor, its name, type, shape, and the bytes at its beginning, in its middle and at
/// its end. A copy is the same model; one that was trained on or quantized otherwise is another, since that changes every matrix
/// nearly everywhere. Gigabytes are not read: a file with a few weights changed by hand passes for the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelIdentity(pub [u8; 32]);

impl ModelIdentity {
    /// That of `checkpoint`.
    pub fn of(checkpoint: &Checkpoint) -> ModelIdentity {
        let mut hasher = Sha256::new();
        match checkpoint.config() {
            Config::Hf(config) => add(&mut hasher, config.to_json().as_bytes()),
            Config::Gguf(metadata) => add(&mut hasher, &metadata.to_file()),
        }
        let mut tensors: Vec<&Tensor> = checkpoint.tensors().collect();
        tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for tensor in tensors {
            add(&mut hasher, tensor.name.as_bytes());
            add(&mut hasher, format!("{} {:?}", tensor.ty, tensor.shape).as_bytes());
            let (data, len) = (&tensor.data, tensor.data.len());
            for start in [0, len / 2, len.saturating_sub(SAMPLE)] {
                add(&mut hasher, &data[start..len.min(start + SAMPLE)]);
            }
        }
        ModelIdentity(hasher.finalize().into())
    }
}

/// Adds `bytes` and how many they are, so that no two lists of them are the same stream.
fn add(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

impl fmt::Display for ModelIdentity {
    /// In hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
