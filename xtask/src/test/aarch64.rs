//! Finding what it takes to build for aarch64 Linux and run the result under qemu.
//!
//! The standard library for aarch64 is either a target of the active toolchain (`rustup target add`) or that of the
//! distribution's own rustc, which Debian packages for several architectures at once; see docs/testing.md.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cargo;
use crate::workspace;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
/// Where distributions put the C library of the cross compiler.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";
/// There when the C library of an arm64 system is installed, as it is beside Debian's standard library of Rust.
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";
/// Cases of a property test, of which there are 256 otherwise: every instruction is emulated.
const PROPERTY_CASES: &str = "16";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

pub(super) struct Toolchain {
    rustc: PathBuf,
    emulator: &'static str,
}

impl Toolchain {
    /// The toolchain, or what is missing.
    pub(super) fn find() -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("emulation is set up for x86-64 Linux only".to_owned());
        }
        let rustc =
            [PathBuf::from("rustc"), PathBuf::from(SYSTEM_RUSTC)].into_iter().find(|rustc| has_std(rustc));
        let rustc = rustc.ok_or_else(|| format!("no rustc here has the standard library for {TARGET}"))?;
        if !on_path(LINKER) {
            return Err(format!("no {LINKER}"));
        }
        let emulator = EMULATORS.into_iter().find(|name| on_path(name));
        Ok(Self { rustc, emulator: emulator.ok_or("no qemu-aarch64")? })
    }

    /// Cargo that builds for aarch64 and runs the result on the processor `cpu`.
    pub(super) fn cargo(&self, args: &[&str], cpu: &str) -> Command {
        let mut cargo = cargo(&args[..1]);
        cargo
            .args(["--target", TARGET])
            // Dependencies are most of what is built, and their speed does not matter here.
            .args(["--config", "profile.dev.package.'*'.opt-level=0"])
            .args(&args[1..])
            .env("RUSTC", &self.rustc)
            // Its own directory: another rustc would rebuild everything of the usual one, and back again.
            .env("CARGO_TARGET_DIR", workspace::target().join("aarch64"))
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", self.runner())
            .env("CC_aarch64_unknown_linux_gnu", LINKER)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("PROPTEST_CASES", PROPERTY_CASES)
            .env("QEMU_CPU", cpu);
        cargo
    }

    /// The emulator with one C library: `-L` comes before the system's only for files that are there, so with both
    /// installed it would mix one's loader with the other's library, and the first new thread would hang.
    fn runner(&self) -> String {
        if Path::new(LOADER).exists() {
            self.emulator.to_owned()
        } else {
            format!("{} -L {SYSROOT}", self.emulator)
        }
    }
}

fn has_std(rustc: &Path) -> bool {
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
        output.status.success()
            && files.map(|file| file.file_name()).any(|name| name.to_string_lossy().starts_with("libstd"))
    })
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
