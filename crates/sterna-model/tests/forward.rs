//! The fast path gives the logits of the reference implementation, however a sequence is cut into calls.

mod common;

use common::{CONFIGS, HYBRID_CHECKPOINTS, checkpoints, expected, hidden, max_difference, open, tolerance};
use sterna_model::{
    KvType, LoadOptions, Logits, Model, ModelError, Site, State, Workspace, forward, forward_tapped,
};
use sterna_tensor::{Compute, Precision, ops::argmax};

fn load(name: &str, config: &str, compute: &Compute) -> Model {
    Model::load(&open(name, config), &LoadOptions::default(), compute).unwrap()
}

/// Logits of all `tokens`, fed `chunk` at a time into `state`.
fn feed(model: &Model, compute: &Compute, state: &mut State, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut workspace = Workspace::new();
    let mut logits = Vec::new();
    for tokens in tokens.chunks(chunk) {
        logits
            .extend_from_slice(forward(model, compute, state, &mut workspace, tokens, Logits::All).unwrap());
    }
    logits
}

#[test]
fn any_chunking_equals_the_reference_implementation() {
    let compute = Compute::new(2, Precision::Float);
    for name in checkpoints() {
        let expected = expected(name);
        for config in CONFIGS {
            let model = load(name, config, &compute);
            for chunk in [48, 1, 7, 32] {
                let mut state = State::new(&model, KvType::F32);
                state.expect_length(expected.input_ids.len());
                let logits = feed(&model, &compute, &mut state, &expected.input_ids, chunk);
                let difference = max_difference(&logits, &expected.logits);
                println!("{name} {config} by {chunk}: {difference:.1e}");
                assert!(difference <= tolerance(name), "{name}, {config} by {chunk}: {difference}");
            }
        }
    }
}

#[test]
fn greedy_continuations_equal_the_reference_implementation() {
    for precision in [Precision::Float, Precision::Int8] {
        let compute = Compute::new(2, precision);
        for name in checkpoints() {
            let expected = expected(name);
            let model = load(name, CONFIGS[0], &compute);
            let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
            let mut next = |tokens: &[u32]| {
                let logits =
                    forward(&model, &compute, &mut state, &mut workspace, tokens, Logits::Last).unwrap();
                assert_eq!(logits.len(), model.spec().vocab_size);
                argmax(logits) as u32
            };
            let mut ids = vec![next(&expected.input_ids)];
            while ids.len() < expected.greedy_ids.len() {
                ids.push(next(&ids[ids.len() - 1..]));
            }
            assert_eq!(ids, expected.greedy_ids, "{name}");
        }
    }
}

/// Root of the mean square of `a - b`, as a share of that of `b`.
fn relative_difference(a: &[f32], b: &[f32]) -> f32 {
    let square = |x: &[f32]| -> f32 { x.iter().map(|x| x * x).sum() };
    let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    (square(&difference) / square(b)).sqrt()
}

#[test]
fn rounded_keys_and_values_cost_little_and_the_same_however_a_prompt_is_cut() {
    let compute = Compute::new(2, Precision::Float);
    for name in ["llama_gqa", "qwen3", "gemma3", "bamba", "falcon_h1"] {
        let model = load(name, CONFIGS[0], &compute);
        let expected = expected(name);
        for (ty, most) in [(KvType::Int8, 0.03), (KvType::Int4, 0.5)] {
            let logits = |chunk| {
                let mut state = State::new(&model, ty);
                feed(&model, &compute, &mut state, &expected.input_ids, chunk)
            };
            let whole = logits(48);
            let difference = relative_difference(&whole, &expected.logits);
            println!("{name} {ty}: {difference:.1e}");
            assert!(difference <= most, "{name} {ty}: {difference}");
            for chunk in [1, 7] {
                let difference = relative_difference(&logits(chunk), &whole);
                assert!(difference <= most / 10.0, "{name} {ty} by {chunk}: {difference}");
            }
        }
    }
}

#[test]
fn a_rewound_state_goes_on_as_a_fresh_one() {
    let compute = Compute::new(2, Precision::Float);
    for name in ["llama_gqa", "mistral_swa", "gemma3", "phi3_longrope_long", "qwen3_moe"] {
        let model = load(name, CONFIGS[0], &compute);
        let ids = expected(name).input_ids;
        let mut state = State::new(&model, KvType::F16);
        feed(&model, &compute, &mut state, &ids, 48);
        assert_eq!(state.truncate(20), 20);
        assert_eq!(state.tokens(), &ids[..20]);
        let other: Vec<u32> = ids[..9].iter().rev().copied().collect();
        let rewound = feed(&model, &compute, &mut state, &other, 9);

        let mut fresh = State::new(&model, KvType::F16);
        feed(&model, &compute, &mut fresh, &ids[..20], 20);
        let straight = feed(&model, &compute, &mut fresh, &other, 9);
        let difference = max_difference(&rewound, &straight);
        assert!(difference <= 1e-4, "{name}: {difference}");
    }
}

