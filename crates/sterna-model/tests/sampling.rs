//! Properties of the sampler: what each filter promises, for any logits.

use proptest::prelude::*;
use sterna_model::sampling::{Candidate, Sampler, SamplingOptions};

/// Options under which nothing is filtered and nothing is scaled.
fn neutral() -> SamplingOptions {
    SamplingOptions { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplingOptions::default() }
}

fn sampler(options: SamplingOptions) -> Sampler {
    Sampler::new(options).expect("options in range")
}

fn distribution(options: SamplingOptions, logits: &[f32]) -> Vec<Candidate> {
    sampler(options).distribution(logits, &[]).to_vec()
}

/// Softmax over all logits, the definition itself.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|l| f64::from(*l - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-20.0f32..20.0, 1..600)
}

/// Anything a broken model can put out.
fn wild_logits() -> impl Strategy<Value = Vec<f32>> {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0];
    let value =
        prop_oneof![3 => -20.0f32..20.0, 2 => prop::sample::select(special.to_vec()), 1 => any::<f32>()];
    prop::collection::vec(value, 1..300)
}

fn any_options() -> impl Strategy<Value = SamplingOptions> {
    (0.0f32..3.0, 0usize..50, 0.01f32..=1.0, 0.0f32..=1.0, 0.5f32..2.0, 0usize..80, any::<u64>()).prop_map(
        |(temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed)| SamplingOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            repeat_last_n,
            seed,
        },
    )
}

proptest! {
    #[test]
    fn probabilities_add_up_to_one(logits in wild_logits(), options in any_options(), history in prop::collection::vec(0u32..400, 0..90)) {
        let mut sampler = sampler(options);
        let list = sampler.distribution(&logits, &history).to_vec();
        let total: f64 = list.iter().map(|c| c.probability).sum();
        prop_assert!((total - 1.0).abs() < 1e-9, "total {}", total);
        prop_assert!(list.windows(2).all(|pair| pair[0].logit >= pair[1].logit));
        let token = sampler.sample(&logits, &history);
        prop_assert!((token as usize) < logits.len());
        prop_assert!(list.iter().any(|c| c.token == token));
    }

    #[test]
    fn neutral_options_give_the_softmax(logits in logits()) {
        let expected = softmax(&logits);
        let list = distribution(neutral(), &logits);
        prop_assert_eq!(list.len(), logits.len());
        for candidate in list {
            prop_assert!((candidate.probability - expected[candidate.token as usize]).abs() < 1e-6);
        }
    }

    #[test]
    fn top_k_keeps_the_k_most_likely(logits in logits(), k in 1usize..100) {
        let list = distribution(SamplingOptions { top_k: k, ..neutral() }, &logits);
        let mut ranked: Vec<u32> = (0..logits.len() as u32).collect();
        ranked.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        ranked.truncate(k);
        prop_assert_eq!(list.iter().map(|c| c.token).collect::<Vec<_>>(), ranked);
    }

    #[test]
    fn top_p_keeps_the_smallest_nucleus(logits in logits(), p in 0.01f32..1.0) {
        let probabilities = softmax(&logits);
        let list = distribution(SamplingOptions { top_p: p, ..neutral() }, &logits);
        let mass: f64 = list.iter().map(|c| probabilities[c.token as usize]).sum();
        let least = list.last().map_or(0.0, |c| probabilities[c.token as usize]);
        prop_assert!(mass >= f64::from(p) - 1e-6, "nucleus of {} for p {}", mass, p);
        prop_assert!(mass - least < f64::from(p) + 1e-6, "nucleus of {} less {} for p {}", mass, least, p);
        let kept: Vec<u32> = list.iter().map(|c| c.token).collect();
        for token in (0..logits.len() as u32).filter(|t| !kept.contains(t)) {
            prop_assert!(probabilities[token as usize] <= least + 1e-9);
        }
    }

    #[test]
    fn min_p_keeps_what_is_likely_enough(logits in logits(), min_p in 0.0f32..=1.0) {
        let probabilities = softmax(&logits);
        let threshold = f64::from(min_p) * probabilities.iter().copied().fold(0.0, f64::max);
        let list = distribution(SamplingOptions { min_p, ..neutral() }, &logits);
        for (token, probability) in probabilities.iter().enumerate() {
            let kept = list.iter().any(|c| c.token as usize == token);
            if (probability - threshold).abs() > 1e-6 * threshold {
                prop_assert_eq!(kept, *probability >= threshold);
            }
        }
    }

    #[test]
    fn top_k_of_one_is_greedy(logits in wild_logits(), options in any_options()) {
        let one = sampler(SamplingOptions { top_k: 1, temperature: options.temperature.max(0.1), ..options.clone() }).sample(&logits, &[]);
        let greedy = sampler(SamplingOptions { temperature: 0.0, ..options }).sample(&logits, &[]);
        prop_assert_eq!(one, greedy);
    }

    #[test]
    fn same_seed_same_tokens(logits in logits(), seed in any::<u64>()) {
        let draw = || {
            let mut sampler = sampler(SamplingOptions { seed, ..neutral() });
            (0..20).map(|_| sampler.sample(&logits, &[])).collect::<Vec<_>>()
        };
        prop_assert_eq!(draw(), draw());
    }
}

