//! Blocks from codes and scales: the reverse of decoding, for the types that quantized weights are exported to.

use half::f16;

/// Codes of one block.
pub type Codes = [u8; 32];

/// A Q4_0 block of the weights `d (code - 8)`; codes have four bits.
pub fn q4_0(d: f16, codes: &Codes) -> [u8; 18] {
    joined([&d.to_le_bytes(), &nibbles(codes)])
}

/// A Q4_1 block of the weights `d code + m`; codes have four bits.
pub fn q4_1(d: f16, m: f16, codes: &Codes) -> [u8; 20] {
    joined([&d.to_le_bytes(), &m.to_le_bytes(), &nibbles(codes)])
}

/// A Q5_0 block of the weights `d (code - 16)`; codes have five bits.
pub fn q5_0(d: f16, codes: &Codes) -> [u8; 22] {
    joined([&d.to_le_bytes(), &fifth_bits(codes).to_le_bytes(), &nibbles(codes)])
}

/// A Q5_1 block of the weights `d code + m`; codes have five bits.
pub fn q5_1(d: f16, m: f16, codes: &Codes) -> [u8; 24] {
    let fifth_bits = fifth_bits(codes).to_le_bytes();
    joined([&d.to_le_bytes(), &m.to_le_bytes(), &fifth_bits, &nibbles(codes)])
}

/// A Q8_0 block of the weights `d (code - 128)`.
pub fn q8_0(d: f16, codes: &Codes) -> [u8; 34] {
    joined([&d.to_le_bytes(), &codes.map(|code| code ^ 0x80)])
}

/// Byte `j` holds the low four bits of codes `j` and `j + 16`.
fn nibbles(codes: &Codes) -> [u8; 16] {
    std::array::from_fn(|j| (codes[j] & 0x0f) | codes[j + 16] << 4)
}

/// Bit `j` is that of code `j`.
fn fifth_bits(codes: &Codes) -> u32 {
    codes.iter().rev().fold(0, |bits, code| bits << 1 | u32::from(code >> 4 & 1))
}

fn joined<const N: usize, const PARTS: usize>(parts: [&[u8]; PARTS]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut rest = &mut bytes[..];
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use sterna_tensor::Block;

    use super::super::legacy;
    use super::*;

    #[test]
    fn what_was_decoded_is_written_again() {
        let random = |seed: usize| move |i: usize| (i * 167 + seed * 59 + i * i * 31) as u8;
        let mut block = Block::default();
        let codes = |block: &Block| *block.codes.first_chunk::<32>().unwrap();
        for seed in 0..50 {
            let bytes: [u8; 18] = std::array::from_fn(random(seed));
            legacy::q4_0(&bytes, &mut block);
            assert_eq!(q4_0(block.d, &codes(&block)), bytes);
            let bytes: [u8; 20] = std::array::from_fn(random(seed));
            legacy::q4_1(&bytes, &mut block);
            assert_eq!(q4_1(block.d, block.m, &codes(&block)), bytes);
            let bytes: [u8; 22] = std::array::from_fn(random(seed));
            legacy::q5_0(&bytes, &mut block);
            assert_eq!(q5_0(block.d, &codes(&block)), bytes);
            let bytes: [u8; 24] = std::array::from_fn(random(seed));
            legacy::q5_1(&bytes, &mut block);
            assert_eq!(q5_1(block.d, block.m, &codes(&block)), bytes);
            let bytes: [u8; 34] = std::array::from_fn(random(seed));
            legacy::q8_0(&bytes, &mut block);
            assert_eq!(q8_0(block.d, &codes(&block)), bytes);
        }
    }
}
