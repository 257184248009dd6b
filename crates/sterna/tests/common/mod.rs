//! The command under test, in a home of its own.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A fresh `$STERNA_HOME`, gone when dropped.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        Home(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// `sterna ARGS` without network, colour, or settings of whoever runs the tests.
    pub(crate) fn sterna(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
        command.env("STERNA_HOME", self.path()).env("STERNA_OFFLINE", "true").env("NO_COLOR", "1");
        command.env_remove("STERNA_ISA").args(args);
        command
    }

    /// Exit code, stdout and stderr of `sterna ARGS` with `stdin`.
    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        let output = self.sterna(args).write_stdin(stdin).output().expect("sterna starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Stdout of `sterna ARGS` with `stdin`, which must succeed.
    pub(crate) fn ok(&self, args: &[&str], stdin: &str) -> String {
        let (code, stdout, stderr) = self.run(args, stdin);
        assert_eq!(code, 0, "sterna {args:?}: {stderr}");
        stdout
    }

    /// Stderr of `sterna ARGS` with `stdin`, which must fail with exit code 1 and nothing on stdout.
    pub(crate) fn error(&self, args: &[&str], stdin: &str) -> String {
        let (code, stdout, stderr) = self.run(args, stdin);
        assert_eq!((code, stdout.as_str()), (1, ""), "sterna {args:?}: {stderr}");
        stderr
    }
}

/// A path under the repository's `tests/fixtures`.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path)
}

/// A tiny checkpoint, as an argument.
#[allow(dead_code, reason = "each test file is a crate of its own and uses what it needs")]
pub(crate) fn checkpoint(name: &str) -> String {
    fixture("checkpoints").join(name).display().to_string()
}

/// A copy of a checkpoint of 256 tokens or more, with a tokenizer that has a token for each byte.
#[allow(dead_code, reason = "each test file is a crate of its own and uses what it needs")]
pub(crate) fn bytewise(home: &Home, name: &str) -> String {
    let directory = home.path().join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("checkpoints").join(name).join(file), directory.join(file)).expect("copied");
    }
    let spelled = |byte: u8| {
        let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
        if printable(byte) { char::from(byte) } else { char::from_u32(256 + before).expect("a character") }
    };
    let vocab: serde_json::Map<String, Value> =
        (0..=255u8).map(|byte| (spelled(byte).to_string(), byte.into())).collect();
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": bytes, "post_processor": null,
        "decoder": bytes, "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    std::fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).expect("written");
    directory.display().to_string()
}
