//! Pulling over HTTP from a server on the loopback interface: resuming, wrong bytes, hostile answers.

use crate::server::{Answer, Server};
use sha2::{Digest, Sha256};
use sterna_store::{PullOptions, Pulled, Store, StoreError};
use tempfile::TempDir;

/// A "model" large enough to arrive in several reads.
fn gguf() -> Vec<u8> {
    let noise = (0..700_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
    b"GGUF".iter().copied().chain(noise).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("models"));
    (dir, store)
}

fn pull(store: &Store, request: &str) -> Result<Pulled, StoreError> {
    store.pull(request, &PullOptions::default(), &mut ())
}

/// A hub with one repository `org/repo` that has `file`; `serve` answers for its bytes.
fn hub(
    file: &'static str,
    size: usize,
    sha256: Option<String>,
    serve: impl Fn(usize) -> Answer + Send + 'static,
) -> Server {
    let lfs = sha256.map(|sha256| serde_json::json!({ "sha256": sha256 }));
    let siblings = serde_json::json!([{ "rfilename": file, "size": size, "lfs": lfs }]);
    let listing = serde_json::json!({ "sha": "abc123", "tags": ["license:mit"], "siblings": siblings });
    let listing = listing.to_string();
    Server::start(move |request, before| match request.path.starts_with("/api/") {
        true => Answer::file(listing.clone()),
        false => serve(before),
    })
}

#[track_caller]
fn assert_nothing_here(store: &Store) {
    assert!(store.list().unwrap().is_empty());
    let visible = std::fs::read_dir(store.root())
        .unwrap()
        .filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(visible.count(), 0);
}

#[test]
fn a_url_becomes_a_model_and_goes_again() {
    let (_dir, store) = store();
    let server = Server::start(|_, _| Answer::file(gguf()));
    let url = format!("{}/some/Tiny-Q4_0.gguf?download=true", server.address);
    let pulled = pull(&store, &url).unwrap();
    assert_eq!(pulled.name.as_str(), "tiny-q4_0");
    assert_eq!(std::fs::read(&pulled.path).unwrap(), gguf());
    assert_eq!(pulled.manifest.source, url);
    assert_eq!(pulled.manifest.files[0].sha256, sha256(&gguf()));
    assert_eq!(store.resolve("Tiny-Q4_0").unwrap(), pulled.path);

    assert!(!pull(&store, &url).unwrap().fresh, "nothing to do the second time");
    assert_eq!(server.seen().len(), 1);

    assert_eq!(store.remove("tiny-q4_0").unwrap(), gguf().len() as u64);
    assert_nothing_here(&store);
}

#[test]
fn a_tagged_file_goes_on_after_a_broken_connection() {
    let (_dir, store) = store();
    let server = Server::start(|_, before| match before {
        0 => Answer::file(gguf()).etag("\"v1\"").cut_after(300_000),
        _ => Answer::file(gguf()).etag("\"v1\""),
    });
    let pulled = pull(&store, &format!("{}/a.gguf", server.address)).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), gguf());
    let second = &server.seen()[1];
    assert_eq!((second.range_from, second.if_range.as_deref()), (Some(300_000), Some("\"v1\"")));
}

#[test]
fn a_file_that_changed_meanwhile_starts_over() {
    let (_dir, store) = store();
    let other: Vec<u8> = gguf().iter().map(|byte| byte ^ 1).collect();
    let server = Server::start(move |_, before| match before {
        0 => Answer::file(other.clone()).etag("\"v1\"").cut_after(300_000),
        _ => Answer::file(gguf()).etag("\"v2\""),
    });
    let pulled = pull(&store, &format!("{}/a.gguf", server.address)).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), gguf());
}

#[test]
fn without_tag_or_checksum_nothing_is_resumed() {
    let (_dir, store) = store();
    let server = Server::start(|_, before| match before {
        0 => Answer::file(gguf()).cut_after(300_000),
        _ => Answer::file(gguf()),
    });
    let pulled = pull(&store, &format!("{}/a.gguf", server.address)).unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), gguf());
    assert_eq!(server.ranges(), [None, None]);
}

