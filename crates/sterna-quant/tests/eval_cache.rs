//! The cache of a reference's predictions: it saves the second run, and no damage to it changes a figure.

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use common::{Table, checkpoint, runner, text};
use proptest::prelude::*;
use sterna_quant::eval::cache::{Cache, CacheKey, DEFAULT_LIMIT, ModelIdentity};
use sterna_quant::eval::divergence::{Comparison, compare};
use sterna_quant::eval::{EvalError, LogitSource, Progress, Reference, Windows};

/// Keeps the notes, and wants to end after some steps.
#[derive(Default)]
struct Listener {
    notes: Vec<String>,
    steps: Cell<usize>,
    most_steps: Option<usize>,
}

impl Progress for Listener {
    fn advance(&mut self, _: usize, _: usize) {
        self.steps.set(self.steps.get() + 1);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn cancelled(&self) -> bool {
        self.most_steps.is_some_and(|most| self.steps.get() >= most)
    }
}

/// qwen3 beside gemma3.
fn comparison(windows: &Windows, cache: Option<&Cache>, progress: &mut dyn Progress) -> Comparison {
    let load = || Ok(Box::new(runner("gemma3")) as Box<dyn LogitSource>);
    let cache = cache.map(|cache| (cache.clone(), key(windows)));
    let mut reference = Reference::new(windows, 384, cache, Box::new(load));
    compare(&mut runner("qwen3"), &mut reference, progress).unwrap()
}

fn key(windows: &Windows) -> CacheKey {
    CacheKey::new(&ModelIdentity::of(&checkpoint("gemma3")).unwrap(), "float", 384, windows)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_is_in_the_cache_is_not_computed_again() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path().join("new"), DEFAULT_LIMIT);
    let windows = Windows::new(text(128), 64, None, None).unwrap();
    let first = comparison(&windows, Some(&cache), &mut ());
    assert_eq!(first, comparison(&windows, None, &mut ()));
    assert_eq!(files(&directory.path().join("new")).len(), 1);

    let load = || panic!("the reference is loaded");
    let mut reference = Reference::new(&windows, 384, Some((cache, key(&windows))), Box::new(load));
    assert_eq!(compare(&mut runner("qwen3"), &mut reference, &mut ()).unwrap(), first);
}

#[test]
fn the_second_model_finds_the_reference_in_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let windows = Windows::new(text(128), 64, None, None).unwrap();
    let n_loads = Cell::new(0);
    let load = || {
        n_loads.set(n_loads.get() + 1);
        Ok(Box::new(runner("gemma3")) as Box<dyn LogitSource>)
    };
    let cache = Cache::new(directory.path(), DEFAULT_LIMIT);
    let mut reference = Reference::new(&windows, 384, Some((cache, key(&windows))), Box::new(load));
    let first = compare(&mut runner("qwen3"), &mut reference, &mut ()).unwrap();
    assert!(!reference.is_live());
    assert_eq!(compare(&mut runner("qwen3"), &mut reference, &mut ()).unwrap(), first);
    assert_eq!(n_loads.get(), 1);
}

#[test]
fn a_key_is_another_for_whatever_matters() {
    let windows = Windows::new(text(128), 64, None, None).unwrap();
    let identity = ModelIdentity::of(&checkpoint("gemma3")).unwrap();
    let other = ModelIdentity::of(&checkpoint("qwen3")).unwrap();
    let fewer = Windows::new(text(128), 64, None, Some(1)).unwrap();
    let shorter = Windows::new(text(128), 32, None, None).unwrap();
    let keys = [
        key(&windows),
        CacheKey::new(&other, "float", 384, &windows),
        CacheKey::new(&identity, "int8", 384, &windows),
        CacheKey::new(&identity, "float", 385, &windows),
        CacheKey::new(&identity, "float", 384, &fewer),
        CacheKey::new(&identity, "float", 384, &shorter),
    ];
    for (i, a) in keys.iter().enumerate() {
        assert!(keys[..i].iter().all(|b| a != b), "{i}");
    }
}

