//! Blocks of 32 with their own `f16` scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! Codes come in halves: byte `j` holds column `j` in its low and column `j + 16` in its high bits; the fifth bits
//! are one little-endian u32, bit `j` for column `j`.

use sterna_tensor::Block;

use super::bits::{f16_at, nibbles};

pub(super) fn q4_0(bytes: &[u8; 18], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    nibbles(&bytes[2..], &mut out.codes);
}

pub(super) fn q4_1(bytes: &[u8; 20], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    out.m = f16_at(bytes, 2);
    nibbles(&bytes[4..], &mut out.codes);
}

pub(super) fn q5_0(bytes: &[u8; 22], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    nibbles(&bytes[6..], &mut out.codes);
    fifth_bits([bytes[2], bytes[3], bytes[4], bytes[5]], &mut out.codes);
}

pub(super) fn q5_1(bytes: &[u8; 24], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    out.m = f16_at(bytes, 2);
    nibbles(&bytes[8..], &mut out.codes);
    fifth_bits([bytes[4], bytes[5], bytes[6], bytes[7]], &mut out.codes);
}

/// Weights are signed here; codes are 128 more.
pub(super) fn q8_0(bytes: &[u8; 34], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    for (code, byte) in out.codes.iter_mut().zip(&bytes[2..]) {
        *code = byte ^ 0x80;
    }
}

fn fifth_bits(high: [u8; 4], codes: &mut [u8; 256]) {
    for (codes, byte) in codes.as_chunks_mut::<8>().0.iter_mut().zip(high) {
        for (bit, code) in codes.iter_mut().enumerate() {
            *code |= (byte >> bit & 1) << 4;
        }
    }
}
