//! Models from paths, names, and removal: what the store owns and what it leaves alone.

use std::path::Path;

use sterna_store::{PullOptions, Pulled, Store, StoreError};
use tempfile::TempDir;

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("models"));
    (dir, store)
}

fn pull(store: &Store, path: &Path) -> Result<Pulled, StoreError> {
    store.pull(path.to_str().unwrap(), &PullOptions { offline: true, ..PullOptions::default() }, &mut ())
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_is_copied_in_and_the_users_own_stays_when_the_copy_goes() {
    let (dir, store) = store();
    let own = dir.path().join("own/My-Model.gguf");
    write(&own, "GGUF and more");
    let pulled = pull(&store, &own).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), b"GGUF and more");
    assert_ne!(pulled.path, own);
    let listed = store.list().unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "my-model"));
    assert_eq!(store.remove("my-model").unwrap(), 13);
    assert!(own.exists() && !pulled.path.exists());
}

#[test]
fn all_shards_come_along() {
    let (dir, store) = store();
    let first = dir.path().join("m-00001-of-00002.gguf");
    write(&first, "GGUF 1");
    assert!(matches!(pull(&store, &first), Err(StoreError::Io { .. })), "the second is missing");
    assert!(store.list().unwrap().is_empty());
    write(&dir.path().join("m-00002-of-00002.gguf"), "GGUF 2");
    let pulled = pull(&store, &first).unwrap();
    assert!(pulled.path.ends_with("m/m-00001-of-00002.gguf"));
    assert_eq!(pulled.manifest.files.len(), 2);
}

#[test]
fn a_directory_is_copied_without_what_a_model_does_not_need() {
    let (dir, store) = store();
    let own = dir.path().join("Tiny");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "secrets.txt"] {
        write(&own.join(name), name);
    }
    let pulled = pull(&store, &own).unwrap();
    assert_eq!(store.resolve("tiny").unwrap(), pulled.path);
    assert!(pulled.path.join("tokenizer.json").exists() && !pulled.path.join("secrets.txt").exists());
    write(&dir.path().join("empty/README.md"), "");
    assert!(matches!(pull(&store, &dir.path().join("empty")), Err(StoreError::Request { .. })));
}

#[test]
fn names_and_paths_resolve() {
    let (dir, store) = store();
    let own = dir.path().join("a.gguf");
    write(&own, "GGUF");
    assert_eq!(store.resolve(own.to_str().unwrap()).unwrap(), own);
    assert!(matches!(store.resolve("smollm2-135m"), Err(StoreError::NotPulled { .. })));
    let error = store.resolve("smolm2-135").unwrap_err().to_string();
    assert!(error.contains("did you mean smollm2-135m?"), "{error}");
    let error = store.resolve("./no/such.gguf").unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    for name in ["..", "../models", "a/../../b", "", "no such"] {
        assert!(store.remove(name).is_err(), "{name}");
    }
    assert!(own.exists());
}

#[test]
fn a_name_means_one_model() {
    let (dir, store) = store();
    let (one, two) = (dir.path().join("one/m.gguf"), dir.path().join("two/m.gguf"));
    write(&one, "GGUF one");
    write(&two, "GGUF two");
    pull(&store, &one).unwrap();
    assert!(matches!(pull(&store, &two), Err(StoreError::Taken { .. })));
    let options = PullOptions { name: Some("other".into()), ..PullOptions::default() };
    let pulled = store.pull(two.to_str().unwrap(), &options, &mut ()).unwrap();
    assert_eq!(pulled.name.as_str(), "other");

    let promised = dir.path().join("smollm2-135m.gguf");
    write(&promised, "GGUF");
    let error = pull(&store, &promised).unwrap_err().to_string();
    assert!(error.contains("catalogue"), "{error}");
}

#[test]
fn what_the_user_put_beside_a_model_is_not_removed() {
    let (dir, store) = store();
    let own = dir.path().join("m.gguf");
    write(&own, "GGUF");
    let pulled = pull(&store, &own).unwrap();
    let notes = pulled.path.with_file_name("notes.txt");
    write(&notes, "mine");
    let error = store.remove("m").unwrap_err();
    assert!(matches!(&error, StoreError::Foreign { path } if *path == notes), "{error}");
    assert!(pulled.path.exists());
}

#[test]
fn a_model_that_was_cut_is_not_handed_out() {
    let (dir, store) = store();
    let own = dir.path().join("m.gguf");
    write(&own, "GGUF and more");
    let pulled = pull(&store, &own).unwrap();
    std::fs::write(&pulled.path, "GGUF").unwrap();
    assert!(matches!(store.resolve("m"), Err(StoreError::Size { expected: 13, found: 4, .. })));
}

#[test]
fn a_directory_that_is_no_model_is_neither_listed_nor_overwritten() {
    let (dir, store) = store();
    write(&store.root().join("m/precious.txt"), "mine");
    let own = dir.path().join("m.gguf");
    write(&own, "GGUF");
    assert!(store.list().unwrap().is_empty());
    assert!(matches!(pull(&store, &own), Err(StoreError::Taken { .. })));
    assert!(matches!(store.remove("m"), Err(StoreError::NotFound { .. })));
    assert_eq!(std::fs::read(store.root().join("m/precious.txt")).unwrap(), b"mine");
}