/// As [`load`], with a context of 9000 tokens instead of 512.
fn load_for_long(name: &str, compute: &Compute) -> Model {
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(common::directory(name)).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    let path = directory.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let long = config.replace("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 9000");
    assert_ne!(long, config);
    std::fs::write(&path, long).unwrap();
    let checkpoint = sterna_formats::Checkpoint::open(directory.path()).unwrap();
    Model::load(&checkpoint, &LoadOptions::default(), compute).unwrap()
}

#[test]
fn a_window_that_has_moved_on_is_gone_back_to_by_starting_over() {
    let compute = Compute::new(2, Precision::Float);
    let model = load_for_long("mistral_swa", &compute);
    let ids: Vec<u32> = (0..4000).map(|i| i * 7 % 384).collect();
    let mut state = State::new(&model, KvType::F16);
    let straight = feed(&model, &compute, &mut state, &ids, 500);
    assert!(state.n_bytes() < 3 * 8 * 256 * 4 * 32 * 2, "{}", state.n_bytes());
    assert_eq!(state.truncate(3100), 3100);
    let again = feed(&model, &compute, &mut state, &ids[3100..], 300);
    assert!(max_difference(&again, &straight[3100 * 384..]) <= 1e-4);
    assert_eq!(state.truncate(100), 0);
    let again = feed(&model, &compute, &mut state, &ids[..200], 200);
    assert!(max_difference(&again, &straight[..200 * 384]) <= 1e-4);
}

#[test]
fn a_recurrence_goes_back_to_where_it_was_marked() {
    let compute = Compute::new(2, Precision::Float);
    for name in HYBRID_CHECKPOINTS {
        let model = load(name, CONFIGS[0], &compute);
        let ids = expected(name).input_ids;
        let mut state = State::new(&model, KvType::F32);
        assert!(!state.can_rewind());
        let foreseen: usize = model.spec().blocks.iter().map(|block| block.mixer.state_len()).sum();
        assert_eq!(state.n_bytes(), 4 * foreseen, "{name}");
        for (fed, length) in [(&ids[..20], 20), (&ids[20..33], 33)] {
            feed(&model, &compute, &mut state, fed, 8);
            state.mark();
            assert_eq!(state.len(), length);
        }
        feed(&model, &compute, &mut state, &ids[33..], 48);
        let n_bytes = state.n_bytes();
        assert_eq!(state.truncate(30), 20, "{name}");
        assert!(state.n_bytes() < n_bytes);
        let rewound = feed(&model, &compute, &mut state, &ids[5..14], 9);

        let mut fresh = State::new(&model, KvType::F32);
        feed(&model, &compute, &mut fresh, &ids[..20], 20);
        let straight = feed(&model, &compute, &mut fresh, &ids[5..14], 9);
        let difference = max_difference(&rewound, &straight);
        assert!(difference <= 1e-4, "{name}: {difference}");

        assert_eq!(state.truncate(19), 0, "{name}");
        let again = feed(&model, &compute, &mut state, &ids, 48);
        assert!(max_difference(&again, &expected(name).logits) <= tolerance(name), "{name}");
    }
}

#[test]
fn a_hundred_thousand_tokens_neither_grow_a_recurrence_nor_break_it() {
    let compute = Compute::new(1, Precision::Int8);
    let model = load("mamba2", CONFIGS[0], &compute);
    let n_bytes = State::new(&model, KvType::F16).n_bytes();
    decode(&model, &compute, 100_000, |state| assert_eq!(state.n_bytes(), n_bytes));
}

/// Mamba-2, Mamba-1, the gated delta rule and short convolutions, each beside attention. (Every family was run for 20,000 tokens
/// once, the first three for 100,000, which attention makes a matter of minutes.)
#[test]
fn thousands_of_tokens_grow_a_hybrid_by_pages_of_attention_alone_and_do_not_break_it() {
    let compute = Compute::new(1, Precision::Int8);
    for name in ["bamba", "jamba", "qwen3_next", "lfm2"] {
        let model = load_for_long(name, &compute);
        let recurrent = State::new(&model, KvType::Int8).n_bytes();
        let mut page = 0;
        decode(&model, &compute, 2000, |state| {
            let attention = state.n_bytes() - recurrent;
            if state.len() == 1 {
                page = attention;
            }
            assert_eq!(attention, state.len().div_ceil(256) * page, "{name} after {} tokens", state.len());
        });
        assert!(page > 0, "{name}");
    }
}

