//! Peak memory of this process.

/// The most memory this process has held at once, in bytes (resident set, with pages of mapped files that are in
/// memory); `None` where the system does not say without unsafe code.
#[cfg(target_os = "linux")]
pub(in crate::cli) fn peak_rss() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// See the Linux version.
#[cfg(not(target_os = "linux"))]
pub(in crate::cli) fn peak_rss() -> Option<u64> {
    None
}

/// The `VmHWM` line of `/proc/self/status` (proc(5)).
#[cfg(target_os = "linux")]
fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reads_the_high_water_mark() {
        assert_eq!(parse("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(parse("Name:\tx\n"), None);
        assert!(peak_rss().is_some_and(|bytes| bytes > 100_000));
    }
}
