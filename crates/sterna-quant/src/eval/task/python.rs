//! Running code that a model wrote.
//!
//! What is done: an own process (`python3 -I`: no user's packages, no environment variables of Python) in an empty temporary
//! directory that is removed afterwards; an empty environment; no terminal, and nothing it prints is kept; a time limit after
//! which the whole process group is killed; and on Unix limits on memory, processor time, size of files, open files and
//! new processes, set by the first lines of the program before any foreign code runs.
//!
//! What is not done: the code runs as the same user. It can read what that user can read, and write to files that exist
//! (up to the size limit), and it can use the network. A process that leaves the group and the limits on processes, as
//! those of an administrator can, lives on. On Windows only the time limit is kept, and only by the first process. Whoever
//! needs more runs Sterna in a container.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::eval::{EvalError, Result};

/// Reads a program from stdin, sets limits, runs it, and leaves a file of the given name if all of it ran.
const FRAME: &str = r#"
import os, sys
mark, memory, seconds = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
source = sys.stdin.buffer.read()
try:
    import resource
    for what, most in [("AS", memory), ("DATA", memory), ("CPU", seconds), ("FSIZE", 1 << 20),
                       ("NOFILE", 64), ("NPROC", 0), ("CORE", 0)]:
        try:
            limit = getattr(resource, "RLIMIT_" + what)
            hard = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (most, most) if hard < 0 or most < hard else (hard, hard))
        except (AttributeError, ValueError, OSError):
            pass
except ImportError:
    pass
def run(source, create, flags, close, mark):
    exec(compile(source, "program", "exec"), {"__name__": "__main__"})
    close(create(mark, flags))
run(source, os.open, os.O_CREAT | os.O_WRONLY, os.close, mark)
"#;

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What a program may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) memory_bytes: u64,
}

/// A Python interpreter.
#[derive(Debug)]
pub(super) struct Python {
    path: PathBuf,
}

impl Python {
    /// The interpreter `path`, a name or a path, if it runs.
    pub(super) fn find(path: &Path) -> Result<Python> {
        let mut command = Command::new(path);
        command.args(["-I", "-c", ""]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status().map_err(EvalError::io(path))?.success() {
            true => Ok(Python { path: path.to_owned() }),
            false => Err(EvalError::io(path)(std::io::Error::other("the interpreter does not start"))),
        }
    }

    /// Whether `program` runs to its end within `limits`.
    pub(super) fn passes(&self, program: &str, limits: Limits) -> Result<bool> {
        let io = |error| EvalError::io(&self.path)(error);
        let directory = tempfile::tempdir().map_err(io)?;
        // A name that the program does not know; the standard library keys hashers from the system's randomness.
        let name = format!("{:016x}", RandomState::new().hash_one(0u8));
        let mut command = Command::new(&self.path);
        command.args(["-I", "-c", FRAME]).arg(&name).arg(limits.memory_bytes.to_string());
        command.arg(limits.time.as_secs().max(1).to_string()).current_dir(directory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        clear_environment(&mut command);
        let mut child = Group::spawn(&mut command).map_err(io)?;
        if let Some(mut stdin) = child.0.stdin.take() {
            // An interpreter that does not read its program does not pass it either.
            let _ = stdin.write_all(program.as_bytes());
        }
        let start = Instant::now();
        while !child.has_ended().map_err(io)? {
            if start.elapsed() >= limits.time {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(directory.path().join(name).exists())
    }
}

/// Leaves what the interpreter needs to start.
fn clear_environment(command: &mut Command) {
    let kept = ["PATH", "SYSTEMROOT"].map(|name| (name, std::env::var_os(name)));
    command.env_clear();
    for (name, value) in kept {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
}

/// A process and what it has started; killed when dropped.
struct Group(Child);

impl Group {
    #[cfg(unix)]
    fn spawn(command: &mut Command) -> std::io::Result<Group> {
        use std::os::unix::process::CommandExt;
        command.process_group(0).spawn().map(Group)
    }

    #[cfg(not(unix))]
    fn spawn(command: &mut Command) -> std::io::Result<Group> {
        command.spawn().map(Group)
    }

    /// Without reaping it on Unix: as long as it is a zombie, nobody else can have its group's number.
    #[cfg(unix)]
    fn has_ended(&mut self) -> std::io::Result<bool> {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(Pid::from_child(&self.0)), options)?.is_some())
    }

    #[cfg(not(unix))]
    fn has_ended(&mut self) -> std::io::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process_group};
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(10), memory_bytes: 1 << 30 };

    fn passes(program: &str) -> bool {
        Python::find(Path::new("python3")).unwrap().passes(program, LIMITS).unwrap()
    }

    #[test]
    fn a_program_passes_when_it_comes_to_its_end() {
        assert!(passes("def f(x):\n    return x + 1\nassert f(1) == 2\nprint('much' * 100000)\n"));
        assert!(passes("import os\nassert os.listdir('.') == []\nassert 'HOME' not in os.environ"));
        for wrong in [
            "assert 1 == 2",
            "syntax error",
            "import sys; sys.exit(0)",
            "import os; os._exit(0)",
            "raise SystemExit",
            "import os\nopen('passed', 'w').close()\nassert False",
        ] {
            assert!(!passes(wrong), "{wrong}");
        }
    }

    #[test]
    fn memory_and_files_are_limited() {
        assert!(!passes("x = bytearray(2 << 30)"));
        assert!(!passes("f = open('f', 'wb')\nf.write(bytes(2 << 20))\nf.close()"));
    }

    #[test]
    fn time_is_limited_for_all_that_was_started() {
        let python = Python::find(Path::new("python3")).unwrap();
        let limits = Limits { time: Duration::from_millis(700), ..LIMITS };
        let start = Instant::now();
        assert!(!python.passes("import time\ntime.sleep(60)", limits).unwrap());
        assert!(!python.passes("while True: pass", limits).unwrap());
        // A child that would write after its parent is gone. (An administrator may start one, others may not.)
        let file = tempfile::NamedTempFile::new().unwrap();
        let program = format!(
            "import os, time\nif os.fork() == 0:\n    time.sleep(2)\n    open({:?}, 'w').write('alive')\n",
            file.path()
        );
        python.passes(&program, limits).unwrap();
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let error = Python::find(Path::new("python-of-nobody")).unwrap_err();
        assert!(error.to_string().contains("python-of-nobody"), "{error}");
    }
}
