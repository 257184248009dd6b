//! Which packed formats there are: how a code is stored, what scales it has, and what code stands for zero.

use std::fmt;
use std::str::FromStr;

use half::f16;

use crate::activation::GROUP;

/// How the codes of a matrix are stored; all are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Codes {
    /// One bit, eight to a byte: the codes 0 and 2.
    U1,
    /// Two bits, four to a byte.
    U2,
    /// Three values, five to a byte: the codes 0, 1 and 2.
    Trits,
    /// A plane of two bits and one of one bit.
    U3,
    /// Four bits, two to a byte.
    U4,
    /// A plane of four bits and one of one bit.
    U5,
    /// A plane of four bits and one of two bits.
    U6,
    /// A byte.
    U8,
}

impl Codes {
    const fn of_bits(bits: usize) -> Option<Codes> {
        Some(match bits {
            1 => Codes::U1,
            2 => Codes::U2,
            3 => Codes::U3,
            4 => Codes::U4,
            5 => Codes::U5,
            6 => Codes::U6,
            8 => Codes::U8,
            _ => return None,
        })
    }
}

/// What scales stand beside the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scales {
    /// One `f16` for every `size` columns: `w = d (code - zero)`.
    Group { size: u32 },
    /// The same, with a scale of one byte ([`byte_scale`]).
    ByteGroup { size: u32 },
    /// One `f16` and a zero point of four bits for every `size` columns: `w = d (code - zero point)`.
    Affine { size: u32 },
    /// The same, with a scale of one byte ([`byte_scale`]).
    ByteAffine { size: u32 },
    /// Two `f16` for every `size` columns: `w = d code + m`.
    Min { size: u32 },
    /// The same in `f32`.
    WideMin { size: u32 },
    /// Two `f16` for 256 columns, and two bytes for every 32: `w = d scale code - m min`.
    SuperMin,
    /// One `f16` for 256 columns, and a signed byte for every 16: `w = d scale (code - zero)`.
    SuperSigned,
}

/// The scale that a byte stands for: the bits of an `f16` without its sign and the last seven of its mantissa, which leaves
/// three. The next larger scale is 6 to 12 % larger, so a group's codes can still be chosen well for one of them.
#[inline(always)]
pub(super) const fn byte_scale(byte: u8) -> u16 {
    (byte as u16) << 7
}

/// How quantized weights are held in memory.
///
/// Weights of one bit are `d` or `-d`, and have the codes 2 and 0; ternary ones ([`PackedFormat::ternary`]) have 0, 1 and 2 and are called
/// `t2g256` in two bits and `t1g256` five to a byte ([`PackedFormat::trits`]). Formats of our own quantizer come from [`PackedFormat::symmetric`] and [`PackedFormat::affine`] and are called
/// `s8g32` or `a4g128`: bits, and columns that share a scale. [`PackedFormat::with_byte_scales`] makes `a4b128` of the
/// latter, which takes 8 bits less for each group. Those of other tools may need [`PackedFormat::minimum`]
/// or [`PackedFormat::wide`], such as `m4g64`. The constants carry the names of the GGUF types whose integers and
/// scales they hold, without any change; some of those are symmetric formats, or have minima.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedFormat {
    pub(crate) codes: Codes,
    pub(crate) scales: Scales,
    pub(crate) zero: u8,
}