#[test]
fn the_next_pull_goes_on_where_a_failed_one_stopped() {
    let (_dir, store) = store();
    let server = hub("m-Q4_K_M.gguf", gguf().len(), Some(sha256(&gguf())), |before| match before {
        1 => Answer::file(gguf()).cut_after(500_000),
        2 => Answer::status(503),
        _ => Answer::file(gguf()),
    });
    let store = store.with_hub(&server.address);
    let error = pull(&store, "hf:org/repo").unwrap_err();
    assert!(matches!(error, StoreError::Status { status: 503, .. }), "{error}");
    assert_nothing_here(&store);

    let pulled = pull(&store, "hf:org/repo").unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), gguf());
    assert_eq!(pulled.manifest.licence.as_deref(), Some("mit"));
    // listing, cut, 503; listing, rest
    assert_eq!(server.ranges(), [None, None, Some(500_000), None, Some(500_000)]);
}

#[test]
fn a_server_that_ignores_ranges_costs_time_and_not_bytes() {
    let (_dir, store) = store();
    let server = hub("m.gguf", gguf().len(), Some(sha256(&gguf())), |before| match before {
        1 => Answer::file(gguf()).cut_after(500_000),
        _ => Answer::file(gguf()).ignoring_ranges(),
    });
    let store = store.with_hub(&server.address);
    let pulled = pull(&store, "hf:org/repo").unwrap();
    assert_eq!(std::fs::read(&pulled.path).unwrap(), gguf());
    assert_eq!(server.ranges(), [None, None, Some(500_000)]);
}

#[test]
fn wrong_bytes_are_refused_and_forgotten() {
    let (_dir, store) = store();
    let mut wrong = gguf();
    wrong[600_000] ^= 1;
    let server = hub("m.gguf", gguf().len(), Some(sha256(&gguf())), move |before| match before {
        1 => Answer::file(wrong.clone()),
        _ => Answer::file(gguf()),
    });
    let store = store.with_hub(&server.address);
    let error = pull(&store, "hf:org/repo").unwrap_err();
    assert!(
        matches!(&error, StoreError::Checksum { expected, .. } if *expected == sha256(&gguf())),
        "{error}"
    );
    assert_nothing_here(&store);
    assert!(pull(&store, "hf:org/repo").unwrap().fresh);
    assert_eq!(server.ranges(), [None; 4], "no byte of the wrong file is built upon");
}

#[test]
fn a_resumed_file_with_a_wrong_beginning_is_fetched_once_more() {
    let (_dir, store) = store();
    let mut wrong = gguf();
    wrong[7] ^= 1;
    let server = hub("m.gguf", gguf().len(), Some(sha256(&gguf())), move |before| match before {
        1 => Answer::file(wrong.clone()).cut_after(500_000),
        2 => Answer::status(503),
        _ => Answer::file(gguf()),
    });
    let store = store.with_hub(&server.address);
    assert!(pull(&store, "hf:org/repo").is_err());
    assert_eq!(std::fs::read(pull(&store, "hf:org/repo").unwrap().path).unwrap(), gguf());
    assert_eq!(server.ranges(), [None, None, Some(500_000), None, Some(500_000), None]);
}

#[test]
fn sizes_that_do_not_fit_are_refused_before_the_download() {
    let (_dir, store) = store();
    let server = hub("m.gguf", gguf().len() - 1, None, |_| Answer::file(gguf()));
    let store = store.with_hub(&server.address);
    let error = pull(&store, "hf:org/repo").unwrap_err();
    assert!(matches!(error, StoreError::Size { expected: 700_004, found: 700_005, .. }), "{error}");

    let options = PullOptions { max_bytes: 1_000, ..PullOptions::default() };
    let server = Server::start(|_, _| Answer::file(gguf()));
    let error = store.pull(&format!("{}/a.gguf", server.address), &options, &mut ()).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { limit: 1_000, .. }), "{error}");
    assert_nothing_here(&store);
}

