//! A state in a file: it goes on exactly as it would have, and files that are not such a state are refused.

mod common;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{CONFIGS, checkpoints, expected, open};
use sterna_formats::state_file::{SectionKind, StateFile, StateWriter};
use sterna_formats::{FormatError, ModelIdentity};
use sterna_model::generate::{Session, SessionOptions};
use sterna_model::{KvType, LoadOptions, Logits, Model, ModelError, State, Workspace, forward};
use sterna_tensor::{Compute, Precision};

fn load(name: &str, compute: &Compute) -> Model {
    Model::load(&open(name, CONFIGS[0]), &LoadOptions::default(), compute).unwrap()
}

fn feed(model: &Model, compute: &Compute, state: &mut State, tokens: &[u32]) -> Vec<u32> {
    let mut workspace = Workspace::new();
    let logits = forward(model, compute, state, &mut workspace, tokens, Logits::All).unwrap();
    logits.iter().map(|logit| logit.to_bits()).collect()
}

fn save(state: &State, identity: ModelIdentity, path: &Path) {
    let mut writer = StateWriter::create(path, identity).unwrap();
    state.save(&mut writer).unwrap();
    writer.finish().unwrap();
}

/// A state of `tokens` that can go back to the first half of them, as a file's bytes.
fn saved(model: &Model, compute: &Compute, kv: KvType, tokens: &[u32]) -> (State, Vec<u8>) {
    let mut state = State::new(model, kv);
    feed(model, compute, &mut state, &tokens[..tokens.len() / 2]);
    state.mark();
    feed(model, compute, &mut state, &tokens[tokens.len() / 2..]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.state");
    save(&state, ModelIdentity([7; 32]), &path);
    (state, std::fs::read(&path).unwrap())
}

fn parse(bytes: &[u8]) -> Result<StateFile, FormatError> {
    StateFile::parse("x.state", Bytes::copy_from_slice(bytes))
}

#[test]
fn a_saved_state_goes_on_as_if_it_had_never_stopped() {
    let compute = Compute::new(2, Precision::Int8);
    for name in checkpoints().chain(["jamba", "falcon_h1", "lfm2", "qwen3_next"]) {
        let model = load(name, &compute);
        let ids = expected(name).input_ids;
        for kv in [KvType::F16, KvType::Int8] {
            let (mut state, bytes) = saved(&model, &compute, kv, &ids[..24]);
            let mut again = State::load(&model, &compute, &parse(&bytes).unwrap()).unwrap();
            assert_eq!(
                (again.tokens(), again.kv_type(), again.n_bytes()),
                (state.tokens(), kv, state.n_bytes())
            );
            let rest = &ids[24..40];
            assert!(
                feed(&model, &compute, &mut again, rest) == feed(&model, &compute, &mut state, rest),
                "{name}, {kv}"
            );
            // Recurrences can still go back to where they could before.
            assert_eq!((again.truncate(12), state.truncate(12)), (12, 12), "{name}");
            assert!(
                feed(&model, &compute, &mut again, rest) == feed(&model, &compute, &mut state, rest),
                "{name} from a snapshot, {kv}"
            );
        }
    }
}

#[test]
fn a_file_is_whole_or_refused() {
    let compute = Compute::new(1, Precision::Float);
    let model = load("bamba", &compute);
    let (_, bytes) = saved(&model, &compute, KvType::F16, &expected("bamba").input_ids);
    for n in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(parse(&bytes[..n]).is_err(), "cut to {n} bytes");
    }
    let mut n_refused = 0;
    for at in (0..bytes.len()).step_by(131) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let loaded = parse(&damaged).map_err(ModelError::from);
        // What is between the sections means nothing.
        n_refused += usize::from(loaded.and_then(|file| State::load(&model, &compute, &file)).is_err());
    }
    assert!(n_refused * 100 > bytes.len() / 131 * 90, "{n_refused}");
}

/// Where the sections of a file lie, by its directory.
fn sections(bytes: &[u8]) -> Vec<Range<usize>> {
    let number = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let section = |entry| number(entry + 8)..number(entry + 8) + number(entry + 16);
    (number(48)..bytes.len()).step_by(24).map(section).collect()
}

#[test]
fn damage_is_told_by_where_it_is() {
    let compute = Compute::new(2, Precision::Float);
    let model = load("bamba", &compute);
    let (_, bytes) = saved(&model, &compute, KvType::F16, &expected("bamba").input_ids);
    let sections = sections(&bytes);
    let names = ["Sequence section 0".to_owned()].into_iter();
    let names =
        names.chain((0..4).map(|i| format!("Mixer section {i}"))).chain(["Snapshot section 0".into()]);
    assert_eq!(sections.len(), 6);
    for (name, range) in names.zip(&sections) {
        for cut in [range.start, range.end - 1, range.end] {
            let error = parse(&bytes[..cut]).unwrap_err().to_string();
            assert!(error.starts_with("x.state: size: expected "), "cut to {cut} bytes: {error}");
        }
        let mut damaged = bytes.clone();
        damaged[range.start + range.len() / 2] ^= 1;
        let error = State::load(&model, &compute, &parse(&damaged).unwrap()).unwrap_err().to_string();
        let expected = format!("x.state: {name}: expected checksum ");
        assert!(error.starts_with(&expected) && error.ends_with("the file is damaged"), "{name}: {error}");
    }
    for (at, named) in [(0, "magic"), (8, "version 2 of saved states"), (20, "header"), (60, "header")] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let error = parse(&damaged).unwrap_err().to_string();
        assert!(error.starts_with("x.state: ") && error.contains(named), "byte {at}: {error}");
    }
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(parse(&damaged).unwrap_err().to_string().starts_with("x.state: directory: expected checksum "));
}

