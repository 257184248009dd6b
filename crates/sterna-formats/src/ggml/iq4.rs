//! Four-bit indices into a table of sixteen unevenly spaced values: IQ4_NL and IQ4_XS.
//!
//! The values are signed bytes, so that the weights compute as 8-bit codes without any error.

use sterna_tensor::Block;

use super::bits::{f16_at, nibbles};

/// The table of ggml (`kvalues_iq4nl`), plus 128.
const VALUES: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

pub(super) fn iq4_nl(bytes: &[u8; 18], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    look_up(&bytes[2..], &mut out.codes);
}

/// Eight 6-bit scales, offset by 32, for 32 columns each: low nibbles in four bytes, high bits in a u16.
pub(super) fn iq4_xs(bytes: &[u8; 136], out: &mut Block) {
    out.d = f16_at(bytes, 0);
    let high = u16::from_le_bytes([bytes[2], bytes[3]]);
    for group in 0..8 {
        let low = bytes[4 + group / 2] >> (4 * (group % 2)) & 15;
        let scale = (low | ((high >> (2 * group) & 3) as u8) << 4).wrapping_sub(32);
        out.scales[2 * group] = scale;
        out.scales[2 * group + 1] = scale;
    }
    for (codes, bytes) in out.codes.as_chunks_mut::<32>().0.iter_mut().zip(bytes[8..].chunks_exact(16)) {
        look_up(bytes, codes);
    }
}

#[inline(always)]
fn look_up(bytes: &[u8], codes: &mut [u8]) {
    nibbles(bytes, codes);
    for code in &mut codes[..32] {
        *code = VALUES[usize::from(*code & 15)];
    }
}
