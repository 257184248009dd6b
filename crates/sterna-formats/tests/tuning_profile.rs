//! Profiles come back as they were written; any other bytes give an error and no panic.

mod common;

use common::{Rng, mutate};
use sterna_formats::tuning_profile::{Device, parse, read, to_json};
use sterna_tensor::{Fetch, Isa, KernelChoice, KernelFamily, Tuning};

fn device() -> Device {
    Device::new("Some CPU (R) 7 @ 3 GHz".to_owned(), 4)
}

fn tuning() -> Tuning {
    let mut tuning = Tuning::default();
    let family = Some(KernelFamily::Lookup);
    tuning.set(4, KernelChoice { few: Some(Isa::Scalar), family, many: None, many_from: Some(6) });
    (tuning.decode_threads, tuning.prefill_threads) = (Some(3), Some(4));
    tuning.fetch = Some(Fetch::InOrder);
    tuning
}

#[test]
fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(device().file_name());
    assert_eq!(read(&path, &device()).unwrap(), None);
    std::fs::write(&path, to_json(&tuning(), &device()).unwrap()).unwrap();
    assert_eq!(read(&path, &device()).unwrap(), Some(tuning()));
    assert!(device().file_name().starts_with("some-cpu--r--7---3-ghz-"), "{}", device().file_name());
}

#[test]
fn errors_name_the_field() {
    let json = to_json(&tuning(), &device()).unwrap();
    let wrong = [
        ("\"version\": 2", "\"version\": 1", "p.json: version: expected 2, found 1"),
        ("\"cores\": 4", "\"cores\": 8", "p.json: device: expected Device"),
        ("\"decode\": 3", "\"decode\": 0", "p.json: threads.decode: expected 1 to 1024, found 0"),
        ("\"prefill\": 4", "\"prefill\": 1e9", "p.json: JSON: expected a tuning profile, found"),
        ("\"in-order\"", "\"backwards\"", "p.json: fetch: expected in-order or ahead, found backwards"),
        ("\"few\": \"scalar\"", "\"few\": \"mmx\"", "p.json: kernels[3].few: expected one of scalar"),
        ("\"lookup\"", "\"guess\"", "p.json: kernels[3].family: expected dot or lookup, found guess"),
        (
            "\"many_from\": 6",
            "\"many_from\": 600",
            "p.json: kernels[3].many_from: expected 1 to 512, found 600",
        ),
        (
            "\"bits\": 8",
            "\"bits\": 7",
            "p.json: kernels[6].bits: expected one of [1, 2, 3, 4, 5, 6, 8], found 7",
        ),
        ("\"threads\"", "\"thread\"", "p.json: JSON: expected a tuning profile, found unknown field"),
    ];
    for (right, wrong, expected) in wrong {
        let mutant = json.replace(right, wrong);
        assert_ne!(mutant, json, "{right}");
        let error = parse("p.json", mutant.as_bytes(), &device()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn mutated_profiles_give_errors_or_tunings() {
    let json = to_json(&tuning(), &device()).unwrap();
    let (mut rng, mut accepted) = (Rng::new(1), 0);
    for _ in 0..20_000 {
        let mutant = mutate(json.as_bytes(), &mut rng);
        accepted += usize::from(parse("p.json", &mutant, &device()).is_ok());
    }
    assert!((1..19_000).contains(&accepted), "{accepted} accepted");
}

#[test]
fn seeds_of_the_fuzz_target_are_profiles() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/tuning");
    let device = Device { cpu: "a".to_owned(), isas: vec!["scalar".to_owned()], cores: 1 };
    for entry in std::fs::read_dir(corpus).unwrap() {
        let tuning = read(&entry.unwrap().path(), &device).unwrap().unwrap();
        assert_eq!(tuning.choice(1).many_from, Some(4));
    }
}

#[test]
fn large_files_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.json");
    std::fs::write(&path, vec![b' '; 65 << 10]).unwrap();
    assert!(read(&path, &device()).unwrap_err().to_string().contains("at most 65536 bytes"));
}