/// Decodes `n` tokens one by one, whose logits must stay as they ought to be, and shows the state after each.
fn decode(model: &Model, compute: &Compute, n: usize, mut look: impl FnMut(&State)) {
    let (mut state, mut workspace) = (State::new(model, KvType::Int8), Workspace::new());
    let mut token = 1;
    for _ in 0..n {
        let logits = forward(model, compute, &mut state, &mut workspace, &[token], Logits::Last).unwrap();
        assert!(logits.iter().all(|logit| logit.abs() < 1e3), "after {} tokens", state.len());
        // Not always the best, which would soon go in a circle.
        token = ((argmax(logits) + state.len() * state.len()) % model.spec().vocab_size) as u32;
        look(&state);
    }
}

#[test]
fn a_sequence_that_outgrows_the_original_context_rotates_anew_from_its_start() {
    // The original context is 32 tokens, the prompt 48.
    let name = "phi3_longrope_long";
    let compute = Compute::new(1, Precision::Float);
    let model = load(name, CONFIGS[0], &compute);
    let expected = expected(name);
    let mut state = State::new(&model, KvType::F32);
    let logits = feed(&model, &compute, &mut state, &expected.input_ids, 5);
    let vocab_size = model.spec().vocab_size;
    // Beyond the border all is as if computed at once; before it, as the shorter sequence was.
    let beyond = 35 * vocab_size..;
    assert!(max_difference(&logits[beyond.clone()], &expected.logits[beyond]) <= 2e-3);
    let before = ..30 * vocab_size;
    assert!(max_difference(&logits[before], &expected.logits[before]) > 2e-3);
}

#[test]
fn a_tap_sees_what_flows_between_the_blocks() {
    let compute = Compute::new(2, Precision::Float);
    for name in ["llama_gqa", "gemma3", "qwen3_moe", "phi3_plain"] {
        let model = load(name, CONFIGS[0], &compute);
        let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
        let mut seen: Vec<(Site, Vec<f32>)> = Vec::new();
        let mut tap = |site: Site, values: &[f32]| seen.push((site, values.to_vec()));
        let ids = expected(name).input_ids;
        let logits = Logits::Last;
        forward_tapped(&model, &compute, &mut state, &mut workspace, &ids, logits, Some(&mut tap)).unwrap();
        assert_eq!(seen.len(), model.spec().blocks.len() + 2);
        for (site, values) in seen {
            let difference = max_difference(&values, &hidden(name, &site.to_string()));
            assert!(difference <= 2e-3, "{name} {site}: {difference}");
        }
    }
}

#[test]
fn what_a_model_cannot_take_is_refused_and_changes_nothing() {
    let compute = Compute::new(1, Precision::Float);
    let options = LoadOptions { context_length: Some(10) };
    let model = Model::load(&open("llama_gqa", CONFIGS[0]), &options, &compute).unwrap();
    let (mut state, mut workspace) = (State::new(&model, KvType::F16), Workspace::new());
    let mut run = |state: &mut State, tokens: &[u32]| {
        forward(&model, &compute, state, &mut workspace, tokens, Logits::Last).map(<[f32]>::len)
    };
    run(&mut state, &[1, 2, 3, 4, 5, 6, 7]).unwrap();
    let error = run(&mut state, &[1, 2, 3, 4]).unwrap_err();
    assert!(matches!(error, ModelError::ContextOverflow { needed: 11, context_length: 10 }), "{error}");
    assert!(error.to_string().contains("11") && error.to_string().contains("10"));
    let error = run(&mut state, &[384]).unwrap_err();
    assert!(matches!(error, ModelError::TokenOutOfRange { token: 384, vocab_size: 384 }), "{error}");
    assert!(matches!(run(&mut state, &[]), Err(ModelError::NoTokens)));
    assert_eq!(state.len(), 7);
    let other = load("qwen3", CONFIGS[0], &compute);
    let mut foreign = State::new(&other, KvType::F16);
    assert!(matches!(run(&mut foreign, &[1]), Err(ModelError::Mismatch { .. })));
}