#[test]
fn damaged_files_are_computed_again() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path(), DEFAULT_LIMIT);
    let windows = Windows::new(text(128), 64, None, None).unwrap();
    let expected = comparison(&windows, Some(&cache), &mut ());
    let path = files(directory.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let window = (whole.len() - 40) / 2;
    // Magic, key, heads and codes of records in either window, both checksums.
    let last = whole.len() - 1;
    let places = [0, 7, 8, 39, 40, 45, 50, 60, 40 + window - 1, 40 + window, 40 + window + 1000, last];
    let flipped = places.map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    });
    let swapped = [&whole[..40], &whole[40 + window..], &whole[40..40 + window]].concat();
    let cuts = [0, 39, 40, whole.len() / 2, last].map(|n| whole[..n].to_vec());
    let longer = [&whole[..], &[0]].concat();
    for bytes in flipped.into_iter().chain(cuts).chain([swapped, longer]) {
        std::fs::write(&path, bytes).unwrap();
        let mut listener = Listener::default();
        assert_eq!(comparison(&windows, Some(&cache), &mut listener), expected);
        assert_eq!(listener.notes.len(), 1, "{:?}", listener.notes);
        assert!(listener.notes[0].contains("computing the reference again"), "{:?}", listener.notes);
    }
}

#[test]
fn the_file_of_another_run_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path(), DEFAULT_LIMIT);
    let windows = Windows::new(text(128), 64, None, None).unwrap();
    comparison(&windows, Some(&cache), &mut ());
    let other = Windows::new(text(140)[12..].to_vec(), 64, None, None).unwrap();
    let renamed = directory.path().join(format!("{}.logits", key(&other)));
    std::fs::rename(files(directory.path()).remove(0), renamed).unwrap();
    let mut listener = Listener::default();
    assert_eq!(comparison(&other, Some(&cache), &mut listener), comparison(&other, None, &mut ()));
    assert!(listener.notes[0].contains("another run"), "{:?}", listener.notes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is done to a file, the figures stay, and nothing panics.
    #[test]
    fn mutated_files_change_no_figure(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path(), DEFAULT_LIMIT);
        let windows = Windows::new(vec![1, 2, 3, 0, 1, 1, 2, 2], 4, None, None).unwrap();
        let identity = ModelIdentity::of(&checkpoint("qwen3")).unwrap();
        let key = CacheKey::new(&identity, "", 5, &windows);
        let figures = || {
            let p = || Ok(Box::new(Table::new(5, |at, t, next| (at * next) as f32 - t as f32)) as _);
            let mut reference = Reference::new(&windows, 5, Some((cache.clone(), key)), Box::new(p));
            compare(&mut Table::new(5, |at, _, next| (at + next) as f32), &mut reference, &mut ()).unwrap()
        };
        let expected = figures();
        let path = files(directory.path()).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        changes.iter().for_each(|(at, value)| *at.get_mut(&mut bytes) = *value);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        prop_assert_eq!(figures(), expected);
    }
}

#[test]
fn an_interrupted_run_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path(), DEFAULT_LIMIT);
    let windows = Windows::new(text(192), 64, None, None).unwrap();
    let load = || Ok(Box::new(runner("gemma3")) as Box<dyn LogitSource>);
    let mut reference = Reference::new(&windows, 384, Some((cache, key(&windows))), Box::new(load));
    let mut listener = Listener { most_steps: Some(2), ..Listener::default() };
    let error = compare(&mut runner("qwen3"), &mut reference, &mut listener).unwrap_err();
    assert!(matches!(error, EvalError::Cancelled), "{error}");
    assert_eq!(files(directory.path()).len(), 1);
    drop(reference);
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn without_room_nothing_is_kept_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let windows = Windows::new(text(128), 64, None, None).unwrap();
    let mut listener = Listener::default();
    let found = comparison(&windows, Some(&Cache::new(directory.path(), 1000)), &mut listener);
    assert_eq!(found, comparison(&windows, None, &mut ()));
    assert!(listener.notes[0].contains("limit"), "{:?}", listener.notes);
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}
