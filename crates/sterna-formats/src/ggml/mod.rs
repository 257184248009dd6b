//! The block-quantized tensor types of ggml, as GGUF files hold them.
//!
//! A row is a sequence of blocks of [`GgmlType::block_len`] weights in [`GgmlType::block_bytes`] bytes. A decoder
//! turns one block into integer codes and scales ([`sterna_tensor::Block`]); packing keeps those, and
//! [`dequantize`] multiplies them out. Two types have no packed form: Q2_K becomes f32 and MXFP4 bf16, both exact.
//! Source: `ggml-common.h` and `ggml-quants.c` of github.com/ggml-org/llama.cpp.

mod bits;
pub mod i2_s;
mod iq4;
mod k_quants;
mod legacy;
mod mxfp4;
mod pack;
mod ternary;
mod types;
mod weights;
pub mod write;

use sterna_tensor::Block;

pub(crate) use pack::matrix;
pub use types::GgmlType;

/// Multiplies out the blocks in `data`: exactly the weights they mean, in f32.
///
/// # Panics
/// When `data` is not whole blocks, or `out` does not hold exactly their weights.
pub fn dequantize(ty: GgmlType, data: &[u8], out: &mut [f32]) {
    let n_blocks = data.len() / ty.block_bytes();
    assert_eq!(data.len(), n_blocks * ty.block_bytes(), "bytes of whole {ty} blocks");
    assert_eq!(out.len(), n_blocks * ty.block_len(), "weights of {n_blocks} {ty} blocks");
    use weights::{group, group_min, super_min, super_signed};
    match ty {
        GgmlType::Q4_0 => decoded(data, out, legacy::q4_0, |block, out| group(block, 8, out)),
        GgmlType::Q4_1 => decoded(data, out, legacy::q4_1, group_min),
        GgmlType::Q5_0 => decoded(data, out, legacy::q5_0, |block, out| group(block, 16, out)),
        GgmlType::Q5_1 => decoded(data, out, legacy::q5_1, group_min),
        GgmlType::Q8_0 => decoded(data, out, legacy::q8_0, |block, out| group(block, 128, out)),
        GgmlType::Q2_K => each(data, out, k_quants::dequantize_q2_k),
        GgmlType::Q3_K => decoded(data, out, k_quants::q3_k, |block, out| super_signed(block, 4, out)),
        GgmlType::Q4_K => decoded(data, out, k_quants::q4_k, super_min),
        GgmlType::Q5_K => decoded(data, out, k_quants::q5_k, super_min),
        GgmlType::Q6_K => decoded(data, out, k_quants::q6_k, |block, out| super_signed(block, 32, out)),
        GgmlType::IQ4_NL => decoded(data, out, iq4::iq4_nl, |block, out| group(block, 128, out)),
        GgmlType::IQ4_XS => decoded(data, out, iq4::iq4_xs, |block, out| super_signed(block, 128, out)),
        GgmlType::TQ1_0 => parts::<54, 256>(data, out, ternary::tq1_0),
        GgmlType::TQ2_0 => parts::<66, 256>(data, out, ternary::tq2_0),
        GgmlType::Q1_0 => parts::<18, 128>(data, out, ternary::q1_0),
        GgmlType::Q2_0 => parts::<18, 64>(data, out, ternary::q2_0),
        GgmlType::MXFP4 => each(data, out, mxfp4::dequantize),
    }
}

/// Applies `dequantize` to every block of `N` bytes and `LEN` weights.
fn each<const N: usize, const LEN: usize, T>(
    data: &[u8],
    out: &mut [T],
    mut dequantize: impl FnMut(&[u8; N], &mut [T; LEN]),
) {
    for (bytes, out) in data.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        dequantize(bytes, out);
    }
}

/// Decodes every block and multiplies it out by `weights`.
fn decoded<const N: usize, const LEN: usize>(
    data: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; N], &mut Block),
    weights: impl Fn(&Block, &mut [f32; LEN]),
) {
    let mut block = Block::default();
    each(data, out, |bytes, out| {
        decode(bytes, &mut block);
        weights(&block, out);
    });
}

/// The same for blocks that are decoded in parts of 32 weights, each one less than its code times the scale.
fn parts<const N: usize, const LEN: usize>(
    data: &[u8],
    out: &mut [f32],
    decode: fn(&[u8; N], usize, &mut Block),
) {
    let mut block = Block::default();
    each(data, out, |bytes, out: &mut [f32; LEN]| {
        for (part, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            decode(bytes, part, &mut block);
            weights::group(&block, 1, out);
        }
    });
}
