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
/// Scales and codes of a tile are two streams, of which the first ends where the second begins. A processor that fetches ahead by
/// itself follows one that leaves nothing out, so [`Fetch::InOrder`] touches all scales first. [`Fetch::Ahead`] goes through the
/// bytes [`BYTES_AHEAD`] of where the groups of columns are read: only what follows both streams *in memory* is right for both,
/// at the end of a tile the scales of the next one, then its codes.
pub(super) struct Ahead {
    tile: *const u8,
    bytes_per_group: usize,
    /// Bytes from the start of the tile that stand for the groups so far.
    reached: usize,
    /// Those that were asked for.
    asked: usize,
}

impl Ahead {
    /// For a `first` pass over `tile`; a later one asks for nothing.
    #[inline(always)]
    pub(super) fn of<C: CodeLayout, B: ScaleBlock>(
        tile: &Tile<'_, C, B>,
        fetch: Fetch,
        first: bool,
    ) -> Ahead {
        let (scales, codes) = (tile.scales.as_ptr_range(), tile.codes.as_ptr_range());
        let start = scales.start.cast::<u8>();
        let mut ahead = Ahead { tile: start, bytes_per_group: 0, reached: 0, asked: 0 };
        match fetch {
            _ if !first => {}
            Fetch::InOrder => {
                let n_bytes = scales.end.addr() - start.addr();
                (0..n_bytes).step_by(LINE).for_each(|at| prefetch(start.wrapping_add(at).cast()));
            }
            Fetch::Ahead => {
                let n_bytes = codes.end.addr() - start.addr();
                ahead.bytes_per_group = n_bytes.div_ceil((tile.columns.n_blocks * B::GROUPS).max(1));
            }
        }
        ahead
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
