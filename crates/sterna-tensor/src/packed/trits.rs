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

/// Group `place` of a span.
#[derive(Clone, Copy)]
pub(super) struct TritGroup<'a> {
    span: &'a [CodeRegister],
    place: usize,
}

impl TritGroup<'_> {
    /// The register that holds quad `j`, and the place of its trit there.
    #[inline(always)]
    fn find(self, j: usize) -> (usize, usize) {
        if j < TRITS { (self.place, j) } else { (self.span.len() - SHARED + j - TRITS, self.place) }
    }
}

impl CodeLayout for Trits {
    type Group<'a> = TritGroup<'a>;
    const BITS: u32 = 2;
    const TRITS: bool = true;

    fn n_registers(n_groups: usize) -> usize {
        n_groups.saturating_add(n_groups.div_ceil(SPAN).saturating_mul(SHARED))
    }
    #[inline(always)]
    fn groups(tile: &[CodeRegister]) -> impl Iterator<Item = TritGroup<'_>> {
        let (mut span, mut rest) = (&tile[..0], tile);
        let mut place = 0;
        std::iter::from_fn(move || {
            if place + SHARED >= span.len() {
                (span, rest) = rest.split_at(rest.len().min(SPAN + SHARED));
                place = 0;
            }
            let group = TritGroup { span, place };
            place += 1;
            (!span.is_empty()).then_some(group)
        })
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: TritGroup<'_>, j: usize) -> S::U8 {
        let (register, place) = group.find(j);
        let bytes = s.load_bytes(&group.span[register]);
        if j < TRITS { s.trits(bytes)[place] } else { s.trit(bytes, place) }
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, index: usize, tile: &mut [CodeRegister]) {
        let (span, place) = (index / SPAN, index % SPAN);
        let from = span * (SPAN + SHARED);
        let span = &mut tile[from..];
        let len = span.len().min(SPAN + SHARED);
        for row in 0..LANES {
            for (j, word) in words(codes, row).into_iter().enumerate() {
                let (register, place) = TritGroup { span: &span[..len], place }.find(j);
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
