//! Asking for weights before they are needed: with few tokens memory sets the pace, and a CPU does not by itself look as
//! far ahead as its memory is slow.

use super::Tile;
use super::codes::CodeLayout;
use super::scales::ScaleBlock;
use crate::simd::{CodeRegister, prefetch};

/// How far: more than memory delivers while one line is on its way, and a small part of the first-level cache.
const BYTES_AHEAD: usize = 8 << 10;

/// Goes through the bytes of a tile as they lie, [`BYTES_AHEAD`] of where its groups of columns are read.
///
/// Scales and codes of a tile are two streams, of which the first ends where the second begins. Only what follows both *in
/// memory* is right for both: at the end of a tile that is the scales of the next one, then its codes.
pub(super) struct Ahead {
    tile: *const u8,
    bytes_per_group: usize,
    /// Bytes from the start of the tile that stand for the groups so far.
    reached: usize,
    /// Those that were asked for.
    asked: usize,
}

impl Ahead {
    #[inline(always)]
    pub(super) fn of<C: CodeLayout, B: ScaleBlock>(tile: &Tile<'_, C, B>) -> Ahead {
        let start = tile.scales.as_ptr().cast::<u8>();
        let n_bytes = tile.codes.as_ptr_range().end.addr() - start.addr();
        Ahead {
            tile: start,
            bytes_per_group: n_bytes.div_ceil((tile.columns.n_blocks * B::GROUPS).max(1)),
            reached: 0,
            asked: 0,
        }
    }

    /// Asks for as much as a group takes.
    #[inline(always)]
    pub(super) fn group(&mut self) {
        self.reached += self.bytes_per_group;
        while self.asked < self.reached {
            prefetch(self.tile.wrapping_add(self.asked + BYTES_AHEAD).cast());
            self.asked += size_of::<CodeRegister>();
        }
    }
}
