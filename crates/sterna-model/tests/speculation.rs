//! Guesses change how fast an answer comes and nothing else.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{expected, open};
use sterna_formats::Tokenizer;
use sterna_model::generate::{Completion, DraftModel, GenerateError, Request, Session, SessionOptions};
use sterna_model::sampling::{Sampler, SamplingOptions};
use sterna_model::{KvType, LoadOptions, Logits, Model, State, Workspace, forward};
use sterna_tensor::{Compute, Precision};

struct Bench {
    compute: Arc<Compute>,
    tokenizer: Tokenizer,
}

impl Bench {
    fn new(precision: Precision) -> Bench {
        let digits =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/digits.json");
        Bench {
            compute: Arc::new(Compute::new(2, precision)),
            tokenizer: Tokenizer::from_file(&digits).unwrap(),
        }
    }

    fn model(&self, name: &str) -> Arc<Model> {
        let options = LoadOptions::default();
        Arc::new(Model::load(&open(name, "config.json"), &options, &self.compute).unwrap())
    }

    fn session(&self, model: &Arc<Model>, lookup: bool) -> Session {
        let options = SessionOptions { lookup, ..SessionOptions::with_context(model.spec().context_length) };
        Session::new(model, &self.compute, options)
    }

    fn answer(
        &self,
        session: &mut Session,
        prompt: &[u32],
        n: usize,
        sampling: &SamplingOptions,
    ) -> Completion {
        let mut sampler = Sampler::new(sampling.clone()).unwrap();
        let cancel = AtomicBool::new(false);
        let request = Request { prompt, max_tokens: Some(n), stop: &[], cancel: &cancel };
        session.generate(&self.tokenizer, &mut sampler, request, |_| {}).unwrap()
    }
}

/// Greedy, warm, and with all that a history changes.
fn samplings() -> [SamplingOptions; 3] {
    let warm = SamplingOptions { temperature: 0.8, seed: 5, ..SamplingOptions::default() };
    let penalised =
        SamplingOptions { repeat_penalty: 1.2, repeat_last_n: 20, temperature: 0.4, ..warm.clone() };
    [SamplingOptions::greedy(), warm, penalised]
}

#[test]
fn the_same_tokens_with_guesses_and_without() {
    let mut accepted = [0, 0];
    for precision in [Precision::Float, Precision::Int8] {
        let bench = Bench::new(precision);
        for name in ["llama_gqa", "gemma3", "mistral_swa", "qwen3_moe", "phi3_longrope_long", "bitnet_packed"]
        {
            let model = bench.model(name);
            let ids = expected(name).input_ids;
            // A prompt that repeats itself.
            let prompt: Vec<u32> = ids[..12].iter().chain(&ids[..12]).copied().collect();
            let n = 60.min(model.spec().context_length - prompt.len());
            let mut plain = bench.session(&model, false);
            let mut looking_up = bench.session(&model, true);
            let mut drafting = bench.session(&model, false);
            drafting.set_draft(&DraftModel::new(Arc::clone(&model), &model).unwrap());
            for sampling in samplings() {
                let expected = bench.answer(&mut plain, &prompt, n, &sampling);
                assert_eq!(expected.speculation.guessed, 0);
                for (session, accepted) in [&mut looking_up, &mut drafting].into_iter().zip(&mut accepted) {
                    let found = bench.answer(session, &prompt, n, &sampling);
                    assert_eq!(found.tokens, expected.tokens, "{name}, {sampling:?}");
                    assert_eq!(found.finish_reason, expected.finish_reason);
                    assert_eq!(session.tokens(), plain.tokens(), "{name}: what stays in the state");
                    let speculation = found.speculation;
                    assert_eq!(speculation.passes + speculation.accepted + 1, found.tokens.len());
                    assert!(speculation.accepted <= speculation.guessed);
                    *accepted += speculation.accepted;
                }
            }
        }
    }
    assert!(accepted.iter().all(|n| *n > 0), "{accepted:?} guesses of lookup and draft came true");
}

