//! Native files byte by byte, as `docs/format.md` describes them, right or wrong.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where data begin.
pub const DATA_START: usize = 4096;

/// A file of `version` with `data` from [`DATA_START`] on, and `directory` after them.
pub fn file(version: (u16, u16), data: &[u8], directory: &str) -> Vec<u8> {
    let mut bytes = vec![0; DATA_START];
    bytes[..8].copy_from_slice(b"\x89STERNA\n");
    bytes[8..10].copy_from_slice(&version.0.to_le_bytes());
    bytes[10..12].copy_from_slice(&version.1.to_le_bytes());
    bytes.extend(data);
    let offset = bytes.len() as u64;
    bytes[16..24].copy_from_slice(&offset.to_le_bytes());
    bytes.extend(directory.bytes());
    seal(&mut bytes);
    bytes
}

/// Makes length and checksum of the directory right again: it is what follows its offset.
pub fn seal(bytes: &mut [u8]) {
    let Some(offset) = bytes.get(16..24).and_then(|offset| offset.first_chunk()) else { return };
    let offset = u64::from_le_bytes(*offset).min(bytes.len() as u64) as usize;
    if offset < 64 {
        return;
    }
    let length = (bytes.len() - offset) as u64;
    let checksum = Sha256::digest(&bytes[offset..]);
    bytes[24..32].copy_from_slice(&length.to_le_bytes());
    bytes[32..64].copy_from_slice(&checksum);
}

/// The entry of a directory for the bytes `offset..offset + length`, of which nobody has made a checksum.
pub fn part(offset: u64, length: u64) -> Value {
    json!({"offset": offset, "length": length, "sha256": "0".repeat(64)})
}

/// A directory with these tensors: name, type, shape, data.
pub fn directory(tensors: &[(&str, &str, Value, Value)]) -> Value {
    let tensor = |(name, ty, shape, data): &(&str, &str, Value, Value)| json!({"name": name, "type": ty, "shape": shape, "data": data});
    json!({
        "made_by": "a test", "origin": "", "license": null, "kind": "hf", "documents": [],
        "recipe": null, "quality": null, "tensors": tensors.iter().map(tensor).collect::<Vec<_>>(),
    })
}
