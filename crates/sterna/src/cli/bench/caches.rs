//! Which caches this machine has, where the system says so.

/// A cache for data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cache {
    pub(super) name: String,
    pub(super) bytes: usize,
    /// By several cores.
    pub(super) is_shared: bool,
}

/// Sizes that stand for caches where the system does not say what there is.
const USUAL_BYTES: [usize; 3] = [16 << 10, 256 << 10, 4 << 20];

/// The caches of one core, from small to large.
pub(super) fn caches() -> Vec<Cache> {
    let mut caches = known();
    if caches.is_empty() {
        let usual = |bytes| Cache { name: format!("{} KiB", bytes >> 10), bytes, is_shared: false };
        caches.extend(USUAL_BYTES.map(usual));
    }
    caches.sort_by_key(|cache| cache.bytes);
    caches
}

/// Those of the first core, as the kernel lists them.
#[cfg(target_os = "linux")]
fn known() -> Vec<Cache> {
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache") else { return Vec::new() };
    let of = |entry: std::fs::DirEntry| {
        let read =
            |name: &str| Some(std::fs::read_to_string(entry.path().join(name)).ok()?.trim().to_owned());
        cache(&read("type")?, &read("level")?, &read("size")?, &read("shared_cpu_list")?)
    };
    entries.flatten().filter_map(of).collect()
}

/// `sysctl`, since asking the kernel directly needs unsafe code. Those of the performance cores, which share the second one.
#[cfg(target_os = "macos")]
fn known() -> Vec<Cache> {
    let of = |(name, key, is_shared): (&str, &str, bool)| {
        let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", key]).output().ok()?;
        let bytes = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
        Some(Cache { name: name.to_owned(), bytes, is_shared })
    };
    let keys = [("L1", "hw.perflevel0.l1dcachesize", false), ("L2", "hw.perflevel0.l2cachesize", true)];
    keys.into_iter().filter_map(of).collect()
}

/// Elsewhere nobody is asked.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn known() -> Vec<Cache> {
    Vec::new()
}

/// What `/sys/devices/system/cpu/cpu*/cache/index*` says, as in the kernel's `Documentation/ABI`.
#[cfg(any(target_os = "linux", test))]
fn cache(kind: &str, level: &str, size: &str, shared_cpu_list: &str) -> Option<Cache> {
    let kib: usize = size.strip_suffix('K')?.parse().ok()?;
    let is_shared = shared_cpu_list.contains([',', '-']);
    (kind != "Instruction").then(|| Cache { name: format!("L{level}"), bytes: kib << 10, is_shared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_as_the_kernel_writes_them() {
        let l2 = cache("Unified", "2", "2048K", "0").unwrap();
        assert_eq!((l2.name.as_str(), l2.bytes, l2.is_shared), ("L2", 2 << 20, false));
        assert!(cache("Unified", "3", "491520K", "0-1").unwrap().is_shared);
        assert_eq!(cache("Instruction", "1", "32K", "0"), None);
        assert_eq!(cache("Data", "1", "", "0"), None);
    }
}
