//! How many threads are worth having.

use std::thread::available_parallelism;

/// Physical cores that this process may use, at least 1. Two threads on one core share its vector units, so a second one
/// only adds waiting.
pub fn physical_cores() -> usize {
    let logical = available_parallelism().map_or(1, usize::from);
    detect().map_or(logical, |physical| physical.clamp(1, logical))
}

/// Counts the distinct sets of sibling threads.
#[cfg(target_os = "linux")]
fn detect() -> Option<usize> {
    let mut cores = std::collections::HashSet::new();
    for cpu in std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        if let Ok(siblings) = std::fs::read_to_string(cpu.path().join("topology/thread_siblings_list")) {
            cores.insert(siblings);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// `sysctl`, since asking the kernel directly needs unsafe code. Performance cores where there are two kinds.
#[cfg(target_os = "macos")]
fn detect() -> Option<usize> {
    let count = |name: &str| {
        let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    count("hw.perflevel0.physicalcpu").or_else(|| count("hw.physicalcpu"))
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn detect() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_core_and_no_more_than_threads() {
        let logical = available_parallelism().map_or(1, usize::from);
        assert!((1..=logical).contains(&physical_cores()));
    }
}
