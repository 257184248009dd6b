//! Weights on their way from memory, which with few tokens sets the pace.

use super::Tile;
use super::codes::CodeLayout;
use super::scales::ScaleBlock;
use crate::Fetch;
use crate::simd::{CodeRegister, prefetch};

/// What memory delivers at a time.
const LINE: usize = size_of::<CodeRegister>();
/// How far [`Fetch::Ahead`] asks: more than memory delivers while one line is on its way, and a small part of the first-level
/// cache.
const BYTES_AHEAD: usize = 8 << 10;

/// Sees to it that the bytes of a tile come in the order in which they lie.
///
/// A section of a tile is two streams, scales and codes, of which the first ends where the second begins. A processor that fetches
/// ahead by itself follows one that leaves nothing out, so [`Fetch::InOrder`] touches all scales of a section first. [`Fetch::Ahead`]
/// goes through the bytes [`BYTES_AHEAD`] of where the groups of columns are read: only what follows both streams *in memory* is
/// right for both, at the end of a section the scales of the next one, then its codes.
pub(super) struct Ahead {
    tile: *const u8,
    bytes_per_group: usize,
    /// Bytes from the start of the tile that stand for the groups so far.
    reached: usize,
    /// Those that were asked for.
    asked: usize,
    /// The section that comes next, and its lines of scales that are to be touched.
    section: *const u8,
    section_bytes: usize,
    scale_lines: usize,
}

impl Ahead {
    /// For a `first` pass over `tile`; a later one asks for nothing.
    #[inline(always)]
    pub(super) fn of<C: CodeLayout, B: ScaleBlock>(
        tile: &Tile<'_, C, B>,
        fetch: Fetch,
        first: bool,
    ) -> Ahead {
        let (start, layout) = (tile.lines.as_ptr().cast(), tile.layout);
        let n_groups = layout.columns.n_blocks * B::GROUPS;
        let mut ahead = Ahead {
            tile: start,
            bytes_per_group: match fetch {
                Fetch::Ahead if first => size_of_val(tile.lines).div_ceil(n_groups.max(1)),
                _ => 0,
            },
            reached: 0,
            asked: 0,
            section: start,
            section_bytes: layout.section_lines() * LINE,
            scale_lines: match fetch {
                Fetch::InOrder if first => layout.scale_lines,
                _ => 0,
            },
        };
        // The only one.
        if const { B::GROUPS == 1 } {
            ahead.section();
        }
        ahead
    }

    /// Touches the scales of the next section: at the start of each block, where that is one.
    #[inline(always)]
    pub(super) fn section(&mut self) {
        for line in 0..self.scale_lines {
            prefetch(self.section.wrapping_add(line * LINE).cast());
        }
        self.section = self.section.wrapping_add(self.section_bytes);
    }

    /// Asks for as much as a group takes.
    #[inline(always)]
    pub(super) fn group(&mut self) {
        self.reached += self.bytes_per_group;
        while self.asked < self.reached {
            prefetch(self.tile.wrapping_add(self.asked + BYTES_AHEAD).cast());
            self.asked += LINE;
        }
    }
}