/// Pearson's test over all answers of four tokens.
#[test]
fn sampled_answers_have_the_distribution_of_the_network() {
    const N_ANSWERS: usize = 4000;
    let bench = Bench::new(Precision::Float);
    let (model, other) = (bench.model("llama_gqa"), bench.model("mistral_swa"));
    let prompt: Vec<u32> = expected("llama_gqa").input_ids[..10].to_vec();
    let sampling = SamplingOptions {
        temperature: 1.5,
        top_k: 3,
        top_p: 0.97,
        min_p: 0.02,
        repeat_penalty: 1.4,
        ..SamplingOptions::default()
    };

    let mut answers = vec![(Vec::new(), 1.0)];
    for _ in 0..4 {
        answers = answers
            .into_iter()
            .flat_map(|(answer, p)| extended(&bench, &model, &prompt, &sampling, answer, p))
            .collect();
    }
    let total: f64 = answers.iter().map(|(_, p)| p).sum();
    assert!((total - 1.0).abs() < 1e-9 && answers.len() > 30, "{} answers", answers.len());

    // One that guesses well and one that guesses badly.
    for draft in [&model, &other] {
        let mut session = bench.session(&model, true);
        session.set_draft(&DraftModel::new(Arc::clone(draft), &model).unwrap());
        let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
        let mut guessed = 0;
        for seed in 0..N_ANSWERS {
            let sampling = SamplingOptions { seed: seed as u64, ..sampling.clone() };
            let completion = bench.answer(&mut session, &prompt, 4, &sampling);
            guessed += completion.speculation.guessed;
            *counts.entry(completion.tokens).or_default() += 1.0;
        }
        assert!(guessed > 0);
        let squares = answers.iter().map(|(answer, p)| {
            let expected = p * N_ANSWERS as f64;
            (counts.remove(answer).unwrap_or(0.0) - expected).powi(2) / expected
        });
        let chi_square: f64 = squares.sum();
        assert!(counts.is_empty(), "answers without a chance: {counts:?}");
        let freedom = (answers.len() - 1) as f64;
        assert!((chi_square - freedom).abs() < 4.0 * (2.0 * freedom).sqrt(), "{chi_square} of {freedom}");
    }
}

/// `answer` with each token that may follow it, and their probabilities.
fn extended(
    bench: &Bench,
    model: &Model,
    prompt: &[u32],
    sampling: &SamplingOptions,
    answer: Vec<u32>,
    p: f64,
) -> Vec<(Vec<u32>, f64)> {
    let tokens = [prompt, &answer].concat();
    let (mut state, mut workspace) = (State::new(model, KvType::F16), Workspace::new());
    let logits = forward(model, &bench.compute, &mut state, &mut workspace, &tokens, Logits::Last).unwrap();
    let mut sampler = Sampler::new(sampling.clone()).unwrap();
    let candidates = sampler.distribution(logits, &tokens).to_vec();
    let extend = |token| [&answer[..], &[token]].concat();
    candidates.into_iter().map(|it| (extend(it.token), p * it.probability)).collect()
}

#[test]
fn recurrences_take_no_part() {
    let bench = Bench::new(Precision::Float);
    let (hybrid, attention) = (bench.model("bamba"), bench.model("llama_gqa"));
    for (draft, model) in [(&hybrid, &attention), (&attention, &hybrid)] {
        let refused = DraftModel::new(Arc::clone(draft), model);
        assert!(matches!(refused, Err(GenerateError::CannotRewind { .. })));
    }
    let prompt =
        [expected("bamba").input_ids[..8].to_vec(), expected("bamba").input_ids[..8].to_vec()].concat();
    let answer = bench.answer(&mut bench.session(&hybrid, true), &prompt, 20, &SamplingOptions::greedy());
    assert_eq!(answer.speculation.guessed, 0);
}
