//! MXFP4: 32 four-bit floats (one sign, two exponent and one mantissa bit) and a common power of two. Source: OCP
//! Microscaling Formats, version 1.0.
//!
//! A weight has two significant bits and an exponent of eight, so bf16 holds it exactly.

use half::bf16;

/// Twice the value of each code, as ggml counts them; the power of two is halved to match.
const TWICE: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

pub(super) fn dequantize(bytes: &[u8; 17], out: &mut [f32; 32]) {
    let scale = half_power_of_two(bytes[0]);
    let (low, high) = out.split_at_mut(16);
    for ((byte, low), high) in bytes[1..].iter().zip(low).zip(high) {
        *low = scale * TWICE[usize::from(byte & 15)];
        *high = scale * TWICE[usize::from(byte >> 4)];
    }
}

/// The weights as little-endian bf16.
pub(super) fn to_bf16(bytes: &[u8; 17], out: &mut [[u8; 2]; 32]) {
    let mut weights = [0.0; 32];
    dequantize(bytes, &mut weights);
    for (out, weight) in out.iter_mut().zip(weights) {
        *out = bf16::from_f32(weight).to_le_bytes();
    }
}

/// `2^(exponent - 128)`, also where that is subnormal.
fn half_power_of_two(exponent: u8) -> f32 {
    f32::from_bits(match exponent {
        0 | 1 => 0x0020_0000 << exponent,
        _ => u32::from(exponent - 1) << 23,
    })
}
