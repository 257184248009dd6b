//! Writes GGUF files, so that the fixtures can be read in that form as well.

use std::path::{Path, PathBuf};

/// A GGUF file in the making: metadata and tensors.
#[derive(Default)]
pub struct GgufWriter {
    metadata: Vec<u8>,
    n_metadata: u64,
    tensors: Vec<u8>,
    n_tensors: u64,
    data: Vec<u8>,
}

const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl GgufWriter {
    pub fn str(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        string(&mut self.metadata, value);
    }

    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, U32);
        self.metadata.extend(value.to_le_bytes());
    }

    pub fn u32s(&mut self, key: &str, values: &[u32]) {
        self.key(key, ARRAY);
        self.metadata.extend(U32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.metadata.extend(value.to_le_bytes()));
    }

    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.metadata.extend(value.to_le_bytes());
    }

    /// `shape` is outermost first.
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.stored(name, shape, 0, &data);
    }

    /// A tensor of the type with the number `ty`.
    pub fn stored(&mut self, name: &str, shape: &[usize], ty: u32, data: &[u8]) {
        string(&mut self.tensors, name);
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&n| self.tensors.extend((n as u64).to_le_bytes()));
        self.tensors.extend(ty.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.n_tensors += 1;
    }

    /// Writes the file into `dir`.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(self.n_tensors.to_le_bytes());
        file.extend(self.n_metadata.to_le_bytes());
        file.extend(&self.metadata);
        file.extend(&self.tensors);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        let path = dir.join("model.gguf");
        std::fs::write(&path, file).unwrap();
        path
    }

    fn key(&mut self, key: &str, ty: u32) {
        string(&mut self.metadata, key);
        self.metadata.extend(ty.to_le_bytes());
        self.n_metadata += 1;
    }
}

fn string(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}
