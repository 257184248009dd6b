//! Which kernels multiply packed weights with int8 activations: a choice of speed alone.

use std::fmt;
use std::str::FromStr;

use crate::packed::Codes;
use crate::{Isa, PackedFormat};

/// A way to multiply packed weights with int8 activations. Integer sums are exact in all of them, so results have the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelFamily {
    /// Codes are unpacked to bytes and multiplied: dot products of bytes, or what the instruction set has instead.
    DotProduct,
    /// Four bits at a time are looked up in tables of the sums that they can stand for (T-MAC, arXiv:2407.00088), which are made of the
    /// activations first.
    Lookup,
}

impl KernelFamily {
    /// All families.
    pub const ALL: [KernelFamily; 2] = [KernelFamily::DotProduct, KernelFamily::Lookup];

    /// Its name in profiles and for people.
    pub fn name(self) -> &'static str {
        match self {
            KernelFamily::DotProduct => "dot",
            KernelFamily::Lookup => "lookup",
        }
    }

    /// Whether there is a kernel of this family for weights of `format`.
    pub fn has(self, format: PackedFormat) -> bool {
        match self {
            KernelFamily::DotProduct => true,
            KernelFamily::Lookup => format.can_be_looked_up(),
        }
    }

    /// The family that is faster for weights of `format` times `n_tokens` tokens, as measured on one CPU with each of its
    /// instruction sets: `docs/kernels.md` has the figures.
    pub fn default_for(isa: Isa, format: PackedFormat, n_tokens: usize) -> KernelFamily {
        let most_tokens = match (isa, format.codes) {
            (Isa::Avx2, Codes::U1) => 16,
            _ => 0,
        };
        if n_tokens <= most_tokens && KernelFamily::Lookup.has(format) {
            KernelFamily::Lookup
        } else {
            KernelFamily::DotProduct
        }
    }
}

impl fmt::Display for KernelFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for KernelFamily {
    type Err = ();

    fn from_str(name: &str) -> Result<KernelFamily, ()> {
        KernelFamily::ALL.into_iter().find(|family| family.name() == name).ok_or(())
    }
}
