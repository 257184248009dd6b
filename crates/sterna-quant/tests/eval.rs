//! The judge against plain loops, over tables of logits and over tiny checkpoints.

mod common;

use common::{Table, model, runner, text};
use sterna_model::{KvType, Logits, State, Workspace, forward};
use sterna_quant::eval::divergence::compare;
use sterna_quant::eval::perplexity::negative_log_likelihoods;
use sterna_quant::eval::{EvalError, LogitSource, Reference, Windows, statistics};

/// Probabilities `[n, vocab_size]` of all positions of `tokens`, by plain loops over the model's logits.
fn probabilities(name: &str, tokens: &[u32]) -> Vec<Vec<f64>> {
    let (model, compute) = model(name);
    let (mut state, mut workspace) = (State::new(&model, KvType::F32), Workspace::new());
    let logits = forward(&model, &compute, &mut state, &mut workspace, tokens, Logits::All).unwrap();
    let softmax = |row: &[f32]| {
        let e: Vec<f64> = row.iter().map(|&logit| f64::from(logit).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|e| e / sum).collect()
    };
    logits.chunks_exact(model.spec().vocab_size).map(softmax).collect()
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} for {expected}");
}

#[test]
fn a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large() {
    let windows = Windows::new(text(64).iter().map(|t| t % 10).collect(), 16, None, None).unwrap();
    let mut table = Table::new(10, |_, _, _| 3.5);
    let nlls = negative_log_likelihoods(&mut table, &windows, &mut ()).unwrap();
    assert_eq!(nlls.len(), 4 * 7);
    close(statistics::perplexity(&nlls).value, 10.0, 1e-5);
    assert_eq!(table.asked, [(8, 7); 4]);
}

#[test]
fn the_token_after_each_scored_position_is_what_counts() {
    // Sure that the next token is one more.
    let sure: fn(usize, u32, usize) -> f32 =
        |_, token, next| if next as u32 == token + 1 { 50.0 } else { 0.0 };
    let mut tokens: Vec<u32> = (0..16).collect();
    tokens[12] = 3;
    let windows = Windows::new(tokens, 16, None, None).unwrap();
    let nlls = negative_log_likelihoods(&mut Table::new(20, sure), &windows, &mut ()).unwrap();
    // Position 11 predicts 12 where 3 comes; position 12 has seen 3 and predicts 4 where 13 comes.
    let wrong: Vec<usize> = (0..7).filter(|i| nlls[*i] > 1.0).collect();
    assert_eq!(wrong, [3, 4]);
    close(nlls[3], 50.0, 1e-4);
}

#[test]
fn broken_logits_are_an_error_with_their_position() {
    let windows = Windows::new(vec![0; 16], 16, None, None).unwrap();
    let mut table = Table::new(4, |at, _, next| if at == 10 && next == 2 { f32::NAN } else { 0.0 });
    let error = negative_log_likelihoods(&mut table, &windows, &mut ()).unwrap_err();
    assert!(matches!(error, EvalError::NotFinite { position: 10 }), "{error}");
}

#[test]
fn windows_that_do_not_fit_the_model_are_refused() {
    let mut table = Table::new(4, |_, _, _| 0.0);
    let long = Windows::new(vec![0; 80], 80, None, None).unwrap();
    let error = negative_log_likelihoods(&mut table, &long, &mut ()).unwrap_err();
    assert!(matches!(error, EvalError::ContextTooShort { found: 80, context_length: 64 }), "{error}");
    let foreign = Windows::new(vec![3, 3, 3, 4], 4, None, None).unwrap();
    let error = negative_log_likelihoods(&mut table, &foreign, &mut ()).unwrap_err();
    assert!(error.to_string().contains("token id 4"), "{error}");
}

