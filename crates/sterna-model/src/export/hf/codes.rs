//! Quantized matrices taken apart, in groups of a size that the other runtimes know.

use half::f16;
use sterna_tensor::{PackedFormat, PackedMatrix, ShapeError};

use super::tensors::HfTensor;
use crate::error::{ModelError, Result};
use crate::native::CanonicalTensor;

/// Group sizes that all runtimes know, largest first. The last divides every group size and every width of ours.
pub(super) const GROUP_SIZES: [usize; 3] = [128, 64, 32];

/// Some rows of a quantized matrix: a weight is `scale (code - zero point)`, or `scale code + minimum`.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// `[rows, cols]`.
    pub(super) codes: Vec<u8>,
    /// `[rows, groups]`.
    pub(super) scales: Vec<f16>,
    /// `[rows, groups]`; in symmetric formats all are the middle code.
    pub(super) zero_points: Vec<u8>,
    /// `[rows, groups]` where there are minima, else empty.
    pub(super) minima: Vec<f16>,
}

/// The format of a matrix whose weights are codes with scales of `f16`, and maybe zero points or minima. Those of one bit, which stand
/// for 0 and 2, are no numbers that the other tools have.
fn format(part: &CanonicalTensor) -> Option<PackedFormat> {
    part.packed_format()
        .filter(|format| format.scale_group().is_some() && !format.is_wide() && format.code_bits() > 1)
}

/// Bits of the codes of `tensor`; `None` when its weights are no codes, or its parts have codes of different bits.
pub(super) fn bits(tensor: &HfTensor) -> Option<usize> {
    let mut all = tensor.parts.iter().map(|part| format(part).map(PackedFormat::code_bits));
    let first = all.next()??;
    all.all(|bits| bits == Some(first)).then_some(first)
}

/// Whether some weights of `tensor` are `scale code + minimum`, with a minimum that may be no multiple of the scale.
pub(super) fn has_minima(tensor: &HfTensor) -> bool {
    tensor.parts.iter().any(|part| format(part).is_some_and(PackedFormat::has_minima))
}

/// Whether all groups of `tensor` have the middle code for a zero point.
pub(super) fn is_symmetric(tensor: &HfTensor) -> bool {
    let middle = |format: PackedFormat| {
        !format.is_affine() && usize::from(format.zero()) == 1 << (format.code_bits() - 1)
    };
    tensor.parts.iter().all(|part| format(part).is_some_and(middle))
}

/// The largest group size of [`GROUP_SIZES`] at which every group of `tensors` is whole groups.
pub(super) fn group_size<'a>(tensors: impl Iterator<Item = &'a HfTensor> + Clone) -> usize {
    let divides = |size: usize| {
        tensors.clone().flat_map(|tensor| &tensor.parts).all(|part| {
            let found = format(part).and_then(PackedFormat::scale_group).unwrap_or(part.cols);
            part.cols.is_multiple_of(size) && (found >= part.cols || found.is_multiple_of(size))
        })
    };
    let [.., smallest] = GROUP_SIZES;
    GROUP_SIZES.into_iter().find(|&size| divides(size)).unwrap_or(smallest)
}

/// All rows of `tensor`, which has no minima, with a scale and a zero point for every `group_size` columns.
pub(super) fn of(tensor: &HfTensor, group_size: usize) -> Result<Codes> {
    let mut all = Codes::default();
    for_each(tensor, group_size, usize::MAX, |codes| {
        all.codes.extend_from_slice(&codes.codes);
        all.scales.extend_from_slice(&codes.scales);
        all.zero_points.extend_from_slice(&codes.zero_points);
        Ok(())
    })?;
    Ok(all)
}

