//! Which packed formats there are: how a code is stored, what scales it has, and what code stands for zero.

use std::ops::Range;

use half::f16;

/// How the codes of a matrix are stored; all are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Codes {
    /// Two bits, four to a byte.
    U2,
    /// Four bits, two to a byte.
    U4,
    /// A plane of four bits and one of one bit.
    U5,
    /// A plane of four bits and one of two bits.
    U6,
    /// A byte.
    U8,
}

/// What scales stand beside the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scales {
    /// One `f16` for every 32 columns: `w = d (code - zero)`.
    Group,
    /// Two `f16` for every 32 columns: `w = d code + m`.
    GroupMin,
    /// Two `f16` for 256 columns, and two bytes for every 32: `w = d scale code - m min`.
    SuperMin,
    /// One `f16` for 256 columns, and a signed byte for every 16: `w = d scale (code - zero)`.
    SuperSigned,
}

/// How quantized weights are held in memory. The constants carry the names of the GGUF types whose integers
/// and scales they hold, without any change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedFormat {
    pub(crate) codes: Codes,
    pub(crate) scales: Scales,
    pub(crate) zero: u8,
}

impl PackedFormat {
    /// 4 bits, a scale per 32.
    pub const Q4_0: PackedFormat = PackedFormat { codes: Codes::U4, scales: Scales::Group, zero: 8 };
    /// 4 bits, a scale and a minimum per 32.
    pub const Q4_1: PackedFormat = PackedFormat { codes: Codes::U4, scales: Scales::GroupMin, zero: 0 };
    /// 5 bits, a scale per 32.
    pub const Q5_0: PackedFormat = PackedFormat { codes: Codes::U5, scales: Scales::Group, zero: 16 };
    /// 5 bits, a scale and a minimum per 32.
    pub const Q5_1: PackedFormat = PackedFormat { codes: Codes::U5, scales: Scales::GroupMin, zero: 0 };
    /// 8 bits (stored plus 128), a scale per 32.
    pub const Q8_0: PackedFormat = PackedFormat { codes: Codes::U8, scales: Scales::Group, zero: 128 };
    /// 3 bits held as 4, a signed scale per 16 and one per 256.
    pub const Q3_K: PackedFormat = PackedFormat { codes: Codes::U4, scales: Scales::SuperSigned, zero: 4 };
    /// 4 bits, a scale and a minimum per 32 and per 256.
    pub const Q4_K: PackedFormat = PackedFormat { codes: Codes::U4, scales: Scales::SuperMin, zero: 0 };
    /// 5 bits, a scale and a minimum per 32 and per 256.
    pub const Q5_K: PackedFormat = PackedFormat { codes: Codes::U5, scales: Scales::SuperMin, zero: 0 };
    /// 6 bits, a signed scale per 16 and one per 256.
    pub const Q6_K: PackedFormat = PackedFormat { codes: Codes::U6, scales: Scales::SuperSigned, zero: 32 };
    /// The table values of IQ4_NL plus 128, a scale per 32.
    pub const IQ4_NL: PackedFormat = PackedFormat { codes: Codes::U8, scales: Scales::Group, zero: 128 };
    /// The table values of IQ4_XS plus 128, a signed scale per 16 (its own is per 32) and one per 256.
    pub const IQ4_XS: PackedFormat =
        PackedFormat { codes: Codes::U8, scales: Scales::SuperSigned, zero: 128 };
    /// Ternary weights as 0, 1, 2, a scale per 32 (TQ1_0 and TQ2_0 repeat theirs; BitNet's is 1).
    pub const TERNARY: PackedFormat = PackedFormat { codes: Codes::U2, scales: Scales::Group, zero: 1 };

    /// Every format.
    pub const ALL: [(&'static str, PackedFormat); 12] = [
        ("Q4_0", Self::Q4_0),
        ("Q4_1", Self::Q4_1),
        ("Q5_0", Self::Q5_0),
        ("Q5_1", Self::Q5_1),
        ("Q8_0", Self::Q8_0),
        ("Q3_K", Self::Q3_K),
        ("Q4_K", Self::Q4_K),
        ("Q5_K", Self::Q5_K),
        ("Q6_K", Self::Q6_K),
        ("IQ4_NL", Self::IQ4_NL),
        ("IQ4_XS", Self::IQ4_XS),
        ("TERNARY", Self::TERNARY),
    ];

    /// Columns in a block, of which a row must be a multiple: 32 or 256.
    pub fn block_len(self) -> usize {
        match self.scales {
            Scales::Group | Scales::GroupMin => 32,
            Scales::SuperMin | Scales::SuperSigned => 256,
        }
    }

    /// Bits of memory for each weight, scales included.
    pub fn bits_per_weight(self) -> f64 {
        let bits = self.code_bits() as f64;
        match self.scales {
            Scales::Group => bits + 16.0 / 32.0,
            Scales::GroupMin => bits + 2.0 * (16.0 / 32.0),
            Scales::SuperMin => bits + (32.0 + 8.0 * 16.0) / 256.0,
            Scales::SuperSigned => bits + (16.0 + 16.0 * 8.0) / 256.0,
        }
    }

    /// Bits of one code as stored.
    pub fn code_bits(self) -> usize {
        match self.codes {
            Codes::U2 => 2,
            Codes::U4 => 4,
            Codes::U5 => 5,
            Codes::U6 => 6,
            Codes::U8 => 8,
        }
    }

    /// The code that stands for weight zero, before any minimum.
    pub fn zero(self) -> u8 {
        self.zero
    }
}

/// One block of one row, decoded: what a [`BlockSource`] hands over. Which fields count depends on the format;
/// with `g` the group of 32 columns and `h` that of 16, a weight is
///
/// | formats | weight |
/// |---|---|
/// | Q4_0, Q5_0, Q8_0, IQ4_NL, TERNARY | `d (code - zero)` |
/// | Q4_1, Q5_1 | `d code + m` |
/// | Q4_K, Q5_K | `d scales[g] code - m mins[g]` |
/// | Q3_K, Q6_K, IQ4_XS | `d scales[h] (code - zero)`, the scales being the bits of an `i8` |
#[derive(Debug, Clone)]
pub struct Block {
    /// One code per column; the first [`PackedFormat::block_len`] count.
    pub codes: [u8; 256],
    /// Scale.
    pub d: f16,
    /// Minimum, or the scale of the minima.
    pub m: f16,
    /// Integer scales per group.
    pub scales: [u8; 16],
    /// Integer minima per group.
    pub mins: [u8; 16],
}

impl Default for Block {
    fn default() -> Block {
        Block { codes: [0; 256], d: f16::ZERO, m: f16::ZERO, scales: [0; 16], mins: [0; 16] }
    }
}

/// Where weights to be packed come from, block by block, in any order and from several threads.
pub trait BlockSource: Sync {
    /// Decodes block `block` of row `row` into `out`, all of the fields that the format has. Codes beyond the
    /// format's bits are a bug of the source; they are masked, not checked.
    fn block(&self, row: usize, block: usize, out: &mut Block);

    /// Is told that no block of `rows` will be asked for again, so that a source in a mapped file can give the memory
    /// back before all of the matrix is in memory twice.
    fn done(&self, rows: Range<usize>) {
        let _ = rows;
    }
}
