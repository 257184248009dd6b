//! Packing: decoded blocks of sixteen rows, interleaved into a tile; tiles in parallel.

use super::codes::{CodeLayout, GroupCodes};
use super::format::{Block, BlockSource, PackedFormat};
use super::memory::Memory;
use super::scales::ScaleBlock;
use super::{PackedMatrix, TileLayout, Visitor};
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
        let block_len = format.block_len();
        if !cols.is_multiple_of(block_len) {
            return Err(ShapeError::Columns { cols, block_len });
        }
        let too_large = || ShapeError::TooLarge { rows, cols };
        let layout = format.visit(Measure { cols });
        let n_lines = rows.div_ceil(LANES).checked_mul(layout.lines()).ok_or_else(too_large)?;
        let memory = Memory::zeroed(n_lines).map_err(|_| too_large())?;
        let mut matrix = PackedMatrix { format, rows, cols, layout, memory };
        if n_lines > 0 {
            format.visit(Fill { matrix: &mut matrix, source, pool });
        }
        Ok(matrix)
    }
}

struct Measure {
    cols: usize,
}

impl Visitor for Measure {
    type Output = TileLayout;

    fn visit<C: CodeLayout, B: ScaleBlock>(self) -> TileLayout {
        let n_groups = self.cols / GROUP;
        let scale_bytes = n_groups / B::GROUPS * size_of::<B>();
        TileLayout {
            scale_lines: scale_bytes.div_ceil(size_of::<CodeRegister>()),
            code_lines: n_groups * C::REGISTERS,
        }
    }
}

struct Fill<'a, Source> {
    matrix: &'a mut PackedMatrix,
    source: &'a Source,
    pool: &'a Pool,
}

impl<Source: BlockSource> Visitor for Fill<'_, Source> {
    type Output = ();

    fn visit<C: CodeLayout, B: ScaleBlock>(self) {
        let PackedMatrix { rows, layout, memory, .. } = self.matrix;
        let n_tiles = rows.div_ceil(LANES);
        let tile_lines = layout.lines();
        let lines = Disjoint::new(memory.lines_mut());
        let pack = |tile: usize| {
            // SAFETY: each tile is packed by one chunk of one region.
            let lines = unsafe { lines.slice(tile * tile_lines..(tile + 1) * tile_lines) };
            let (scales, codes) = lines.split_at_mut(layout.scale_lines);
            let first_row = tile * LANES;
            let n_rows = (*rows - first_row).min(LANES);
            pack_tile::<C, B>(self.source, first_row, n_rows, scales.as_flattened_mut(), codes);
        };
        let tiles_per_band = (BAND_BYTES / (tile_lines * size_of::<CodeRegister>()).max(1)).max(1);
        for first in (0..n_tiles).step_by(tiles_per_band) {
            let n = (n_tiles - first).min(tiles_per_band);
            self.pool.run(n, |tile, _| pack(first + tile));
            self.source.done(first * LANES..((first + n) * LANES).min(*rows));
        }
    }
}

/// Packs the `n_rows <= 16` rows from `first_row` on; the rows that are missing become zeros.
fn pack_tile<C: CodeLayout, B: ScaleBlock>(
    source: &impl BlockSource,
    first_row: usize,
    n_rows: usize,
    scales: &mut [u8],
    codes: &mut [CodeRegister],
) {
    let mut rows: [Block; LANES] = std::array::from_fn(|_| Block::default());
    let code_blocks = codes.chunks_exact_mut(B::GROUPS * C::REGISTERS);
    let scale_blocks = scales.chunks_exact_mut(size_of::<B>());
    for (block, (scales, codes)) in scale_blocks.zip(code_blocks).enumerate() {
        for (row, out) in rows[..n_rows].iter_mut().enumerate() {
            source.block(first_row + row, block, out);
        }
        scales.copy_from_slice(bytemuck::bytes_of(&B::pack(&rows)));
        for (g, group) in codes.chunks_exact_mut(C::REGISTERS).enumerate() {
            let mut transposed: GroupCodes = [[0; GROUP]; LANES];
            for (row, codes) in rows.iter().zip(&mut transposed) {
                codes.copy_from_slice(&row.codes[g * GROUP..][..GROUP]);
            }
            C::pack(&transposed, group);
        }
    }
}
