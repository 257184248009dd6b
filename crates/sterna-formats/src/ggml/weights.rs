//! From a decoded block to the weights it means: one formula per kind of scale. Each product is rounded once, in the
//! order in which ggml rounds.

use sterna_tensor::Block;

/// `w = d (code - zero)`, 32 columns.
pub(super) fn group(block: &Block, zero: u8, out: &mut [f32; 32]) {
    let d = block.d.to_f32();
    for (out, &code) in out.iter_mut().zip(&block.codes) {
        *out = d * f32::from(i16::from(code) - i16::from(zero));
    }
}

/// `w = d code + m`, 32 columns.
pub(super) fn group_min(block: &Block, out: &mut [f32; 32]) {
    let (d, m) = (block.d.to_f32(), block.m.to_f32());
    for (out, &code) in out.iter_mut().zip(&block.codes) {
        *out = d * f32::from(code) + m;
    }
}

/// `w = (d scale) code - (m min)`, a scale and a minimum for 32 of 256 columns.
pub(super) fn super_min(block: &Block, out: &mut [f32; 256]) {
    let groups = out.as_chunks_mut::<32>().0.iter_mut().zip(block.codes.as_chunks::<32>().0);
    for ((out, codes), (&scale, &min)) in groups.zip(block.scales.iter().zip(&block.mins)) {
        let (d, m) = (block.d.to_f32() * f32::from(scale), block.m.to_f32() * f32::from(min));
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = d * f32::from(code) - m;
        }
    }
}

/// `w = (d scale) (code - zero)`, a signed scale for 16 of 256 columns.
pub(super) fn super_signed(block: &Block, zero: u8, out: &mut [f32; 256]) {
    let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(block.codes.as_chunks::<16>().0);
    for ((out, codes), &scale) in groups.zip(&block.scales) {
        let d = block.d.to_f32() * f32::from(scale as i8);
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = d * f32::from(i16::from(code) - i16::from(zero));
        }
    }
}
