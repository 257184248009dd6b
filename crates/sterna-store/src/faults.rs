//! What is left when each sync and each rename of a pull or a removal fails: the model is whole or absent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::disk::{Disk, RealDisk};
use crate::{PullOptions, Store, StoreError};

/// Fails from the step `fails_at` on, as a machine does that lost its power there.
struct FailingDisk {
    steps: AtomicUsize,
    fails_at: usize,
    /// Whether the failing step itself still reaches the medium.
    takes_effect: bool,
}

impl FailingDisk {
    fn step(&self, path: &Path, act: impl Fn() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if step < self.fails_at || step == self.fails_at && self.takes_effect {
            act()?;
        }
        if step < self.fails_at {
            Ok(())
        } else {
            Err(StoreError::io("sync", path)(std::io::Error::other("power cut")))
        }
    }
}

impl Disk for FailingDisk {
    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        self.step(path, || RealDisk.sync_file(path))
    }
    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.step(path, || RealDisk.sync_dir(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.step(from, || RealDisk.rename(from, to))
    }
}

/// Two files, so that there is a state between the first and the second.
fn write_model(directory: &Path) -> String {
    for (name, text) in [("m-00001-of-00002.gguf", "GGUF one"), ("m-00002-of-00002.gguf", "GGUF two, longer")]
    {
        std::fs::write(directory.join(name), text).unwrap();
    }
    directory.join("m-00001-of-00002.gguf").to_str().unwrap().to_owned()
}

/// The model, checked byte for byte, or nothing.
fn whole_or_absent(store: &Store) -> bool {
    match &store.list().unwrap()[..] {
        [] => {
            assert!(!store.root().join("m").exists());
            false
        }
        [model] => {
            assert_eq!(std::fs::read(&model.path).unwrap(), b"GGUF one");
            let second = model.path.with_file_name("m-00002-of-00002.gguf");
            assert_eq!(std::fs::read(second).unwrap(), b"GGUF two, longer");
            assert_eq!(store.resolve("m").unwrap(), model.path);
            true
        }
        more => panic!("{more:?}"),
    }
}

/// Runs `act` with a failure at every step until it has no more steps; gives how many failed.
fn fail_everywhere(
    prepare: impl Fn(&Store, &str),
    act: impl Fn(&Store, &str) -> Result<(), StoreError>,
) -> usize {
    let mut failures = 0;
    for takes_effect in [false, true] {
        for fails_at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let request = write_model(dir.path());
            let sound = Store::at(dir.path().join("models"));
            prepare(&sound, &request);
            let disk = FailingDisk { steps: AtomicUsize::new(0), fails_at, takes_effect };
            let failing = Store { disk: Arc::new(disk), ..sound.clone() };
            let done = act(&failing, &request).is_ok();
            whole_or_absent(&sound);
            // Whatever was left lying about, the next attempts succeed.
            sound.pull(&request, &PullOptions::default(), &mut ()).unwrap();
            assert!(whole_or_absent(&sound));
            sound.remove("m").unwrap();
            assert!(!whole_or_absent(&sound));
            if done {
                break;
            }
            failures += 1;
        }
    }
    failures
}

#[test]
fn a_pull_that_fails_anywhere_leaves_the_model_whole_or_absent() {
    let pull = |store: &Store, request: &str| {
        store.pull(request, &PullOptions::default(), &mut ()).map(|pulled| assert!(pulled.fresh))
    };
    let failures = fail_everywhere(|_, _| (), pull);
    assert!(failures >= 2 * 10, "{failures} failures were injected");
}

#[test]
fn a_removal_that_fails_anywhere_leaves_the_model_whole_or_absent() {
    let prepare = |store: &Store, request: &str| {
        store.pull(request, &PullOptions::default(), &mut ()).unwrap();
    };
    let failures = fail_everywhere(prepare, |store, _| store.remove("m").map(drop));
    assert_eq!(failures, 2 * 2);
}
