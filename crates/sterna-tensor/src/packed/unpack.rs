//! The reverse of packing: codes, scales, and zero points or minima of a range of rows, as a quantizer made them.

use std::ops::Range;

use super::codes::{CodeLayout, QUADS};
use super::scales::ScaleBlock;
use super::{PackedMatrix, Tile, Visitor};
use crate::activation::GROUP;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Isa, ShapeError};

/// Rows of a matrix, taken apart. [`super::GroupedCodes`] of the same contents pack to the same symmetric or affine
/// matrix. Scales and minima are those of `f16` in all formats but wide ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnpackedRows {
    /// `[rows, cols]`.
    pub codes: Vec<u8>,
    /// `[rows, groups]`, where a group is [`super::PackedFormat::scale_group`] columns, the last maybe fewer.
    pub scales: Vec<f32>,
    /// `[rows, groups]` in affine formats, else empty: [`super::PackedFormat::zero`] is that of all groups.
    pub zero_points: Vec<u8>,
    /// `[rows, groups]` in formats with minima, else empty.
    pub minima: Vec<f32>,
}

impl PackedMatrix {
    /// Takes the rows `range` apart. Whole tiles of [`PackedMatrix::TILE_ROWS`] are the least work.
    ///
    /// # Errors
    /// When the format has scales of scales.
    ///
    /// # Panics
    /// When there are no such rows.
    pub fn unpack(&self, range: Range<usize>) -> Result<UnpackedRows, ShapeError> {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let Some(group_size) = self.format.scale_group() else {
            return Err(ShapeError::Format {
                expected: "a format with one level of scales",
                found: self.format,
            });
        };
        let n_groups = range.len() * self.cols.div_ceil(group_size);
        let room_if = |is_there| if is_there { n_groups } else { 0 };
        let mut out = UnpackedRows {
            codes: vec![0; range.len() * self.cols],
            scales: Vec::with_capacity(n_groups),
            zero_points: Vec::with_capacity(room_if(self.format.is_affine())),
            minima: Vec::with_capacity(room_if(self.format.has_minima())),
        };
        let UnpackedRows { codes, scales, zero_points, minima } = &mut out;
        let mut codes = codes.chunks_exact_mut(self.cols.max(1));
        let mut first = range.start;
        while first < range.end {
            let tile = first / LANES;
            let lanes = first % LANES..(range.end - tile * LANES).min(LANES);
            first += lanes.len();
            let rows: Vec<&mut [u8]> = codes.by_ref().take(lanes.len()).collect();
            self.format.visit(Unpack { matrix: self, tile, lanes, rows, scales, zero_points, minima });
        }
        Ok(out)
    }
}

/// Appends to scales, zero points and minima, and fills codes, for the rows `lanes` of one tile.
struct Unpack<'a> {
    matrix: &'a PackedMatrix,
    tile: usize,
    lanes: Range<usize>,
    rows: Vec<&'a mut [u8]>,
    scales: &'a mut Vec<f32>,
    zero_points: &'a mut Vec<u8>,
    minima: &'a mut Vec<f32>,
}

impl Visitor for Unpack<'_> {
    type Output = ();

    fn visit<C: CodeLayout, B: ScaleBlock>(self) {
        let tile = self.matrix.tile::<C, B>(self.tile);
        for lane in self.lanes.clone() {
            for group in tile.scales().filter_map(|scales| scales.group(lane)) {
                self.scales.push(group.d);
                self.zero_points.extend(group.zero_point);
                self.minima.extend(group.minimum);
            }
        }
        Isa::best().run(TileCodes { tile, first_lane: self.lanes.start, rows: self.rows });
    }
}

/// Copies the codes of some lanes of a tile.
struct TileCodes<'a, C, B> {
    tile: Tile<'a, C, B>,
    first_lane: usize,
    /// Those of `first_lane` and the lanes after it, `[cols]` each.
    rows: Vec<&'a mut [u8]>,
}

impl<C: CodeLayout, B: ScaleBlock> Kernel for TileCodes<'_, C, B> {
    type Output = ();
    const DOTS: bool = false;
    const TABLES: bool = C::TRITS;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut column = [0.0; LANES];
        for (group, codes) in self.tile.groups(s).enumerate() {
            for j in 0..QUADS {
                let quad = C::quad(s, codes, j);
                for i in 0..4 {
                    s.store(s.byte_to_f32(quad, i as u32), &mut column);
                    for (row, code) in self.rows.iter_mut().zip(&column[self.first_lane..]) {
                        row[group * GROUP + 4 * j + i] = *code as u8;
                    }
                }
            }
        }
    }
}
