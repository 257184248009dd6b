//! Memory of this process, and of this machine.

use anyhow::ensure;

use super::units;

/// Refuses what would need more memory than there is.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Computing")]
pub(in crate::cli) struct MemoryArgs {
    /// Go on although the model will not fit in memory
    #[arg(long)]
    ignore_memory: bool,
}

impl MemoryArgs {
    /// Fails when `needed` bytes do not fit in what the system has left, where it says how much that is.
    pub(in crate::cli) fn check(self, needed: u64) -> anyhow::Result<()> {
        let available = if self.ignore_memory { None } else { available() };
        fits(needed, available)
    }
}

fn fits(needed: u64, available: Option<u64>) -> anyhow::Result<()> {
    let Some(available) = available else { return Ok(()) };
    ensure!(
        needed <= available,
        "this would take {} of memory and {} are free: a smaller --context, --kv int8 or a model of fewer bits takes less; \
         --ignore-memory goes on anyway",
        units::bytes(needed),
        units::bytes(available)
    );
    Ok(())
}

/// Bytes that programs can still have without swapping.
#[cfg(target_os = "linux")]
fn available() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// All memory of the machine: what is free says little, as the system gives away what it keeps for files.
#[cfg(target_os = "macos")]
fn available() -> Option<u64> {
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "hw.memsize"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Not known without unsafe code.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn available() -> Option<u64> {
    None
}

/// The most memory this process has held at once, in bytes (resident set, with pages of mapped files that are in
/// memory); `None` where the system does not say without unsafe code.
#[cfg(target_os = "linux")]
pub(in crate::cli) fn peak_rss() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The same now.
#[cfg(target_os = "linux")]
pub(in crate::cli) fn rss() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// See the Linux version.
#[cfg(not(target_os = "linux"))]
pub(in crate::cli) fn peak_rss() -> Option<u64> {
    None
}

/// See the Linux version.
#[cfg(not(target_os = "linux"))]
pub(in crate::cli) fn rss() -> Option<u64> {
    None
}

/// A line of `/proc/self/status` or `/proc/meminfo` (proc(5)).
#[cfg(target_os = "linux")]
fn parse(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(fits(100, Some(100)).is_ok() && fits(u64::MAX, None).is_ok());
        let refused = fits(3 << 30, Some(1 << 30)).unwrap_err().to_string();
        assert!(refused.contains("3.00 GiB") && refused.contains("--ignore-memory"), "{refused}");
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn reads_what_the_system_says() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(parse(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(parse(status, "VmRSS:"), Some(1024));
        assert_eq!(parse("Name:\tx\n", "VmHWM:"), None);
        assert!(rss() <= peak_rss() && rss().is_some_and(|bytes| bytes > 100_000));
    }
}
