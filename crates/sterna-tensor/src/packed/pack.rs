//! Packing: decoded blocks of sixteen rows, interleaved into a tile; tiles in parallel.

use super::codes::{CodeLayout, GroupCodes};
use super::layout::TileLayout;
use super::memory::{Memory, OwnedLines};
use super::scales::ScaleBlock;
use super::source::{Block, BlockSource, GroupedCodes};
use super::{PackedFormat, PackedMatrix, Visitor};
use crate::activation::GROUP;
use crate::simd::{CodeRegister, LANES};
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
        let mut memory = OwnedLines::zeroed(n_lines).map_err(|_| too_large())?;
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
    memory: &'a mut OwnedLines,
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
            let (scales, codes) = lines.split_at_mut(layout.scale_lines);
            let first_row = tile * LANES;
            let n_rows = (rows - first_row).min(LANES);
            let (source, scales) = (self.source, scales.as_flattened_mut());
            pack_tile::<C, B>(format, source, first_row, n_rows, n_blocks, scales, codes);
        };
        let tiles_per_band = (BAND_BYTES / (tile_lines * size_of::<CodeRegister>()).max(1)).max(1);
        for first in (0..n_tiles).step_by(tiles_per_band) {
            let n = (n_tiles - first).min(tiles_per_band);
            self.pool.run(n, |tile, _| pack(first + tile));
            self.source.done(first * LANES..((first + n) * LANES).min(rows));
        }
    }
}

/// Packs the `n_rows <= 16` rows from `first_row` on; the rows that are missing become zeros.
fn pack_tile<C: CodeLayout, B: ScaleBlock>(
    format: PackedFormat,
    source: &impl BlockSource,
    first_row: usize,
    n_rows: usize,
    n_blocks: usize,
    scales: &mut [u8],
    codes: &mut [CodeRegister],
) {
    let mut rows: [Block; LANES] = std::array::from_fn(|_| Block::default());
    let blocks_per_scale = format.blocks_per_scale();
    let mut scales = scales.chunks_exact_mut(size_of::<B>());
    for block in 0..n_blocks {
        for (row, out) in rows[..n_rows].iter_mut().enumerate() {
            source.block(first_row + row, block, out);
        }
        if block.is_multiple_of(blocks_per_scale)
            && let Some(scales) = scales.next()
        {
            scales.copy_from_slice(bytemuck::bytes_of(&B::pack(&rows)));
        }
        for g in 0..B::GROUPS {
            let mut transposed: GroupCodes = [[0; GROUP]; LANES];
            for (row, codes) in rows.iter().zip(&mut transposed) {
                codes.copy_from_slice(&row.codes[g * GROUP..][..GROUP]);
            }
            C::pack(&transposed, block * B::GROUPS + g, codes);
        }
    }
}
