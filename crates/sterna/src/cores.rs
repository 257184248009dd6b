//! How many threads are worth having.

use std::thread::available_parallelism;

/// Physical cores that this process may use, at least 1. Two threads on one core share its vector units, so a second one
/// only adds waiting. Where there are cores of several kinds, those that are less than half as fast as the fastest do not
/// count: they would hold up the others at the end of each layer.
pub fn physical_cores() -> usize {
    let logical = available_parallelism().map_or(1, usize::from);
    detect().map_or(logical, |physical| physical.clamp(1, logical))
}

/// Counts the distinct sets of sibling threads of fast cores.
#[cfg(target_os = "linux")]
fn detect() -> Option<usize> {
    detect_in(std::path::Path::new("/sys/devices/system/cpu"))
}

/// As [`detect`], in a directory such as the kernel fills (`Documentation/ABI`): `cpu_capacity` is there where the firmware
/// describes cores of several kinds, the highest frequency nearly everywhere.
#[cfg(any(target_os = "linux", test))]
fn detect_in(cpus: &std::path::Path) -> Option<usize> {
    let mut cores = std::collections::HashMap::new();
    for cpu in std::fs::read_dir(cpus).ok()?.flatten() {
        let read = |name: &str| std::fs::read_to_string(cpu.path().join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        if let Some(siblings) = read("topology/thread_siblings_list") {
            let speed = number("cpu_capacity").or_else(|| number("cpufreq/cpuinfo_max_freq"));
            cores.insert(siblings, speed.unwrap_or(0));
        }
    }
    let fastest = cores.values().copied().max()?;
    Some(cores.values().filter(|speed| **speed >= fastest.div_ceil(2)).count())
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

    /// Each processor with its siblings and its capacity.
    fn detect_among(cpus: &[(&str, Option<u64>)]) -> Option<usize> {
        let directory = tempfile::tempdir().unwrap();
        for (i, (siblings, capacity)) in cpus.iter().enumerate() {
            let cpu = directory.path().join(format!("cpu{i}"));
            std::fs::create_dir_all(cpu.join("topology")).unwrap();
            std::fs::write(cpu.join("topology/thread_siblings_list"), siblings).unwrap();
            if let Some(capacity) = capacity {
                std::fs::write(cpu.join("cpu_capacity"), format!("{capacity}\n")).unwrap();
            }
        }
        detect_in(directory.path())
    }

    #[test]
    fn siblings_and_slow_cores_do_not_count() {
        assert_eq!(detect_among(&[]), None);
        assert_eq!(detect_among(&[("0,2", None), ("1,3", None), ("0,2", None), ("1,3", None)]), Some(2));
        let phone =
            [("0", Some(325)), ("1", Some(325)), ("2", Some(870)), ("3", Some(870)), ("4", Some(1024))];
        assert_eq!(detect_among(&phone), Some(3));
    }

    #[test]
    fn there_is_a_core_and_no_more_than_threads() {
        let logical = available_parallelism().map_or(1, usize::from);
        assert!((1..=logical).contains(&physical_cores()));
    }
}
