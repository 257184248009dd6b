//! Ternary codes, five to a byte: 3^5 is 243, so a byte holds five of them with little to spare, 1.6 bits each.
//!
//! Five groups of 32 columns (160 columns) are a *span* of eight registers. Group `g` has register `g` to itself, whose five trits are
//! its first five quads; trit `g` of the last three registers are its quads 5, 6 and 7:
//!
//! ```text
//! register 0 .. 4    | quads 0, 1, 2, 3, 4 of group 0 | of group 1 | ... | of group 4 |
//! register 5, 6, 7   | quad 5 of groups 0, 1, 2, 3, 4 | quad 6 of ... | quad 7 of ... |
//! ```
//!
//! A span of fewer groups, the last of a row, has a register for each of them and the same three.
//!
//! The byte is the smallest fraction of 256 that is at least the five trits, read as a fraction to the base 3: `ceil(n 256 / 243)`. Then
//! each trit is what comes before the point when the byte is multiplied by 3, and no byte is without meaning: see [`Simd::trit`].

use super::codes::{CodeLayout, GroupCodes, words};
use crate::simd::{CodeRegister, LANES, Simd, TRITS};

/// Groups of a whole span.
const SPAN: usize = 5;
/// Registers that the groups of a span share.
const SHARED: usize = 3;

pub(super) struct Trits;

/// A group of a span.
#[derive(Clone, Copy)]
pub(super) struct TritGroup<'a, S: Simd> {
    own: &'a CodeRegister,
    /// Its quads of the shared registers.
    shared: [S::U8; SHARED],
}

/// Takes a tile apart, the registers that groups share once for all of them.
struct TritGroups<'a, S: Simd> {
    s: S,
    /// Registers of the groups of this span that are to come.
    own: std::slice::Iter<'a, CodeRegister>,
    /// Spans after this one.
    rest: &'a [CodeRegister],
    /// `[place, shared register]`
    shared: [[S::U8; SHARED]; TRITS],
    /// That of the next group.
    place: usize,
}

impl<'a, S: Simd> Iterator for TritGroups<'a, S> {
    type Item = TritGroup<'a, S>;

    // A function of its own would be one without the instruction set.
    #[expect(clippy::needless_range_loop, reason = "an index of both arrays")]
    #[inline(always)]
    fn next(&mut self) -> Option<TritGroup<'a, S>> {
        if self.own.len() == 0 {
            let (span, rest) = self.rest.split_at(self.rest.len().min(SPAN + SHARED));
            let registers: &[CodeRegister; SHARED] = span.last_chunk()?;
            (self.own, self.rest, self.place) = (span[..span.len() - SHARED].iter(), rest, 0);
            for i in 0..SHARED {
                let trits = self.s.trits(self.s.load_bytes(&registers[i]));
                for place in 0..TRITS {
                    self.shared[place][i] = trits[place];
                }
            }
        }
        let group = TritGroup { own: self.own.next()?, shared: self.shared[self.place] };
        self.place += 1;
        Some(group)
    }
}

/// The register of a span of `len` registers that holds quad `j` of group `place`, and the place of its trit there.
fn find(len: usize, place: usize, j: usize) -> (usize, usize) {
    if j < TRITS { (place, j) } else { (len - SHARED + j - TRITS, place) }
}

impl CodeLayout for Trits {
    type Group<'a, S: Simd> = TritGroup<'a, S>;
    const BITS: u32 = 2;
    const TRITS: bool = true;

    fn n_registers(n_groups: usize) -> usize {
        n_groups.saturating_add(n_groups.div_ceil(SPAN).saturating_mul(SHARED))
    }
    #[inline(always)]
    fn groups<S: Simd>(s: S, tile: &[CodeRegister]) -> impl Iterator<Item = TritGroup<'_, S>> {
        let none = s.load_bytes(&[0; 64]);
        TritGroups { s, own: [].iter(), rest: tile, shared: [[none; SHARED]; TRITS], place: 0 }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: TritGroup<'_, S>, j: usize) -> S::U8 {
        if j < TRITS { s.trits(s.load_bytes(group.own))[j] } else { group.shared[j - TRITS] }
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, index: usize, tile: &mut [CodeRegister]) {
        let (span, place) = (index / SPAN, index % SPAN);
        let from = span * (SPAN + SHARED);
        let span = &mut tile[from..];
        let len = span.len().min(SPAN + SHARED);
        for row in 0..LANES {
            for (j, word) in words(codes, row).into_iter().enumerate() {
                let (register, place) = find(len, place, j);
                for (byte, code) in span[register][4 * row..][..4].iter_mut().zip(word.to_ne_bytes()) {
                    *byte = with_trit(*byte, place, code.min(2));
                }
            }
        }
    }
}

/// `byte` with its trit `place`, which was 0, set.
fn with_trit(byte: u8, place: usize, trit: u8) -> u8 {
    let n = u32::from(byte) * 243 / 256 + u32::from(trit) * 3u32.pow((TRITS - 1 - place) as u32);
    (n * 256).div_ceil(243) as u8
}
