//! The element types of float tensors.

use half::{bf16, f16};

const _: () = assert!(cfg!(target_endian = "little"), "checkpoints are little-endian and used as they are");

/// An element type that is stored as it is computed: one float per weight, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
}

impl DType {
    /// Bytes per element.
    #[must_use]
    pub const fn size_of(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// Widens little-endian elements to f32, exactly.
    ///
    /// # Panics
    /// When `bytes` does not hold exactly `out.len()` elements.
    pub fn widen(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), out.len() * self.size_of(), "bytes of {} {self} elements", out.len());
        let (pairs, _) = bytes.as_chunks::<2>();
        let (quads, _) = bytes.as_chunks::<4>();
        match self {
            DType::F32 => out.iter_mut().zip(quads).for_each(|(o, b)| *o = f32::from_le_bytes(*b)),
            DType::F16 => out.iter_mut().zip(pairs).for_each(|(o, b)| *o = f16::from_le_bytes(*b).to_f32()),
            DType::BF16 => out.iter_mut().zip(pairs).for_each(|(o, b)| *o = bf16::from_le_bytes(*b).to_f32()),
        }
    }

    /// `values` as little-endian elements: rounded to nearest, and exact where they come from [`DType::widen`].
    pub fn narrow(self, values: &[f32]) -> Vec<u8> {
        let values = values.iter().copied();
        match self {
            DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
            DType::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
            DType::BF16 => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_is_exact_for_every_16_bit_pattern() {
        let mut out = [0.0];
        for bits in 0..=u16::MAX {
            DType::BF16.widen(&bits.to_le_bytes(), &mut out);
            assert_eq!(out[0].to_bits(), u32::from(bits) << 16 | out[0].to_bits() & quiet_bit(out[0]));
            DType::F16.widen(&bits.to_le_bytes(), &mut out);
            assert!(out[0].is_nan() || DType::F16.narrow(&out) == bits.to_le_bytes());
        }
    }

    /// A signalling NaN may come out quiet.
    fn quiet_bit(x: f32) -> u32 {
        if x.is_nan() { 1 << 22 } else { 0 }
    }

    #[test]
    fn f32_keeps_its_bits() {
        let mut out = [0.0; 2];
        DType::F32.widen(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], &mut out);
        assert_eq!(out, [1.0, -2.0]);
    }
}