impl PackedFormat {
    /// 4 bits, a scale per 32.
    pub const Q4_0: PackedFormat =
        PackedFormat { codes: Codes::U4, scales: Scales::Group { size: 32 }, zero: 8 };
    /// 4 bits, a scale and a minimum per 32.
    pub const Q4_1: PackedFormat =
        PackedFormat { codes: Codes::U4, scales: Scales::Min { size: 32 }, zero: 0 };
    /// 5 bits, a scale per 32.
    pub const Q5_0: PackedFormat =
        PackedFormat { codes: Codes::U5, scales: Scales::Group { size: 32 }, zero: 16 };
    /// 5 bits, a scale and a minimum per 32.
    pub const Q5_1: PackedFormat =
        PackedFormat { codes: Codes::U5, scales: Scales::Min { size: 32 }, zero: 0 };
    /// 8 bits (stored plus 128), a scale per 32.
    pub const Q8_0: PackedFormat =
        PackedFormat { codes: Codes::U8, scales: Scales::Group { size: 32 }, zero: 128 };
    /// 3 bits held as 4, a signed scale per 16 and one per 256.
    pub const Q3_K: PackedFormat = PackedFormat { codes: Codes::U4, scales: Scales::SuperSigned, zero: 4 };
    /// 4 bits, a scale and a minimum per 32 and per 256.
    pub const Q4_K: PackedFormat = PackedFormat { codes: Codes::U4, scales: Scales::SuperMin, zero: 0 };
    /// 5 bits, a scale and a minimum per 32 and per 256.
    pub const Q5_K: PackedFormat = PackedFormat { codes: Codes::U5, scales: Scales::SuperMin, zero: 0 };
    /// 6 bits, a signed scale per 16 and one per 256.
    pub const Q6_K: PackedFormat = PackedFormat { codes: Codes::U6, scales: Scales::SuperSigned, zero: 32 };
    /// The table values of IQ4_NL plus 128, a scale per 32.
    pub const IQ4_NL: PackedFormat =
        PackedFormat { codes: Codes::U8, scales: Scales::Group { size: 32 }, zero: 128 };
    /// The table values of IQ4_XS plus 128, a signed scale per 16 (its own is per 32) and one per 256.
    pub const IQ4_XS: PackedFormat =
        PackedFormat { codes: Codes::U8, scales: Scales::SuperSigned, zero: 128 };

