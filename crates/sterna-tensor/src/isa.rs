//! Which vector instruction set the kernels use: detected once, or forced with `STERNA_ISA` for tests and comparisons.

use std::fmt;
use std::sync::OnceLock;

/// A family of vector instructions that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable Rust, on every CPU; what the others are tested against.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// [`Isa::Avx2`] with the 256-bit byte dot product (AVX-VNNI).
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// [`Isa::Avx512`] with tables of bytes in registers (AVX-512 VBMI) and GFNI.
    Avx512Vbmi,
    /// Advanced SIMD of every 64-bit Arm.
    Neon,
    /// [`Isa::Neon`] with the byte dot product (FEAT_DotProd).
    NeonDot,
    /// [`Isa::NeonDot`] with the byte matrix product (FEAT_I8MM).
    NeonI8mm,
}

/// `STERNA_ISA` asked for something that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// Not the name of an instruction set.
    #[error("STERNA_ISA={found}: expected one of {}", names())]
    Unknown {
        /// What the variable holds.
        found: String,
    },
    /// A known instruction set that this CPU (or this build) lacks.
    #[error("STERNA_ISA={}: this machine has only {}", .isa.name(), list(&Isa::available()))]
    Unavailable {
        /// What was asked for.
        isa: Isa,
    },
}

fn names() -> String {
    list(&Isa::ALL)
}

fn list(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

impl Isa {
    /// Every instruction set, worst first within its architecture.
    pub const ALL: [Isa; 8] = [
        Isa::Scalar,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512,
        Isa::Avx512Vbmi,
        Isa::Neon,
        Isa::NeonDot,
        Isa::NeonI8mm,
    ];

    /// The name that `STERNA_ISA` understands.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vbmi => "avx512vbmi",
            Isa::Neon => "neon",
            Isa::NeonDot => "dotprod",
            Isa::NeonI8mm => "i8mm",
        }
    }

    /// Whether this CPU can run it; the answer never changes while the process lives.
    pub fn is_available(self) -> bool {
        // Asked for every call of a kernel, so the CPU is asked once.
        static AVAILABLE: OnceLock<u16> = OnceLock::new();
        let bit = |isa: Isa| 1 << isa as u16;
        let find = || Isa::ALL.into_iter().filter(|isa| isa.is_detected()).map(bit).sum();
        AVAILABLE.get_or_init(find) & bit(self) != 0
    }

    /// Whether this CPU says that it has all the instructions.
    fn is_detected(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => has_avx2() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => has_avx512(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vbmi => {
                has_avx512() && is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("gfni")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => {
                std::arch::is_aarch64_feature_detected!("dotprod")
                    && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            _ => false,
        }
    }

    /// Everything that this CPU can run, worst first; never empty.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// What `STERNA_ISA` names, or else the best that this CPU can run.
    ///
    /// # Errors
    /// If the variable holds an unknown name, or one that this machine cannot run.
    pub fn from_env() -> Result<Isa, IsaError> {
        match std::env::var("STERNA_ISA") {
            Ok(name) => Isa::from_name(&name),
            Err(std::env::VarError::NotPresent) => Ok(Isa::detect()),
            Err(std::env::VarError::NotUnicode(name)) => {
                Err(IsaError::Unknown { found: name.to_string_lossy().into_owned() })
            }
        }
    }

    /// [`Isa::from_env`], asked once per process; an unusable `STERNA_ISA` counts as unset here, so a
    /// program that wants to complain about it calls [`Isa::from_env`] first.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::from_env().unwrap_or_else(|_| Isa::detect()))
    }

    fn detect() -> Isa {
        Isa::ALL.into_iter().rfind(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    fn from_name(name: &str) -> Result<Isa, IsaError> {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| IsaError::Unknown { found: name.to_owned() })?;
        if isa.is_available() { Ok(isa) } else { Err(IsaError::Unavailable { isa }) }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_available_and_last() {
        let available = Isa::available();
        assert_eq!(available.first(), Some(&Isa::Scalar));
        assert_eq!(available.last(), Some(&Isa::detect()));
    }

    #[test]
    fn names_are_understood_and_bad_ones_refused() {
        for isa in Isa::available() {
            assert_eq!(Isa::from_name(isa.name()), Ok(isa));
        }
        let unknown = Isa::from_name("mmx").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "STERNA_ISA=mmx: expected one of scalar, avx2, avxvnni, avx512, avx512vbmi, neon, dotprod, i8mm"
        );
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        assert!(matches!(Isa::from_name(foreign), Err(IsaError::Unavailable { .. })));
    }
}