#[test]
fn the_hubs_announced_checksum_is_believed_before_the_download() {
    let (_dir, store) = store();
    let other = "0".repeat(64);
    let server = hub("m.gguf", gguf().len(), Some(sha256(&gguf())), move |_| {
        Answer::redirect("/cdn/m.gguf").header("X-Linked-ETag", &format!("\"{other}\""))
    });
    let store = store.with_hub(&server.address);
    assert!(matches!(pull(&store, "hf:org/repo"), Err(StoreError::Checksum { .. })));
    assert!(server.seen().iter().all(|seen| !seen.path.starts_with("/cdn")));
}

#[test]
fn redirects_are_followed_within_reason() {
    let (_dir, store) = store();
    let server = Server::start(|request, _| match request.path.as_str() {
        "/a.gguf" => Answer::redirect("/b"),
        "/b" => Answer::file(gguf()),
        "/file.gguf" => Answer::redirect("file:///etc/passwd"),
        _ => Answer::redirect("/loop.gguf"),
    });
    let get = |path: &str| pull(&store, &format!("{}{path}", server.address));
    assert!(get("/a.gguf").is_ok());
    assert!(matches!(get("/file.gguf"), Err(StoreError::Redirect { .. })));
    let error = get("/loop.gguf").unwrap_err();
    assert!(error.to_string().contains("more than 8 redirects"), "{error}");
}

#[test]
fn a_page_is_no_model() {
    let (_dir, store) = store();
    let server = Server::start(|_, _| Answer::file("<html>please log in</html>"));
    let error = pull(&store, &format!("{}/a.gguf", server.address)).unwrap_err();
    assert!(matches!(error, StoreError::NotGguf { .. }), "{error}");
    assert_nothing_here(&store);
}

#[test]
fn a_host_that_is_not_there_fails_at_once() {
    let (_dir, store) = store();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let begun = std::time::Instant::now();
    let error = pull(&store, &format!("http://127.0.0.1:{port}/a.gguf")).unwrap_err();
    assert!(matches!(error, StoreError::Transport { .. }), "{error}");
    assert!(begun.elapsed().as_secs() < 5);
}

#[test]
fn a_hugging_face_directory_is_pulled_whole() {
    let (_dir, store) = store();
    let files = [("config.json", "{}"), ("model.safetensors", "weights"), ("tokenizer.json", "[]")];
    let siblings: Vec<_> = files.iter().map(|(name, _)| serde_json::json!({ "rfilename": name })).collect();
    let listing = serde_json::json!({ "siblings": siblings }).to_string();
    let server = Server::start(move |request, _| {
        let find = |(name, _): &&(&str, &str)| request.path.ends_with(name);
        match files.iter().find(find) {
            Some((_, body)) => Answer::file(*body),
            None => Answer::file(listing.clone()),
        }
    });
    let store = store.with_hub(&server.address);
    let pulled = pull(&store, "hf:org/Tiny-Model").unwrap();
    assert!(pulled.path.is_dir() && pulled.path.ends_with("tiny-model"));
    assert_eq!(std::fs::read_to_string(pulled.path.join("model.safetensors")).unwrap(), "weights");
    assert_eq!(store.resolve("tiny-model").unwrap(), pulled.path);
    let error = pull(&store, "hf:other/Tiny-Model").unwrap_err();
    assert!(matches!(error, StoreError::Taken { .. }), "{error}");
}

#[test]
fn offline_touches_no_network() {
    let (_dir, store) = store();
    let server = Server::start(|_, _| Answer::file(gguf()));
    let store = store.with_hub(&server.address);
    let options = PullOptions { offline: true, ..PullOptions::default() };
    for request in ["hf:org/repo", "smollm2-135m", &format!("{}/a.gguf", server.address)] {
        let error = store.pull(request, &options, &mut ()).unwrap_err();
        assert!(matches!(error, StoreError::Offline { .. }), "{request}: {error}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn two_pulls_of_one_model_at_once_download_it_once() {
    let (_dir, store) = store();
    let server = Server::start(|_, _| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        Answer::file(gguf())
    });
    let url = format!("{}/a.gguf", server.address);
    let fresh: Vec<bool> = std::thread::scope(|scope| {
        let pulls = [(); 3].map(|()| scope.spawn(|| pull(&store, &url).unwrap().fresh));
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert_eq!(fresh.iter().filter(|fresh| **fresh).count(), 1);
    assert_eq!(server.seen().len(), 1);
}