    /// The formats with names of their own.
    pub const ALL: [(&'static str, PackedFormat); 11] = [
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
    ];

    /// `bits` of 1, 2, 3, 4, 5, 6 or 8, and a scale for every `group_size` columns of a row, the middle code being zero.
    ///
    /// `None` where there is no such format: other bits, or a `group_size` that is no multiple of 32. One that is larger
    /// than a row means the whole row.
    pub const fn symmetric(bits: usize, group_size: usize) -> Option<PackedFormat> {
        let Some(codes) = Codes::of_bits(bits) else { return None };
        if !is_group_size(group_size) {
            return None;
        }
        let scales = Scales::Group { size: group_size as u32 };
        Some(PackedFormat { codes, scales, zero: 1 << (bits - 1) })
    }

    /// Weights -1, 0 and 1 (and 2) as the codes 0 to 3 of two bits, and a scale for every `group_size` columns of a row.
    ///
    /// `None` where there is no such format, as for [`PackedFormat::symmetric`].
    pub const fn ternary(group_size: usize) -> Option<PackedFormat> {
        let Some(format) = PackedFormat::symmetric(2, group_size) else { return None };
        Some(PackedFormat { zero: 1, ..format })
    }

    /// Weights -1, 0 and 1 as the codes 0, 1 and 2 in 1.6 bits, five to a byte, and a scale for every `group_size` columns of a row.
    ///
    /// `None` where there is no such format, as for [`PackedFormat::symmetric`].
    pub const fn trits(group_size: usize) -> Option<PackedFormat> {
        let Some(format) = PackedFormat::ternary(group_size) else { return None };
        Some(PackedFormat { codes: Codes::Trits, ..format })
    }

    /// `bits` of 2, 3 or 4, and a scale and a zero point for every `group_size` columns of a row.
    ///
    /// `None` where there is no such format, as for [`PackedFormat::symmetric`].
    pub const fn affine(bits: usize, group_size: usize) -> Option<PackedFormat> {
        let codes = match bits {
            2 => Codes::U2,
            3 => Codes::U3,
            4 => Codes::U4,
            _ => return None,
        };
        if !is_group_size(group_size) {
            return None;
        }
        Some(PackedFormat { codes, scales: Scales::Affine { size: group_size as u32 }, zero: 0 })
    }

    /// The same format with scales of one byte instead of `f16`: their three bits of mantissa let small groups cost little.
    ///
    /// `None` where there is no such format: symmetric ones have 4, 5 or 6 bits then.
    pub const fn with_byte_scales(self) -> Option<PackedFormat> {
        let scales = match (self.scales, self.codes) {
            (Scales::Group { size }, Codes::U4 | Codes::U5 | Codes::U6)
                if self.zero == 1 << (self.code_bits() - 1) =>
            {
                Scales::ByteGroup { size }
            }
            (Scales::Affine { size }, _) => Scales::ByteAffine { size },
            _ => return None,
        };
        Some(PackedFormat { scales, ..self })
    }

    /// `bits` of 2, 3, 4, 5, 6 or 8, and a scale and a minimum for every `group_size` columns of a row, both `f16`.
    ///
    /// `None` where there is no such format, as for [`PackedFormat::symmetric`].
    pub const fn minimum(bits: usize, group_size: usize) -> Option<PackedFormat> {
        let Some(codes) = Codes::of_bits(bits) else { return None };
        if bits == 1 || !is_group_size(group_size) {
            return None;
        }
        Some(PackedFormat { codes, scales: Scales::Min { size: group_size as u32 }, zero: 0 })
    }

    /// As [`PackedFormat::minimum`] with scales and minima in `f32`: for those that `f16` does not hold exactly.
    pub const fn wide(bits: usize, group_size: usize) -> Option<PackedFormat> {
        let Some(PackedFormat { codes, zero, .. }) = PackedFormat::minimum(bits, group_size) else {
            return None;
        };
        Some(PackedFormat { codes, scales: Scales::WideMin { size: group_size as u32 }, zero })
    }

    /// Columns that share a scale, in formats with one level of scales and no minima: the symmetric and affine ones.
    pub fn group_size(self) -> Option<usize> {
        match self.scales {
            Scales::Group { size }
            | Scales::ByteGroup { size }
            | Scales::Affine { size }
            | Scales::ByteAffine { size } => Some(size as usize),
            Scales::Min { .. } | Scales::WideMin { .. } | Scales::SuperMin | Scales::SuperSigned => None,
        }
    }

    /// Columns that share a scale, and a minimum if there is one, in all formats with one level of scales.
    pub fn scale_group(self) -> Option<usize> {
        match self.scales {
            Scales::Min { size } | Scales::WideMin { size } => Some(size as usize),
            _ => self.group_size(),
        }
    }

    /// Whether scales may be negative.
    pub fn has_signed_scales(self) -> bool {
        !matches!(self.scales, Scales::ByteGroup { .. } | Scales::ByteAffine { .. })
    }

    /// The scale next to `scale` that the format can store: normal and finite, so that every reader agrees on it. Where
    /// scales have no sign, the negative ones lose theirs.
    pub fn stored_scale(self, scale: f32) -> f16 {
        let (least, most) = (f16::MIN_POSITIVE.to_f32(), f16::MAX.to_f32());
        let magnitude = f16::from_f32(scale.abs().clamp(least, most));
        if self.has_signed_scales() {
            return magnitude.copysign(f16::from_f32(scale));
        }
        // Half of the last bit that stays is added, and a byte above the largest finite scale taken back.
        let byte = ((magnitude.to_bits() + (1 << 6)) >> 7).min(f16::MAX.to_bits() >> 7);
        f16::from_bits(byte_scale(byte as u8))
    }

    /// Whether every group has a minimum, in formats with one level of scales.
    pub fn has_minima(self) -> bool {
        matches!(self.scales, Scales::Min { .. } | Scales::WideMin { .. })
    }

    /// Whether scales and minima are in `f32`.
    pub fn is_wide(self) -> bool {
        matches!(self.scales, Scales::WideMin { .. })
    }

    /// Whether every group has a zero point.
    pub fn is_affine(self) -> bool {
        matches!(self.scales, Scales::Affine { .. } | Scales::ByteAffine { .. })
    }

    /// Columns in a block, of which a row must be a multiple: 32 or 256.
    pub fn block_len(self) -> usize {
        match self.scales {
            Scales::SuperMin | Scales::SuperSigned => 256,
            _ => GROUP,
        }
    }

    /// Blocks that share their scales.
    pub(super) fn blocks_per_scale(self) -> usize {
        match self.scales {
            Scales::Group { size }
            | Scales::ByteGroup { size }
            | Scales::Affine { size }
            | Scales::ByteAffine { size }
            | Scales::Min { size }
            | Scales::WideMin { size } => size as usize / GROUP,
            Scales::SuperMin | Scales::SuperSigned => 1,
        }
    }

    /// Bits for each weight, scales included, and what their blocks are filled up with; not that of tiles.
    pub fn bits_per_weight(self) -> f64 {
        let bits = if self.codes == Codes::Trits { 1.6 } else { self.code_bits() as f64 };
        match self.scales {
            Scales::Group { size } => bits + 16.0 / f64::from(size),
            Scales::ByteGroup { size } => bits + 8.0 / f64::from(size),
            Scales::Affine { size } => bits + (16.0 + 4.0) / f64::from(size),
            Scales::ByteAffine { size } => bits + (8.0 + 4.0) / f64::from(size),
            Scales::Min { size } => bits + 2.0 * 16.0 / f64::from(size),
            Scales::WideMin { size } => bits + 2.0 * 32.0 / f64::from(size),
            Scales::SuperMin => bits + (32.0 + 8.0 * 16.0) / 256.0,
            Scales::SuperSigned => bits + (16.0 + 16.0 * 8.0 + 16.0) / 256.0,
        }
    }

    /// Whether there are lookup kernels for it: plain codes of up to four bits, with a scale for 32 columns or more.
    pub(crate) fn can_be_looked_up(self) -> bool {
        let plain = matches!(self.codes, Codes::U1 | Codes::U2 | Codes::U3 | Codes::U4);
        plain && self.scales != Scales::SuperSigned
    }

    /// Bits of one code as stored; 2 for one of three values, of which five share a byte.
    pub const fn code_bits(self) -> usize {
        match self.codes {
            Codes::U1 => 1,
            Codes::U2 | Codes::Trits => 2,
            Codes::U3 => 3,
            Codes::U4 => 4,
            Codes::U5 => 5,
            Codes::U6 => 6,
            Codes::U8 => 8,
        }
    }

    /// The largest code.
    pub fn largest_code(self) -> u8 {
        match self.codes {
            Codes::U1 | Codes::Trits => 2,
            _ => u8::MAX >> (8 - self.code_bits()),
        }
    }

    /// Whether `code` is one.
    pub(super) fn has_code(self, code: u8) -> bool {
        match self.codes {
            Codes::U1 => code & !2 == 0,
            _ => code <= self.largest_code(),
        }
    }

    /// The code that stands for weight zero, before any minimum or zero point.
    pub fn zero(self) -> u8 {
        self.zero
    }
}

/// No row is longer.
const MAX_GROUP_SIZE: usize = 1 << 24;

const fn is_group_size(size: usize) -> bool {
    size > 0 && size.is_multiple_of(GROUP) && size <= MAX_GROUP_SIZE
}

impl fmt::Display for PackedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.code_bits();
        match self.scales {
            Scales::Affine { size } => f.pad(&format!("a{bits}g{size}")),
            Scales::ByteAffine { size } => f.pad(&format!("a{bits}b{size}")),
            Scales::ByteGroup { size } => f.pad(&format!("s{bits}b{size}")),
            Scales::Min { size } => f.pad(&format!("m{bits}g{size}")),
            Scales::WideMin { size } => f.pad(&format!("w{bits}g{size}")),
            Scales::Group { size } if self.codes == Codes::Trits => f.pad(&format!("t1g{size}")),
            Scales::Group { size } if self.zero == 1 << (bits - 1) => f.pad(&format!("s{bits}g{size}")),
            Scales::Group { size } if self.codes == Codes::U2 => f.pad(&format!("t{bits}g{size}")),
            _ => {
                let known = PackedFormat::ALL.iter().find(|(_, format)| format == self);
                f.pad(known.map_or("packed", |(name, _)| name))
            }
        }
    }
}

