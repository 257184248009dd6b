//! What the decoders of several types share.

use half::f16;

/// The `f16` at byte `at`.
#[inline]
pub(super) fn f16_at<const N: usize>(bytes: &[u8; N], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The low nibbles of all bytes, then their high nibbles.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8], out: &mut [u8]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = byte & 0x0f;
        *high = byte >> 4;
    }
}

/// The two-bit fields of all bytes: lowest fields first, then the next.
#[inline(always)]
pub(super) fn pairs(bytes: &[u8], out: &mut [u8]) {
    for (field, out) in out.chunks_exact_mut(bytes.len()).take(4).enumerate() {
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = byte >> (2 * field) & 3;
        }
    }
}