/// Gives the rows of `tensor` to `visit`, in order, about `n_values` at a time.
pub(super) fn for_each(
    tensor: &HfTensor,
    group_size: usize,
    n_values: usize,
    mut visit: impl FnMut(&Codes) -> Result<()>,
) -> Result<()> {
    for part in &tensor.parts {
        let matrix = packed(part)?;
        let tiles = (n_values / (part.cols * PackedMatrix::TILE_ROWS)).max(1);
        let step = tiles.saturating_mul(PackedMatrix::TILE_ROWS).min(part.rows);
        for first in (0..part.rows).step_by(step) {
            let rows = first..part.rows.min(first + step);
            let unpacked = matrix.unpack(rows).map_err(|error| no_codes(part, &error))?;
            let (format, cols) = (matrix.format(), part.cols);
            let source = format.scale_group().unwrap_or(cols);
            // Exactly: the format is none of the wide ones.
            let halves = |floats: &[f32]| floats.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>();
            let scales = spread(&halves(&unpacked.scales), cols, source, group_size);
            let zero_points = match format.is_affine() {
                true => spread(&unpacked.zero_points, cols, source, group_size),
                false => vec![format.zero(); scales.len()],
            };
            let minima = match format.has_minima() {
                true => spread(&halves(&unpacked.minima), cols, source, group_size),
                false => Vec::new(),
            };
            visit(&Codes { codes: unpacked.codes, scales, zero_points, minima })?;
        }
    }
    Ok(())
}

fn packed(part: &CanonicalTensor) -> Result<PackedMatrix> {
    let expected = "codes with scales";
    part.packed()?.ok_or_else(|| {
        ModelError::field(part.file(), format!("tensor {}", part.name), expected, part.ty.to_string())
    })
}

fn no_codes(part: &CanonicalTensor, error: &ShapeError) -> ModelError {
    ModelError::field(part.file(), format!("tensor {}", part.name), "codes with scales", error.to_string())
}

/// `[rows, groups]` of groups of `source` columns, the last maybe fewer, said for every `size` columns.
fn spread<T: Copy>(per_group: &[T], cols: usize, source: usize, size: usize) -> Vec<T> {
    let rows = per_group.chunks_exact(cols.div_ceil(source));
    rows.flat_map(|row| (0..cols / size).map(|group| row[group * size / source])).collect()
}

/// Codes of `bits` bits, one after the other from the lowest bit on, in words of 32 bits. Whole words must come out.
pub(super) fn pack_bits(codes: impl IntoIterator<Item = u8>, bits: usize, words: &mut Vec<u32>) {
    let (mut pending, mut n_pending) = (0u64, 0);
    for code in codes {
        pending |= u64::from(code) << n_pending;
        n_pending += bits;
        if n_pending >= 32 {
            words.push(pending as u32);
            pending >>= 32;
            n_pending -= 32;
        }
    }
    debug_assert_eq!(n_pending, 0, "a part of a word is left");
}

/// The little-endian bytes of `words`.
pub(super) fn word_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The little-endian bytes of `scales`.
pub(super) fn scale_bytes(scales: impl IntoIterator<Item = f16>) -> Vec<u8> {
    scales.into_iter().flat_map(f16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_straddle_words() {
        let mut words = Vec::new();
        // The layout of 3 bits that GPTQ kernels read: code 10 has two bits in the first word and one in the second.
        pack_bits((0..32).map(|i| if i == 10 { 7 } else { 0 }), 3, &mut words);
        assert_eq!(words, [0b11 << 30, 1, 0]);
        words.clear();
        pack_bits((0..8).map(|i| i + 1), 4, &mut words);
        assert_eq!(words, [0x8765_4321]);
        words.clear();
        pack_bits([0x3f; 16], 6, &mut words);
        assert_eq!(words, [u32::MAX; 3]);
    }

    #[test]
    fn groups_are_said_again_for_every_part_of_them() {
        assert_eq!(spread(&[1, 2, 3, 4], 192, 128, 64), [1, 1, 2, 3, 3, 4]);
        assert_eq!(spread(&[1, 2], 64, 64, 64), [1, 2]);
    }
}
