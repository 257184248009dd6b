//! Which of several kernels multiplies packed weights. All of them give the same bits, so this is a matter of speed alone, and
//! measuring decides it (`docs/tuning.md`).

use crate::{Fetch, Isa, KernelFamily, PackedFormat, Processor};

/// Widths of codes that there are.
pub const CODE_BITS: [usize; 7] = [1, 2, 3, 4, 5, 6, 8];

/// Where the kernels for weights of one width depart from the usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelChoice {
    /// Instructions for few rows of activations, whose weights are unpacked in registers; those of
    /// [`Compute`](crate::Compute) unless given.
    pub few: Option<Isa>,
    /// Which kernels multiply with few rows, where weights have one of that family; those of
    /// [`KernelFamily::default_for`] unless given.
    pub family: Option<KernelFamily>,
    /// Instructions for many, whose weights are written out first; those of [`Compute`](crate::Compute) unless given.
    pub many: Option<Isa>,
    /// Rows of activations that are many; those of [`Processor`] unless given.
    pub many_from: Option<usize>,
}

/// What was found to be fastest on a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// By bits of a code.
    kernels: [KernelChoice; 9],
    /// Threads of passes with few tokens, where memory sets the pace; all of the pool unless given.
    pub decode_threads: Option<usize>,
    /// Threads of all other passes; all of the pool unless given.
    pub prefill_threads: Option<usize>,
    /// How weights come from memory in passes with few tokens; that of [`Processor`] unless given.
    pub fetch: Option<Fetch>,
}

impl Tuning {
    /// The choice for weights with codes of `code_bits`.
    pub fn choice(&self, code_bits: usize) -> KernelChoice {
        self.kernels.get(code_bits).copied().unwrap_or_default()
    }

    /// Makes `choice` that for weights with codes of `code_bits`.
    ///
    /// # Panics
    /// When there are no such codes.
    pub fn set(&mut self, code_bits: usize, choice: KernelChoice) {
        assert!(CODE_BITS.contains(&code_bits), "no codes have {code_bits} bits");
        self.kernels[code_bits] = choice;
    }

    /// The kernels for `format` where `isa` is in use otherwise.
    pub(crate) fn kernels(&self, format: PackedFormat, isa: Isa) -> Kernels {
        let KernelChoice { few, family, many, many_from } = self.choice(format.code_bits());
        let usual = Processor::this();
        Kernels {
            few: few.unwrap_or(isa),
            family,
            many: many.unwrap_or(isa),
            many_from: many_from.unwrap_or(usual.many_from),
            fetch: self.fetch.unwrap_or(usual.fetch),
        }
    }
}

/// A [`KernelChoice`] with nothing left open, and what holds for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels {
    pub(crate) few: Isa,
    family: Option<KernelFamily>,
    pub(crate) many: Isa,
    pub(crate) many_from: usize,
    pub(crate) fetch: Fetch,
}

impl Kernels {
    /// What multiplies weights of `format` with `n_rows` rows of activations.
    pub(crate) fn family(&self, format: PackedFormat, n_rows: usize) -> KernelFamily {
        match self.family {
            Some(family) if n_rows < self.many_from && family.has(format) => family,
            Some(_) => KernelFamily::DotProduct,
            None => KernelFamily::default_for(self.few, format, n_rows),
        }
    }
}
