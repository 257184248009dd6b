//! Where the weights come from that are packed.

use std::ops::Range;

use half::f16;

use super::PackedFormat;
use crate::ShapeError;
use crate::activation::GROUP;

/// One block of one row, decoded: what a [`BlockSource`] hands over. Which fields count depends on the format;
/// with `g` the group of 32 columns and `h` that of 16, a weight is
///
/// | formats | weight |
/// |---|---|
/// | symmetric ones (Q4_0, Q5_0, Q8_0, IQ4_NL among them), and ternary ones | `d (code - `[`PackedFormat::zero`]`)` |
/// | affine ones | `d (code - zero)` |
/// | those with a minimum (Q4_1, Q5_1 among them) | `d code + m` |
/// | wide ones | `wide_d code + wide_m` |
/// | Q4_K, Q5_K | `d scales[g] code - m mins[g]` |
/// | Q3_K, Q6_K, IQ4_XS | `d scales[h] (code - `[`PackedFormat::zero`]`)`, the scales being the bits of an `i8` |
///
/// Where several blocks share a scale, the first of them says it; what the others say does not count.
#[derive(Debug, Clone)]
pub struct Block {
    /// One code per column; the first [`PackedFormat::block_len`] count.
    pub codes: [u8; 256],
    /// Scale.
    pub d: f16,
    /// Minimum, or the scale of the minima.
    pub m: f16,
    /// Scale of wide formats.
    pub wide_d: f32,
    /// Minimum of wide formats.
    pub wide_m: f32,
    /// Zero point, 0 to 15.
    pub zero: u8,
    /// Integer scales per group.
    pub scales: [u8; 16],
    /// Integer minima per group.
    pub mins: [u8; 16],
}

impl Default for Block {
    fn default() -> Block {
        let (d, m) = (f16::ZERO, f16::ZERO);
        Block { codes: [0; 256], d, m, wide_d: 0.0, wide_m: 0.0, zero: 0, scales: [0; 16], mins: [0; 16] }
    }
}

/// Where weights to be packed come from, block by block, in any order and from several threads.
pub trait BlockSource: Sync {
    /// Decodes block `block` of row `row` into `out`, all of the fields that the format has. Codes beyond the
    /// format's bits are a bug of the source; they are masked, not checked.
    fn block(&self, row: usize, block: usize, out: &mut Block);

    /// Is told that no block of `rows` will be asked for again, so that a source in a mapped file can give the memory
    /// back before all of the matrix is in memory twice.
    fn done(&self, rows: Range<usize>) {
        let _ = rows;
    }
}

/// What a quantizer makes of a matrix: codes, and for every `group_size` columns of a row a scale and, in affine
/// formats, a zero point. The last group of a row may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct GroupedCodes<'a> {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// `[rows, cols]`
    pub codes: &'a [u8],
    /// `[rows, groups]`
    pub scales: &'a [f16],
    /// `[rows, groups]`; empty for symmetric formats.
    pub zero_points: &'a [u8],
}

/// [`GroupedCodes`] that fit a format.
pub(super) struct CheckedCodes<'a> {
    of: GroupedCodes<'a>,
    group_size: usize,
    n_groups: usize,
}

impl<'a> GroupedCodes<'a> {
    /// Checks lengths, and that codes, zero points and scales have no more bits than the format.
    pub(super) fn check(self, format: PackedFormat) -> Result<CheckedCodes<'a>, ShapeError> {
        let GroupedCodes { rows, cols, codes, scales, zero_points } = self;
        let Some(group_size) = format.group_size() else {
            return Err(ShapeError::Format { expected: "a symmetric or affine format", found: format });
        };
        let n_groups = cols.div_ceil(group_size);
        let n_zero_points = if format.is_affine() { n_groups } else { 0 };
        for (kind, found, per_row) in [
            ("codes", codes.len(), cols),
            ("scales", 2 * scales.len(), 2 * n_groups),
            ("zero points", zero_points.len(), n_zero_points),
        ] {
            let expected = rows.checked_mul(per_row).ok_or(ShapeError::TooLarge { rows, cols })?;
            if found != expected {
                return Err(ShapeError::Length { rows, cols, kind: kind.to_owned(), expected, found });
            }
        }
        let largest = format.largest_code();
        if let Some(&found) = codes.iter().chain(zero_points).find(|&&code| !format.has_code(code)) {
            return Err(ShapeError::Code { largest, found });
        }
        let fits =
            |scale: &&f16| format.has_signed_scales() || format.stored_scale(scale.to_f32()) == **scale;
        match scales.iter().find(|scale| !fits(scale)) {
            Some(found) => Err(ShapeError::Scale { format, found: found.to_string() }),
            None => Ok(CheckedCodes { of: self, group_size, n_groups }),
        }
    }
}

impl BlockSource for CheckedCodes<'_> {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let first = block * GROUP;
        let group = row * self.n_groups + first / self.group_size;
        out.codes[..GROUP].copy_from_slice(&self.of.codes[row * self.of.cols + first..][..GROUP]);
        out.d = self.of.scales[group];
        out.zero = self.of.zero_points.get(group).copied().unwrap_or(0);
    }
}
