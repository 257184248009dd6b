//! Packing: decoded blocks of sixteen rows, interleaved into a tile; tiles in parallel.

use std::ops::Range;

use super::codes::{CodeLayout, GroupCodes};
use super::layout::TileLayout;
use super::memory::Memory;
use super::scales::ScaleBlock;
use super::source::{Block, BlockSource, GroupedCodes};
use super::{PackedFormat, PackedMatrix, Visitor};
use crate::activation::GROUP;
use crate::simd::{CodeRegister, LANES};
use crate::slab::SlabLines;
use crate::{Disjoint, Pool, ShapeError};

/// Bytes of tiles that are packed before their source is told that it is done with those rows.
const BAND_BYTES: usize = 16 << 20;

impl PackedMatrix {
    /// Packs `rows` x `cols` weights of `format`, asking `source` for every block once.
    ///
    /// # Errors
    /// When a row is not whole blocks, or memory for the matrix cannot be had.
    pub fn pack(
        format: PackedFormat,
        rows: usize,
        cols: usize,
        source: &impl BlockSource,
        pool: &Pool,
    ) -> Result<PackedMatrix, ShapeError> {
        let layout = TileLayout::new(format, cols)?;
        let too_large = || ShapeError::TooLarge { rows, cols };
        let n_lines = layout.lines_of_rows(rows).ok_or_else(too_large)?;
        let mut memory = SlabLines::zeroed(n_lines).map_err(|_| too_large())?;
        if n_lines > 0 {
            format.visit(Fill { format, rows, cols, layout, memory: &mut memory, source, pool });
        }
        Ok(PackedMatrix { format, rows, cols, layout, memory: Memory::Owned(memory) })
    }

    /// Packs the codes of a symmetric or affine format.
    ///
    /// # Errors
    /// When `format` is neither, a length is wrong, a code or a zero point has more bits than the format, and as
    /// [`PackedMatrix::pack`].
    pub fn from_codes(
        format: PackedFormat,
        codes: GroupedCodes,
        pool: &Pool,
    ) -> Result<PackedMatrix, ShapeError> {
        PackedMatrix::pack(format, codes.rows, codes.cols, &codes.check(format)?, pool)
    }
}

struct Fill<'a, Source> {
    format: PackedFormat,
    rows: usize,
    cols: usize,
    layout: TileLayout,
    memory: &'a mut SlabLines,
    source: &'a Source,
    pool: &'a Pool,
}

impl<Source: BlockSource> Visitor for Fill<'_, Source> {
    type Output = ();

    fn visit<C: CodeLayout, B: ScaleBlock>(self) {
        let Fill { format, rows, layout, memory, .. } = self;
        let n_tiles = rows.div_ceil(LANES);
        let n_blocks = self.cols / (B::GROUPS * GROUP);
        let tile_lines = layout.lines();
        let lines = Disjoint::new(memory.lines_mut());
        let pack = |tile: usize| {
            // SAFETY: each tile is packed by one chunk of one region.
            let lines = unsafe { lines.slice(tile * tile_lines..(tile + 1) * tile_lines) };
            let first_row = tile * LANES;
            let rows = first_row..(first_row + LANES).min(rows);
            let blocks_of_section = n_blocks / layout.n_sections.max(1);
            for (i, section) in lines.chunks_exact_mut(layout.section_lines().max(1)).enumerate() {
                let blocks = i * blocks_of_section..(i + 1) * blocks_of_section;
                pack_section::<C, B>(
                    format,
                    self.source,
                    rows.clone(),
                    blocks,
                    section.split_at_mut(layout.scale_lines),
                );
            }
        };
        let tiles_per_band = (BAND_BYTES / (tile_lines * size_of::<CodeRegister>()).max(1)).max(1);
        for first in (0..n_tiles).step_by(tiles_per_band) {
            let n = (n_tiles - first).min(tiles_per_band);
            self.pool.run(n, |tile, _| pack(first + tile));
            self.source.done(first * LANES..((first + n) * LANES).min(rows));
        }
    }
}

/// Packs blocks of up to sixteen rows; those that are missing become zeros.
fn pack_section<C: CodeLayout, B: ScaleBlock>(
    format: PackedFormat,
    source: &impl BlockSource,
    rows: Range<usize>,
    blocks: Range<usize>,
    (scales, codes): (&mut [CodeRegister], &mut [CodeRegister]),
) {
    let mut of_rows: [Block; LANES] = std::array::from_fn(|_| Block::default());
    let blocks_per_scale = format.blocks_per_scale();
    let mut scales = scales.as_flattened_mut().chunks_exact_mut(size_of::<B>());
    for (i, block) in blocks.enumerate() {
        for (row, out) in rows.clone().zip(&mut of_rows) {
            source.block(row, block, out);
        }
        if i.is_multiple_of(blocks_per_scale)
            && let Some(scales) = scales.next()
        {
            scales.copy_from_slice(bytemuck::bytes_of(&B::pack(&of_rows)));
        }
        for g in 0..B::GROUPS {
            let mut transposed: GroupCodes = [[0; GROUP]; LANES];
            for (row, codes) in of_rows.iter().zip(&mut transposed) {
                codes.copy_from_slice(&row.codes[g * GROUP..][..GROUP]);
            }
            C::pack(&transposed, i * B::GROUPS + g, codes);
        }
    }
}