#[test]
fn perplexity_of_a_checkpoint_is_that_of_plain_loops() {
    let windows = Windows::new(text(150), 64, Some(5), None).unwrap();
    let nlls = negative_log_likelihoods(&mut runner("gemma3"), &windows, &mut ()).unwrap();
    let mut expected = Vec::new();
    for start in [0, 64] {
        let mut tokens = text(150)[start..start + 64].to_vec();
        tokens[0] = 5;
        let p = probabilities("gemma3", &tokens);
        expected.extend((32..63).map(|at| -p[at][tokens[at + 1] as usize].ln()));
    }
    assert_eq!(nlls.len(), expected.len());
    nlls.iter().zip(&expected).for_each(|(found, expected)| close(*found, *expected, 1e-4));
    let ppl = (expected.iter().sum::<f64>() / expected.len() as f64).exp();
    close(statistics::perplexity(&nlls).value, ppl, 1e-4 * ppl);
}

#[test]
fn divergence_of_two_checkpoints_is_that_of_plain_loops() {
    let windows = Windows::new(text(64), 64, None, None).unwrap();
    let load = || Ok(Box::new(runner("gemma3")) as Box<dyn LogitSource>);
    let mut reference = Reference::new(&windows, 384, None, Box::new(load));
    let found = compare(&mut runner("qwen3"), &mut reference, &mut ()).unwrap();
    let (p, q) = (probabilities("gemma3", windows.tokens(0)), probabilities("qwen3", windows.tokens(0)));
    assert_eq!(found.divergence.len(), 31);
    for (i, found) in found.divergence.iter().enumerate() {
        let (p, q) = (&p[32 + i], &q[32 + i]);
        let expected: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        close(*found, expected, 1e-3 * expected);
    }
    let entropy = |p: &Vec<f64>| -p.iter().map(|p| p * p.ln()).sum::<f64>();
    for i in 0..31 {
        close(found.reference_entropy[i], entropy(&p[32 + i]), 2e-3);
        close(found.entropy[i], entropy(&q[32 + i]), 1e-4);
    }
    let top = |p: &[f64]| (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b]));
    let same = (32..63).filter(|&at| top(&p[at]) == top(&q[at])).count();
    close(found.figures().same_top.value, same as f64 / 31.0, 1e-9);
    let own = negative_log_likelihoods(&mut runner("gemma3"), &windows, &mut ()).unwrap();
    assert_eq!(found.reference_nll, own);
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let windows = Windows::new(text(128), 64, None, None).unwrap();
    let load = || Ok(Box::new(runner("qwen3")) as Box<dyn LogitSource>);
    let mut reference = Reference::new(&windows, 384, None, Box::new(load));
    let figures = compare(&mut runner("qwen3"), &mut reference, &mut ()).unwrap().figures();
    assert!(figures.max < 1e-6 && figures.same_top.value == 1.0, "{figures:?}");
}

#[test]
fn other_vocabularies_cannot_be_compared() {
    let windows = Windows::new(vec![0; 64], 64, None, None).unwrap();
    let load = || Ok(Box::new(Table::new(256, |_, _, _| 0.0)) as Box<dyn LogitSource>);
    let mut reference = Reference::new(&windows, 256, None, Box::new(load));
    let error = compare(&mut runner("qwen3"), &mut reference, &mut ()).unwrap_err();
    assert!(matches!(error, EvalError::Vocabulary { expected: 256, found: 384 }), "{error}");
}

/// What two sequences share is computed once, and gives the same figures as computing it again.
#[test]
fn shared_beginnings_change_nothing() {
    let mut other = text(64);
    other[40..].reverse();
    let both = Windows::new([text(64), other.clone()].concat(), 64, None, None).unwrap();
    let alone = Windows::new(other, 64, None, None).unwrap();
    let nlls = negative_log_likelihoods(&mut runner("qwen3"), &both, &mut ()).unwrap();
    let expected = negative_log_likelihoods(&mut runner("qwen3"), &alone, &mut ()).unwrap();
    nlls[31..].iter().zip(&expected).for_each(|(found, expected)| close(*found, *expected, 1e-5));
}
