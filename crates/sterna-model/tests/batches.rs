//! A few tokens together get the same bits as one at a time, which speculative decoding stands on.

mod common;

use common::{CONFIGS, checkpoints, expected, open};
use sterna_model::generate::MAX_VERIFIED;
use sterna_model::{KvType, LoadOptions, Logits, Model, State, Workspace, forward};
use sterna_tensor::{Compute, Precision};

/// The bits of the logits of `tokens`, the last `MAX_VERIFIED` of them `chunk` at a time.
fn logits(model: &Model, compute: &Compute, kv: KvType, tokens: &[u32], chunk: usize) -> Vec<u32> {
    let (mut state, mut workspace) = (State::new(model, kv), Workspace::new());
    state.expect_length(tokens.len());
    let (prompt, rest) = tokens.split_at(tokens.len() - MAX_VERIFIED);
    forward(model, compute, &mut state, &mut workspace, prompt, Logits::Last).unwrap();
    let mut bits = Vec::new();
    for tokens in rest.chunks(chunk) {
        let logits = forward(model, compute, &mut state, &mut workspace, tokens, Logits::All).unwrap();
        bits.extend(logits.iter().map(|logit| logit.to_bits()));
    }
    bits
}

#[test]
fn a_few_tokens_together_are_as_one_at_a_time() {
    for precision in [Precision::Float, Precision::Int8] {
        let compute = Compute::new(2, precision);
        for name in checkpoints() {
            let model = Model::load(&open(name, CONFIGS[0]), &LoadOptions::default(), &compute).unwrap();
            let tokens = expected(name).input_ids;
            for kv in [KvType::F16, KvType::Int8, KvType::Int4] {
                let singly = logits(&model, &compute, kv, &tokens, 1);
                for chunk in [2, 3, 5, 8, 11, MAX_VERIFIED] {
                    let together = logits(&model, &compute, kv, &tokens, chunk);
                    assert!(together == singly, "{name} by {chunk}, {kv}");
                }
            }
        }
    }
}
