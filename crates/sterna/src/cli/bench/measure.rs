//! Timing forward passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sterna::{Compute, Logits, Network, State, Workspace, forward};

use super::energy::Meter;
use crate::cli::{memory, terminal};

/// Prompt tokens per forward pass, as in a session.
const CHUNK: usize = 512;

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) kind: Kind,
    /// Tokens timed in one repetition.
    pub(super) n_tokens: usize,
    /// Tokens in the state before.
    pub(super) depth: usize,
}

/// Where the tokens in the state before come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// The network has read them.
    Computed,
    /// Their keys and values mean nothing: it takes no time, and a token after them as long as after others.
    MadeUp,
}

/// What the tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A prompt, many tokens per pass.
    Prompt,
    /// An answer, one token per pass.
    Generation,
}

/// The times of one test with a number of threads.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    pub(super) test: Test,
    pub(super) threads: usize,
    pub(super) samples: Vec<Duration>,
    /// Bytes of memory after the test; `None` where the system does not say.
    pub(super) rss: Option<u64>,
    /// Of all samples together, where the machine tells.
    pub(super) joules: Option<f64>,
}

impl Test {
    /// All prompts, then all generations, at each depth. Lengths of 0 are left out.
    pub(super) fn all(n_prompt: &[usize], n_gen: &[usize], depths: &[usize]) -> Vec<Test> {
        let of = |kind, lengths: &[usize], depth| {
            let lengths: Vec<usize> = lengths.iter().copied().filter(|n| *n > 0).collect();
            lengths.into_iter().map(move |n_tokens| Test { kind, n_tokens, depth })
        };
        let at = |&depth| of(Kind::Prompt, n_prompt, depth).chain(of(Kind::Generation, n_gen, depth));
        depths.iter().flat_map(at).collect()
    }

    /// `pp512`, `tg128 @ d4096`.
    pub(super) fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Prompt => "pp",
            Kind::Generation => "tg",
        };
        match self.depth {
            0 => format!("{kind}{}", self.n_tokens),
            depth => format!("{kind}{} @ d{depth}", self.n_tokens),
        }
    }
}

/// Times each test with each number of threads.
pub(super) fn run(
    network: &Network,
    thread_counts: &[usize],
    tests: &[Test],
    repetitions: usize,
    context: Context,
    meter: &Meter,
) -> anyhow::Result<Vec<Timed>> {
    for test in tests {
        let (needed, most) = (test.depth + test.n_tokens, network.context);
        ensure!(needed <= most, "{} needs {needed} tokens but the context holds {most}", test.name());
    }
    let mut results = Vec::new();
    for &threads in thread_counts {
        let compute = match threads == network.compute.pool.n_threads() {
            true => Arc::clone(&network.compute),
            false => {
                let Compute { isa, precision, ref tuning, .. } = *network.compute;
                let mut tuning = tuning.clone();
                // As many as were asked for, whatever was found to be faster.
                (tuning.decode_threads, tuning.prefill_threads) = (None, None);
                Arc::new(Compute { isa, tuning, ..Compute::new(threads, precision) })
            }
        };
        let mut bench = Bench::new(network, compute, context, meter);
        for &test in tests {
            let (mut samples, mut rss, mut joules) = (Vec::new(), None, Some(0.0));
            for repetition in 0..=repetitions {
                let Sample { time, rss: after, joules: spent } = bench.time(test)?;
                rss = after;
                // The first one warms up.
                if repetition > 0 {
                    samples.push(time);
                    joules = joules.zip(spent).map(|(all, more)| all + more);
                }
                terminal::note(format_args!(
                    "{} · {threads} threads · {repetition}/{repetitions}",
                    test.name()
                ));
            }
            let threads = bench.compute.threads(if test.kind == Kind::Prompt { test.n_tokens } else { 1 });
            results.push(Timed { test, threads, samples, rss, joules });
        }
    }
    Ok(results)
}

/// One repetition of a test.
struct Sample {
    time: Duration,
    /// Bytes of memory after it.
    rss: Option<u64>,
    joules: Option<f64>,
}

struct Bench<'a> {
    network: &'a Network,
    compute: Arc<Compute>,
    meter: &'a Meter,
    state: State,
    workspace: Workspace,
    context: Context,
    /// Tokens in the state.
    length: usize,
}

impl<'a> Bench<'a> {
    fn new(network: &'a Network, compute: Arc<Compute>, context: Context, meter: &'a Meter) -> Bench<'a> {
        let state = State::new(&network.model, network.kv);
        Bench { network, compute, meter, state, workspace: Workspace::new(), context, length: 0 }
    }

    fn time(&mut self, test: Test) -> anyhow::Result<Sample> {
        if self.length > test.depth {
            self.state.truncate(0);
            self.length = 0;
        }
        match self.context {
            Context::Computed => {
                self.extend(test.depth - self.length, CHUNK)?;
                self.state.mark();
            }
            Context::MadeUp => self.state.make_up(self.compute.isa, test.depth),
        }
        self.length = test.depth;
        let before = self.meter.read();
        let start = Instant::now();
        match test.kind {
            Kind::Prompt => self.extend(test.n_tokens, CHUNK)?,
            Kind::Generation => self.extend(test.n_tokens, 1)?,
        }
        let time = start.elapsed();
        let joules = self.meter.joules(&before, &self.meter.read(), time);
        let rss = memory::rss();
        self.length = self.state.truncate(test.depth);
        Ok(Sample { time, rss, joules })
    }

    /// Computes `n` more tokens, `chunk` per pass.
    fn extend(&mut self, n: usize, chunk: usize) -> anyhow::Result<()> {
        let vocab_size = self.network.model.spec().vocab_size;
        let end = self.length + n;
        while self.length < end {
            let step = chunk.min(end - self.length);
            // Any ids do: the work is the same. As in texts, the later ones mostly repeat earlier ones, for what is read of an
            // embedding counts as memory; the walk is the same in every run.
            let id = |i: usize| i * 7919 % (10 * i.isqrt() + 1) * 7919 % vocab_size;
            let tokens: Vec<u32> = (self.length..self.length + step).map(|i| id(i) as u32).collect();
            let (state, workspace) = (&mut self.state, &mut self.workspace);
            forward(&self.network.model, &self.compute, state, workspace, &tokens, Logits::Last)?;
            self.length += step;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_as_in_llama_bench() {
        let tests = Test::all(&[512, 0], &[128], &[0, 4096]);
        let names: Vec<String> = tests.iter().map(Test::name).collect();
        assert_eq!(names, ["pp512", "tg128", "pp512 @ d4096", "tg128 @ d4096"]);
    }
}
