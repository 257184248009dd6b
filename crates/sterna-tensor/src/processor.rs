//! What is fastest on kinds of processors, as far as it was measured (`docs/tuning.md` has the figures).

use std::sync::OnceLock;

use crate::Fetch;

/// What to use on a processor unless told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// How weights come from memory when few tokens meet them.
    pub fetch: Fetch,
    /// Rows of activations from which on the kernels for many are faster than those for few.
    pub many_from: usize,
}

/// So many rows that there are never many.
pub const NEVER: usize = 512;

/// Zen 4.
const ZEN_4: Processor = Processor { fetch: Fetch::InOrder, many_from: NEVER };
/// Zen 5, and what was not measured.
const OTHERS: Processor = Processor { fetch: Fetch::Ahead, many_from: 8 };

impl Processor {
    /// That on which this program runs.
    pub fn this() -> Processor {
        static THIS: OnceLock<Processor> = OnceLock::new();
        *THIS.get_or_init(|| if is_zen_4() { ZEN_4 } else { OTHERS })
    }
}

/// Family 25 is Zen 3 too, without AVX-512.
fn is_zen_4() -> bool {
    #[cfg(target_arch = "x86_64")]
    return amd_family() == Some(25) && std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The family of a processor of AMD, as its manuals count: base and extended family together.
#[cfg(target_arch = "x86_64")]
fn amd_family() -> Option<u32> {
    use std::arch::x86_64::__cpuid;
    let vendor = __cpuid(0);
    let is_amd = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD";
    let signature = __cpuid(1).eax;
    is_amd.then_some((signature >> 8 & 0xf) + (signature >> 20 & 0xff))
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_what_linux_says() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let value = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.split(':').next().map(str::trim) == Some(key))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        if value("vendor_id").as_deref() == Some("AuthenticAMD") {
            assert_eq!(amd_family().map(|family| family.to_string()), value("cpu family"));
        }
    }
}
