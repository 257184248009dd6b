//! Super-blocks of 256: Q2_K to Q6_K.
//!
//! Integer scales of 32 (Q4_K, Q5_K) or 16 columns (the others), and one or two `f16` for all of them.

use sterna_tensor::Block;

use super::bits::{f16_at, nibbles, pairs};

/// `w = d (scale & 15) code - dmin (scale >> 4)`, with two-bit codes: two runs of 32 bytes, whose four fields are
/// 32 columns each.
pub(super) fn dequantize_q2_k(bytes: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(bytes, 80).to_f32(), f16_at(bytes, 82).to_f32());
    let mut codes = [0; 256];
    for (codes, bytes) in codes.as_chunks_mut::<128>().0.iter_mut().zip(bytes[16..80].chunks_exact(32)) {
        pairs(bytes, codes);
    }
    let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
    for ((out, codes), scale) in groups.zip(&bytes[..16]) {
        let (d, m) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = d * f32::from(code) - m;
        }
    }
}

/// Two-bit codes as in Q2_K; bit `g` of byte `j` of the mask is the third bit of column `32 g + j`.
pub(super) fn q3_k(bytes: &[u8; 110], out: &mut Block) {
    out.d = f16_at(bytes, 108);
    for (codes, bytes) in out.codes.as_chunks_mut::<128>().0.iter_mut().zip(bytes[32..96].chunks_exact(32)) {
        pairs(bytes, codes);
    }
    bit_planes(&bytes[..32], 2, &mut out.codes);
    // Sixteen 6-bit scales, offset by 32: eight bytes hold the low nibbles, four bytes the two high bits.
    nibbles(&bytes[96..104], &mut out.scales);
    let mut high = [0; 16];
    pairs(&bytes[104..108], &mut high);
    for (scale, high) in out.scales.iter_mut().zip(high) {
        *scale = (*scale | high << 4).wrapping_sub(32);
    }
}

pub(super) fn q4_k(bytes: &[u8; 144], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    out.m = f16_at(bytes, 2);
    scales_and_mins(&bytes[4..16], out);
    for (codes, bytes) in out.codes.as_chunks_mut::<64>().0.iter_mut().zip(bytes[16..].chunks_exact(32)) {
        nibbles(bytes, codes);
    }
}

pub(super) fn q5_k(bytes: &[u8; 176], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    out.m = f16_at(bytes, 2);
    scales_and_mins(&bytes[4..16], out);
    for (codes, bytes) in out.codes.as_chunks_mut::<64>().0.iter_mut().zip(bytes[48..].chunks_exact(32)) {
        nibbles(bytes, codes);
    }
    bit_planes(&bytes[16..48], 4, &mut out.codes);
}

/// Each half of 128 columns has 64 bytes of low nibbles and 32 bytes of high pairs.
pub(super) fn q6_k(bytes: &[u8; 210], out: &mut Block) {
    out.d = f16_at(bytes, 208);
    out.scales.copy_from_slice(&bytes[192..208]);
    let halves = bytes[..128].chunks_exact(64).zip(bytes[128..192].chunks_exact(32));
    for (codes, (low, high)) in out.codes.as_chunks_mut::<128>().0.iter_mut().zip(halves) {
        nibbles(low, codes);
        let mut bits = [0; 128];
        pairs(high, &mut bits);
        for (code, bits) in codes.iter_mut().zip(bits) {
            *code |= bits << 4;
        }
    }
}

/// Sets bit `shift` of the codes: bit `g` of byte `j` belongs to column `32 g + j`.
#[inline(always)]
fn bit_planes(planes: &[u8], shift: u32, codes: &mut [u8; 256]) {
    for (plane, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, byte) in codes.iter_mut().zip(planes) {
            *code |= (byte >> plane & 1) << shift;
        }
    }
}

/// Eight 6-bit scales and eight 6-bit minima in twelve bytes: the first four of each in the low bits of bytes 0 to
/// 3 and 4 to 7, whose high bits are the high bits of the other four; the low nibbles of those are in bytes 8 to
/// 11, scale low and minimum high.
#[inline(always)]
fn scales_and_mins(bytes: &[u8], out: &mut Block) {
    for j in 0..4 {
        out.scales[j] = bytes[j] & 63;
        out.mins[j] = bytes[j + 4] & 63;
        out.scales[j + 4] = bytes[j + 8] & 15 | bytes[j] >> 6 << 4;
        out.mins[j + 4] = bytes[j + 8] >> 4 | bytes[j + 4] >> 6 << 4;
    }
}
