//! A network that has warmed up asks for no memory to decode a token.

mod common;
#[path = "../../sterna-formats/tests/common/counting.rs"]
#[allow(dead_code, unreachable_pub)] // It serves the tests of files first.
mod counting;

use std::sync::Barrier;
use std::thread::sleep;
use std::time::Duration;

use common::{checkpoints, directory, open};
use counting::{Counting, calls_of};
use sterna_formats::hf::ConfigFile;
use sterna_model::sampling::{Sampler, SamplingOptions};
use sterna_model::{KvType, LoadOptions, Logits, Model, State, Workspace, forward, synthetic};
use sterna_tensor::{Compute, Pool, Precision};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// More than half of a power of two: the list of tokens has room until the next one.
const WARM_UP: usize = 70;
/// All in the page of keys and values that the warm-up began.
const COUNTED: usize = 40;

/// Allocations of drawing [`COUNTED`] tokens, one after the other, after a prompt and two tokens.
fn of_decoding(model: &Model, compute: &Compute, kv: KvType, options: SamplingOptions) -> usize {
    let (mut state, mut workspace) = (State::new(model, kv), Workspace::new());
    let mut sampler = Sampler::new(options).unwrap();
    let mut step = |tokens: &[u32]| {
        let logits = forward(model, compute, &mut state, &mut workspace, tokens, Logits::Last).unwrap();
        sampler.sample(logits, state.tokens())
    };
    let (n_first, mut next) = calls_of(|| step(&[3; WARM_UP - 2]));
    assert!(n_first > 0, "the first tokens need memory, if it is counted at all");
    let mut steps = |n: usize| (0..n).for_each(|_| next = step(&[next]));
    steps(2);
    calls_of(|| steps(COUNTED)).0
}

/// Lets every thread of the pool run a chunk and fall asleep, which it allocates for once.
fn warm_up(pool: &Pool) {
    let all_here = Barrier::new(pool.n_threads());
    for _ in 0..2 {
        pool.run(pool.n_threads(), |_, _| {
            all_here.wait();
        });
        sleep(Duration::from_millis(20));
    }
}

/// In one test, because allocations are counted for the whole program.
#[test]
fn decoding_allocates_nothing() {
    let format = synthetic::format(4).unwrap();
    for n_threads in [1, 2] {
        let compute = Compute::new(n_threads, Precision::Int8);
        warm_up(&compute.pool);
        for name in checkpoints().chain(["falcon_h1", "jamba", "lfm2", "qwen3_next"]) {
            let config = ConfigFile::open(&directory(name).join("config.json")).unwrap();
            let packed = Model::synthetic(config, format, 512, &compute).unwrap();
            let dense = Model::load(&open(name, "config.json"), &LoadOptions::default(), &compute).unwrap();
            for (model, weights) in [(packed, "4 bits"), (dense, "as stored")] {
                for (kv, options) in
                    [(KvType::F16, SamplingOptions::greedy()), (KvType::Int8, SamplingOptions::default())]
                {
                    let n = of_decoding(&model, &compute, kv, options);
                    assert_eq!(n, 0, "{name}, {weights}, {kv}, {n_threads} threads: {COUNTED} tokens");
                }
            }
        }
    }
}
