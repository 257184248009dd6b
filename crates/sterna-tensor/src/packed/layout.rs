//! How large the tiles of a matrix are.

use super::codes::CodeLayout;
use super::scales::ScaleBlock;
use super::{PackedFormat, Visitor};
use crate::ShapeError;
use crate::activation::GROUP;
use crate::simd::{CodeRegister, LANES};

/// Sizes of the parts of a tile of sixteen rows, in 64-byte lines: sections one behind the other, of scales and then of codes.
///
/// A block with scales of its own for several groups is a section, so that a pass over a tile leaves out nothing and comes back to
/// nothing; where scales are too small for that, the whole tile is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileLayout {
    pub(super) n_sections: usize,
    /// Of each section.
    pub(super) scale_lines: usize,
    /// Of each section.
    pub(super) code_lines: usize,
    pub(super) columns: ColumnBlocks,
}

/// Blocks of columns of a row, and how many of them go together.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnBlocks {
    pub(super) n_blocks: usize,
    pub(super) n_scales: usize,
    /// Blocks that share their scales.
    pub(super) per_scale: usize,
    /// Of the blocks that share a scale, those whose sums with the scales of the activations are added up before it is
    /// applied: equal parts of all of them, of at most four.
    pub(super) per_run: usize,
}

impl ColumnBlocks {
    fn new(n_blocks: usize, per_scale: usize) -> Self {
        let per_run = (2..=4).rev().find(|run| per_scale.is_multiple_of(*run)).unwrap_or(1);
        ColumnBlocks { n_blocks, n_scales: n_blocks.div_ceil(per_scale), per_scale, per_run }
    }
}

impl TileLayout {
    /// The layout of rows of `cols` columns.
    ///
    /// # Errors
    /// When a row is not whole blocks.
    pub(super) fn new(format: PackedFormat, cols: usize) -> Result<TileLayout, ShapeError> {
        let block_len = format.block_len();
        if !cols.is_multiple_of(block_len) {
            return Err(ShapeError::Columns { cols, block_len });
        }
        Ok(format.visit(Measure { cols, blocks_per_scale: format.blocks_per_scale() }))
    }

    /// Lines of a section.
    pub(super) fn section_lines(self) -> usize {
        self.scale_lines.saturating_add(self.code_lines)
    }

    /// Lines of a tile.
    pub(super) fn lines(self) -> usize {
        self.section_lines().saturating_mul(self.n_sections)
    }

    /// Lines of all tiles of `rows` rows; `None` when they cannot be counted.
    pub(super) fn lines_of_rows(self, rows: usize) -> Option<usize> {
        rows.div_ceil(LANES).checked_mul(self.lines())
    }
}

impl PackedFormat {
    /// Bytes of a packed matrix of `rows` x `cols`, its padding included; `None` when a row is not whole blocks or
    /// the bytes cannot be counted.
    pub fn n_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        let layout = TileLayout::new(self, cols).ok()?;
        layout.lines_of_rows(rows)?.checked_mul(size_of::<CodeRegister>())
    }
}

struct Measure {
    cols: usize,
    blocks_per_scale: usize,
}

impl Visitor for Measure {
    type Output = TileLayout;

    fn visit<C: CodeLayout, B: ScaleBlock>(self) -> TileLayout {
        let n_groups = self.cols / GROUP;
        let columns = ColumnBlocks::new(n_groups / B::GROUPS, self.blocks_per_scale);
        let n_sections = if B::GROUPS > 1 { columns.n_blocks } else { 1 };
        let in_section = |n: usize| n / n_sections.max(1);
        let scale_bytes = in_section(columns.n_scales).saturating_mul(size_of::<B>());
        TileLayout {
            n_sections,
            scale_lines: scale_bytes.div_ceil(size_of::<CodeRegister>()),
            code_lines: C::n_registers(in_section(n_groups)),
            columns,
        }
    }
}
