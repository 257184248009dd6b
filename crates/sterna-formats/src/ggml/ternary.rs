//! Weights that are -1, 0 or 1 (-1 or 1 in Q1_0, also 2 in Q2_0) times one `f16` for 64, 128 or 256 columns: Q2_0, Q1_0, TQ1_0 and
//! TQ2_0. Decoded in parts of 32 columns, as codes of one more.

use sterna_tensor::Block;

use super::bits::f16_at;

/// Five trits to a byte, as a fixed-point fraction: the byte is `ceil(256 n / 243)` for the base-3 number `n`, and
/// multiplying it by 3 pushes the next trit, highest first, out of the byte. Trit `t` of the first 32 bytes is column
/// `32 t + j`, of the next 16 bytes column `160 + 16 t + j`; the last four bytes hold four trits, column
/// `240 + 4 t + j`.
pub(super) fn tq1_0(bytes: &[u8; 54], part: usize, out: &mut Block) {
    out.d = f16_at(bytes, 52);
    let (low, high) = out.codes[..32].split_at_mut(16);
    match part {
        0..5 => trits(&bytes[..32], part, &mut out.codes[..32]),
        5 | 6 => {
            trits(&bytes[32..48], 2 * (part - 5), low);
            trits(&bytes[32..48], 2 * (part - 5) + 1, high);
        }
        _ => {
            trits(&bytes[32..48], 4, low);
            for (trit, out) in high.chunks_exact_mut(4).enumerate() {
                trits(&bytes[48..52], trit, out);
            }
        }
    }
}

/// Four two-bit codes to a byte: two runs of 32 bytes, whose four fields are 32 columns each.
pub(super) fn tq2_0(bytes: &[u8; 66], part: usize, out: &mut Block) {
    out.d = f16_at(bytes, 64);
    let (run, field) = (part / 4 % 2, part % 4);
    for (code, byte) in out.codes.iter_mut().zip(&bytes[32 * run..32 * run + 32]) {
        *code = byte >> (2 * field) & 3;
    }
}

/// A bit for each weight, the lowest first: set for 1.
pub(super) fn q1_0(bytes: &[u8; 18], part: usize, out: &mut Block) {
    out.d = f16_at(bytes, 0);
    for (codes, byte) in out.codes[..32].as_chunks_mut::<8>().0.iter_mut().zip(&bytes[2 + 4 * part..]) {
        *codes = std::array::from_fn(|bit| (byte >> bit & 1) * 2);
    }
}

/// Two bits for each weight, the lowest first.
pub(super) fn q2_0(bytes: &[u8; 18], part: usize, out: &mut Block) {
    out.d = f16_at(bytes, 0);
    for (codes, byte) in out.codes[..32].as_chunks_mut::<4>().0.iter_mut().zip(&bytes[2 + 8 * part..]) {
        *codes = std::array::from_fn(|field| byte >> (2 * field) & 3);
    }
}

/// Trit `trit` of each byte.
#[inline(always)]
fn trits(bytes: &[u8], trit: usize, out: &mut [u8]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let power = POWERS[trit % 5];
    for (out, byte) in out.iter_mut().zip(bytes) {
        *out = ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as u8;
    }
}