#[test]
fn different_seeds_differ() {
    let logits = vec![0.0; 1000];
    let first = |seed| sampler(SamplingOptions { seed, ..neutral() }).sample(&logits, &[]);
    let tokens: std::collections::HashSet<u32> = (0..50).map(first).collect();
    assert!(tokens.len() > 40, "only {} different tokens for 50 seeds", tokens.len());
}

/// A large flat vocabulary needs several rounds of partial sorting; the nucleus must come out the same.
#[test]
fn top_p_over_a_large_vocabulary() {
    let logits: Vec<f32> =
        (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7).collect();
    let list = distribution(SamplingOptions { top_p: 0.5, ..neutral() }, &logits);
    let mut probabilities = softmax(&logits);
    probabilities.sort_by(|a, b| b.total_cmp(a));
    let mut cumulative = 0.0;
    let expected = 1 + probabilities
        .iter()
        .take_while(|p| {
            cumulative += **p;
            cumulative < 0.5
        })
        .count();
    assert!(expected > 10_000);
    assert!(list.len().abs_diff(expected) <= 2, "{} kept, {} expected", list.len(), expected);
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [2.0, 1.0, 0.0, -1.0];
    let mut sampler = sampler(SamplingOptions { seed: 3, ..neutral() });
    let mut counts = [0usize; 4];
    for _ in 0..20_000 {
        counts[sampler.sample(&logits, &[]) as usize] += 1;
    }
    for (count, probability) in counts.iter().zip(softmax(&logits)) {
        assert!((*count as f64 / 20_000.0 - probability).abs() < 0.015);
    }
}

#[test]
fn temperature_sharpens_and_flattens() {
    let top = |temperature| {
        distribution(SamplingOptions { temperature, ..neutral() }, &[1.0, 0.0, -1.0])[0].probability
    };
    assert!(top(0.1) > 0.999 && top(1.0) < 0.67 && top(100.0) < 0.34);
}

#[test]
fn repeat_penalty_counts_a_token_once_and_only_in_its_window() {
    let penalised = |history: &[u32], repeat_last_n| {
        let mut list = sampler(SamplingOptions { repeat_penalty: 2.0, repeat_last_n, ..neutral() })
            .distribution(&[4.0, -4.0, 1.0], history)
            .to_vec();
        list.sort_by_key(|c| c.token);
        list.iter().map(|c| c.logit).collect::<Vec<_>>()
    };
    assert_eq!(penalised(&[0, 0, 1, 1], 64), [2.0, -8.0, 1.0]);
    assert_eq!(penalised(&[0, 1], 1), [4.0, -8.0, 1.0]);
    assert_eq!(penalised(&[0, 1], 0), [4.0, -4.0, 1.0]);
    assert_eq!(penalised(&[99], 64), [4.0, -4.0, 1.0]);
}

#[test]
fn options_out_of_range_are_named() {
    let message = |options| Sampler::new(options).expect_err("out of range").to_string();
    assert_eq!(
        message(SamplingOptions { temperature: -1.0, ..neutral() }),
        "temperature must be 0 or more, found -1"
    );
    assert_eq!(
        message(SamplingOptions { top_p: 0.0, ..neutral() }),
        "top_p must be above 0 and at most 1, found 0"
    );
    assert_eq!(
        message(SamplingOptions { min_p: f32::NAN, ..neutral() }),
        "min_p must be from 0 to 1, found NaN"
    );
    assert_eq!(
        message(SamplingOptions { repeat_penalty: f32::INFINITY, ..neutral() }),
        "repeat_penalty must be above 0, found inf"
    );
}