/// A name that no packed format has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no packed format is called {0:?}; symmetric ones are called such as s8g32, ternary ones such as t2g256 or, five to a byte, t1g256, affine ones such as a4g128 or, with scales \
     of a byte, a4b32, those with minima such as m4g64 or w4g64"
)]
pub struct UnknownFormat(pub String);

impl FromStr for PackedFormat {
    type Err = UnknownFormat;

    /// The reverse of [`fmt::Display`]; the names of all constants are understood too.
    fn from_str(name: &str) -> Result<PackedFormat, UnknownFormat> {
        let known = PackedFormat::ALL.iter().find(|(known, _)| *known == name).map(|&(_, format)| format);
        known.or_else(|| parse(name)).ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// `s8g32`, `t2g256`, `a4g128`, `a4b32`, `m4g64` or `w4g64`.
fn parse(name: &str) -> Option<PackedFormat> {
    let digits = name.get(1..)?;
    let at = digits.find(['g', 'b'])?;
    let number = |digits: &str| {
        let plain = !digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let (bits, size) = (number(&digits[..at])?, number(&digits[at + 1..])?);
    let format = match name.as_bytes()[0] {
        b's' => PackedFormat::symmetric(bits, size),
        b't' if bits == 1 => PackedFormat::trits(size),
        b't' if bits == 2 => PackedFormat::ternary(size),
        b'a' => PackedFormat::affine(bits, size),
        b'm' => PackedFormat::minimum(bits, size),
        b'w' => PackedFormat::wide(bits, size),
        _ => None,
    };
    if digits.as_bytes()[at] == b'b' { format?.with_byte_scales() } else { format }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for (name, format) in PackedFormat::ALL {
            assert_eq!(name.parse(), Ok(format));
            assert_eq!(format.to_string().parse(), Ok(format), "{name}");
        }
        for name in ["a4b32", "a2b128", "s6b32", "s4b576"] {
            assert_eq!(name.parse::<PackedFormat>().unwrap().to_string(), name);
        }
        for name in [
            "s1g128", "t2g64", "t1g2560", "a4g128", "a2g32", "a3g576", "s8g32", "s3g128", "s6g64", "m4g32",
            "m8g64", "w5g96",
        ] {
            assert_eq!(name.parse::<PackedFormat>().unwrap().to_string(), name);
        }
        let none = [
            "",
            "a",
            "ä4g128",
            "a4g",
            "a4g0",
            "a04g32",
            "a+4g32",
            "a4g33",
            "a8g32",
            "s7g32",
            "m7g32",
            "w4g48",
            "m1g32",
            "t3g32",
            "t2b32",
            "s8b32",
            "m4b32",
            "a4b",
            "b4g32",
            "s4g33554432",
        ];
        for name in none {
            assert_eq!(name.parse::<PackedFormat>(), Err(UnknownFormat(name.to_owned())));
        }
        assert_eq!(PackedFormat::symmetric(4, 32), Some(PackedFormat::Q4_0));
        assert_eq!(PackedFormat::minimum(5, 32), Some(PackedFormat::Q5_1));
    }

    #[test]
    fn stored_scales_are_the_nearest_there_are() {
        let format: PackedFormat = "a4b32".parse().unwrap();
        let finite = f16::MAX.to_bits() >> 7;
        let bytes: Vec<f32> =
            (8..=finite as u8).map(|byte| f16::from_bits(byte_scale(byte)).to_f32()).collect();
        for scale in (0..4000).map(|i| 1e-6 * 1.007f32.powi(i)) {
            let stored = format.stored_scale(scale).to_f32();
            let least = bytes.iter().map(|byte| (byte - scale).abs()).fold(f32::INFINITY, f32::min);
            assert!(bytes.contains(&stored), "{scale}: {stored} is not stored");
            assert!((stored - scale).abs() <= least * 1.001 + scale * 1e-3, "{scale}: {stored}");
        }
        let plain: PackedFormat = "s4g32".parse().unwrap();
        assert_eq!(plain.stored_scale(-0.5).to_f32(), -0.5);
        assert_eq!(plain.stored_scale(0.0), f16::MIN_POSITIVE);
    }

    #[test]
    fn four_bits_in_groups_of_128_cost_little() {
        let format = PackedFormat::affine(4, 128).unwrap();
        assert!(format.bits_per_weight() <= 4.16, "{}", format.bits_per_weight());
    }
}
