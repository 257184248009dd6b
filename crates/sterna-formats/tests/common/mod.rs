//! Hostile input for every reader: deterministic mutations of valid files, and a watch on what reading them
//! allocates.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its part.

pub mod counting;
pub mod gguf;
pub mod native;
pub mod quantized;

/// Xorshift64*: small, fast, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Integers at the edges of what lengths, offsets and counts can hold.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    1 << 20,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 60,
    (1 << 60) + 1,
    i64::MAX as u64,
    u64::MAX - 31,
    u64::MAX,
];

/// Pieces of text that bend JSON and templates.
const WORDS: [&str; 16] = [
    "1e999",
    "-1",
    "0",
    "18446744073709551616",
    "null",
    "NaN",
    "-Infinity",
    "[[[[[[[[",
    "{\"a\":",
    "\"",
    "\\u0000",
    "\\ud800",
    "{{",
    "{% for i in range(1000000000) %}",
    "}}",
    "]",
];

/// One to four random changes to `seed`: flipped bits, edge values in place of integers, pieces cut, doubled,
/// moved and inserted, the end cut off.
pub fn mutate(seed: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + rng.below(4) {
        mutate_once(&mut bytes, rng);
    }
    bytes
}

fn mutate_once(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(bytes.len());
    let end = (at + 1 + rng.below(64)).min(bytes.len());
    match rng.below(10) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        2 if !bytes.is_empty() => bytes[at] = rng.next() as u8,
        3 | 4 => {
            let width = *rng.pick(&[1, 2, 4, 8]);
            let edge = rng.pick(&EDGES).to_le_bytes();
            for (byte, edge) in bytes[at..].iter_mut().zip(&edge[..width]) {
                *byte = *edge;
            }
        }
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..end)),
        7 => {
            let piece = bytes[at..end].to_vec();
            let to = rng.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        8 => {
            let piece = bytes[at..end].to_vec();
            let to = rng.below(bytes.len());
            for (byte, new) in bytes[to..].iter_mut().zip(piece) {
                *byte = new;
            }
        }
        _ => drop(bytes.splice(at..at, rng.pick(&WORDS).bytes())),
    }
}
