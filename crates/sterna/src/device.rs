//! What this machine is, and what is known to be fastest on it.

use std::fmt;
use std::path::{Path, PathBuf};

use sterna_formats::FormatError;
use sterna_formats::tuning_profile::{self, Device};
use sterna_tensor::{Isa, IsaError, Tuning};

use crate::physical_cores;

/// Which kernels and how many threads to use, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuned {
    /// What to use.
    pub tuning: Tuning,
    /// Who says so.
    pub source: TuningSource,
}

/// Who says what is fastest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TuningSource {
    /// What was fastest on the processors that were measured (`docs/tuning.md`).
    #[default]
    Defaults,
    /// `STERNA_ISA`, for the instructions.
    Asked,
    /// Measurements on this device, in that file.
    Profile(PathBuf),
}

impl TuningSource {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            TuningSource::Defaults => "default",
            TuningSource::Asked => "STERNA_ISA",
            TuningSource::Profile(_) => "profile",
        }
    }
}

impl fmt::Display for TuningSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TuningSource::Defaults => {
                f.write_str("defaults, as nothing was measured here (sterna bench --tune)")
            }
            TuningSource::Asked => f.write_str("STERNA_ISA"),
            TuningSource::Profile(path) => write!(f, "measured here ({})", path.display()),
        }
    }
}

/// This machine, as profiles name it.
pub fn this_device() -> Device {
    Device::new(cpu_name().unwrap_or_else(|| format!("unknown {}", std::env::consts::ARCH)), physical_cores())
}

/// Where the profile of `device` lies below the directory `cache`.
pub fn profile_path(cache: &Path, device: &Device) -> PathBuf {
    cache.join("tuning").join(device.file_name())
}

impl Tuned {
    /// What the profile of this device says that lies in the directory `cache`; without one, the defaults.
    ///
    /// # Errors
    /// A profile that cannot be used. The defaults can.
    pub fn find(cache: &Path) -> Result<Tuned, FormatError> {
        let device = this_device();
        let path = profile_path(cache, &device);
        let tuned = match tuning_profile::read(&path, &device)? {
            Some(tuning) => Tuned { tuning, source: TuningSource::Profile(path) },
            None => Tuned::default(),
        };
        Ok(tuned)
    }

    /// The same threads, and no instructions but those that `STERNA_ISA` names, if it does.
    ///
    /// # Errors
    /// It names some that this machine has not.
    pub fn as_asked(self) -> Result<Tuned, IsaError> {
        if std::env::var_os("STERNA_ISA").is_none() {
            return Ok(self);
        }
        Isa::from_env()?;
        Ok(Tuned { tuning: without_kernels(self.tuning), source: TuningSource::Asked })
    }
}

fn without_kernels(tuning: Tuning) -> Tuning {
    let mut plain = Tuning::default();
    let Tuning { decode_threads, prefill_threads, fetch, .. } = tuning;
    (plain.decode_threads, plain.prefill_threads, plain.fetch) = (decode_threads, prefill_threads, fetch);
    plain
}

/// What Arm processors are is written as numbers of designer and design, for each kind of core.
#[cfg(target_os = "linux")]
fn cpu_name() -> Option<String> {
    name_in(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// `sysctl`, since asking the kernel directly needs unsafe code.
#[cfg(target_os = "macos")]
fn cpu_name() -> Option<String> {
    let mut sysctl = std::process::Command::new("/usr/sbin/sysctl");
    let output = sysctl.args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    (!name.trim().is_empty()).then(|| name.trim().to_owned())
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn cpu_name() -> Option<String> {
    None
}

/// The values that tell processors apart in `/proc/cpuinfo`, each once, in order.
#[cfg(any(target_os = "linux", test))]
fn name_in(cpuinfo: &str) -> Option<String> {
    const KEYS: [&str; 5] = ["model name", "cpu family", "model", "CPU implementer", "CPU part"];
    let mut parts: Vec<String> = Vec::new();
    for line in cpuinfo.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let part = if key == "model name" { value.to_owned() } else { format!("{key} {value}") };
        if KEYS.contains(&key) && !parts.contains(&part) {
            parts.push(part);
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use sterna_tensor::KernelChoice;

    use super::*;

    #[test]
    fn processors_have_names() {
        let x86 = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\ncpu family\t: 26\nmodel\t\t: 2\n\nprocessor\t: 1\n\
                   model name\t: Some CPU @ 3 GHz\ncpu family\t: 26\nmodel\t\t: 2\n";
        assert_eq!(name_in(x86).as_deref(), Some("Some CPU @ 3 GHz, cpu family 26, model 2"));
        let arm = "CPU implementer : 0x41\nCPU part : 0xd05\nCPU implementer : 0x41\nCPU part : 0xd0b\n";
        assert_eq!(name_in(arm).as_deref(), Some("CPU implementer 0x41, CPU part 0xd05, CPU part 0xd0b"));
        assert_eq!(name_in("processor : 0\n"), None);
    }

    #[test]
    fn a_profile_is_found_and_a_bad_one_told() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(Tuned::find(cache.path()).unwrap(), Tuned::default());
        let device = this_device();
        let path = profile_path(cache.path(), &device);
        std::fs::create_dir(cache.path().join("tuning")).unwrap();
        let mut tuning = Tuning::default();
        tuning.set(4, KernelChoice { many_from: Some(4), ..KernelChoice::default() });
        std::fs::write(&path, tuning_profile::to_json(&tuning, &device).unwrap()).unwrap();
        let found = Tuned::find(cache.path()).unwrap();
        assert_eq!(found, Tuned { tuning, source: TuningSource::Profile(path.clone()) });
        std::fs::write(&path, "{").unwrap();
        assert!(Tuned::find(cache.path()).is_err());
    }
}