#[test]
fn a_state_longer_than_the_context_is_refused() {
    let compute = Arc::new(Compute::new(1, Precision::Float));
    let (_, bytes) = saved(&load("bamba", &compute), &compute, KvType::F16, &[1; 24]);
    let file = parse(&bytes).unwrap();
    let options = LoadOptions { context_length: Some(10) };
    let short = Model::load(&open("bamba", CONFIGS[0]), &options, &compute).unwrap();
    let error = State::load(&short, &compute, &file).unwrap_err().to_string();
    assert_eq!(error, "x.state: sequence: expected at most 10 tokens, the context, found 24");

    let model = Arc::new(load("bamba", &compute));
    let mut session = Session::new(&model, &compute, SessionOptions::with_context(24));
    let error = session.load(&file).unwrap_err().to_string();
    assert_eq!(error, "x.state: sequence: expected less than 24 tokens, the context, found 24");
    assert!(session.tokens().is_empty());
    let mut session = Session::new(&model, &compute, SessionOptions::with_context(25));
    session.load(&file).unwrap();
    assert_eq!(session.tokens(), [1; 24]);
}

#[test]
fn another_model_is_told_apart() {
    let identity = |name| ModelIdentity::of(&open(name, CONFIGS[0]));
    assert_eq!(identity("llama_gqa"), identity("llama_gqa"));
    let names: Vec<&str> = checkpoints().collect();
    let identities: Vec<ModelIdentity> = names.iter().map(|name| identity(name)).collect();
    for (i, one) in identities.iter().enumerate() {
        assert!(identities[..i].iter().all(|other| other != one), "{}", names[i]);
    }
    let compute = Compute::new(1, Precision::Float);
    let (_, bytes) = saved(&load("llama_gqa", &compute), &compute, KvType::F16, &[1, 2, 3, 4]);
    let file = parse(&bytes).unwrap();
    assert!(file.check_model(&ModelIdentity([7; 32])).is_ok());
    let error = file.check_model(&identities[0]).unwrap_err().to_string();
    assert!(error.starts_with("x.state: model: expected that of this model, "), "{error}");
}

/// Also where the model is not what the file says, or checksums were made right by somebody.
#[test]
fn sections_that_do_not_suit_are_errors() {
    let compute = Compute::new(2, Precision::Float);
    let models = ["llama_gqa", "gemma3", "mistral_swa", "bamba", "falcon_h1", "qwen3_next", "mamba2"];
    let models: Vec<(&str, Model)> = models.iter().map(|name| (*name, load(name, &compute))).collect();
    let (mut n_refused, mut random) = (0, 1u64);
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below.max(1)
    };
    for (name, model) in &models {
        let (_, bytes) = saved(model, &compute, KvType::F16, &expected(name).input_ids[..20]);
        let file = parse(&bytes).unwrap();
        for (other_name, other) in &models {
            let is_refused = State::load(other, &compute, &file).is_err();
            assert!(!is_refused || name != other_name, "{name}");
            n_refused += usize::from(is_refused);
        }
        for _ in 0..60 {
            let mutant = mutated(&file, &mut next);
            // Whatever is accepted can be computed with.
            if let Ok(mut state) = State::load(model, &compute, &parse(&mutant).unwrap()) {
                let tokens = [1, 2, 3];
                if state.len() + tokens.len() <= model.spec().context_length {
                    feed(model, &compute, &mut state, &tokens);
                }
            }
        }
    }
    // Two of them keep keys and values of the same shape.
    assert_eq!(n_refused, models.len() * (models.len() - 1) - 2);
}

/// `file` with one section cut, grown, repeated or changed, and all checksums right.
fn mutated(file: &StateFile, next: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
    let kinds = [SectionKind::Sequence, SectionKind::Mixer, SectionKind::Snapshot, SectionKind::Application];
    let mut sections: Vec<(SectionKind, Vec<u8>)> = Vec::new();
    for kind in kinds {
        let section = |i| (kind, file.section(kind, i).unwrap().to_vec());
        sections.extend((0..file.count(kind)).map(section));
    }
    let i = next(sections.len());
    match next(5) {
        0 => sections[i].1.truncate(next(64)),
        1 => sections[i].1.extend([1; 3]),
        2 => sections.push(sections[i].clone()),
        3 => drop(sections.remove(i)),
        _ => {
            // The numbers are at the beginning.
            for _ in 0..3 {
                let at = next(sections[i].1.len().min(24));
                if let Some(byte) = sections[i].1.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0xff][next(4)];
                }
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.state");
    let mut writer = StateWriter::create(&path, ModelIdentity([7; 32])).unwrap();
    sections.iter().for_each(|(kind, bytes)| writer.add(*kind, [&bytes[..]]).unwrap());
    writer.finish().unwrap();
    std::fs::read(&path).unwrap()
}

/// The seeds of the fuzzer: valid ones load, the others are refused for what they are called.
#[test]
fn seeds_of_the_fuzzer() {
    let compute = Compute::new(1, Precision::Float);
    let model = load("bamba", &compute);
    let result = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/state").join(name);
        let state = State::load(&model, &compute, &StateFile::open(&path)?)?;
        Ok::<_, ModelError>(state.tokens().to_vec())
    };
    assert!(result("empty").unwrap().is_empty());
    assert_eq!(result("tokens").unwrap(), [1, 2, 3, 4]);
    let error = |name| result(name).unwrap_err().to_string();
    assert!(
        error("more_tokens_than_bytes").contains("expected at most"),
        "{}",
        error("more_tokens_than_bytes")
    );
    assert!(error("no_blocks").contains("Mixer sections: expected"), "{}", error("no_blocks"));
    assert!(error("overlap").contains("sections[1]: expected a known kind, in the bytes from "));
}
