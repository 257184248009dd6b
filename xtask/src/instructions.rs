//! Instructions for each token, counted under valgrind: unlike times they are the same on a busy machine, so they can be held
//! against those of an earlier state.
//!
//! This program runs itself under valgrind, with more tokens and with fewer; the difference is what the tokens cost. Networks
//! are of the tiny fixtures' shapes, in packed weights, and computed by AVX2, the widest that valgrind knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sterna_formats::hf::ConfigFile;
use sterna_model::{KvType, Logits, Model, State, Workspace, forward, synthetic};
use sterna_tensor::{Compute, Isa, Precision};

use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Record what is counted as what there may be
    #[arg(long)]
    renew: bool,
    /// What runs under valgrind: a network's name, tokens of its prompt, and tokens that it decodes
    #[arg(long, hide = true, num_args = 3)]
    pass: Option<Vec<String>>,
}

/// A prompt and an answer.
struct Pass {
    network: &'static Network,
    prefilled: usize,
    decoded: usize,
}

/// A fixture whose shape is counted.
#[derive(Debug)]
struct Network {
    name: &'static str,
    /// Of weights; ternary networks stay ternary.
    bits: usize,
}

const NETWORKS: [Network; 4] = [
    Network { name: "llama_gqa", bits: 4 },
    Network { name: "bitnet_float", bits: 2 },
    Network { name: "bamba", bits: 4 },
    Network { name: "qwen3_next", bits: 4 },
];

/// The widest instructions that valgrind knows.
const ISA: Isa = Isa::Avx2;
/// Tokens of the prompts whose difference is what a token of a prompt costs.
const PROMPTS: [usize; 2] = [32, 96];
/// Tokens decoded after the shorter one.
const DECODED: usize = 16;
/// How much more than what was recorded is let pass, as a share.
const TOLERANCE: f64 = 0.02;

/// Instructions of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    decode: u64,
    prefill: u64,
}

/// What was recorded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The compiler of the program that was counted.
    rustc: String,
    networks: BTreeMap<String, Count>,
}

/// What is missing here to count, if anything.
pub(crate) fn missing() -> Option<String> {
    if !ISA.is_available() {
        return Some(format!("instructions are counted with {ISA}, which this machine lacks"));
    }
    let found =
        Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success());
    (!found).then(|| "no valgrind".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(pass) = &args.pass {
        return Pass::parse(pass)?.run();
    }
    if let Some(missing) = missing() {
        bail!(missing);
    }
    let path = workspace::root().join("xtask/src/instructions.json");
    let rustc = rustc()?;
    let mut networks = BTreeMap::new();
    for network in &NETWORKS {
        networks.insert(network.name.to_owned(), network.count()?);
    }
    if args.renew {
        let record = Record { rustc, networks };
        std::fs::write(&path, serde_json::to_string_pretty(&record)? + "\n")?;
        return crate::print(format_args!("recorded in {}\n", path.display()));
    }
    let record: Record = serde_json::from_slice(&std::fs::read(&path)?).context("instructions.json")?;
    let verdict = compare(&record.networks, &networks);
    crate::print(&verdict.table)?;
    let renew = "`cargo xtask instructions --renew` records what is counted now";
    if !verdict.grown.is_empty() {
        let compilers = match record.rustc == rustc {
            true => String::new(),
            false => format!("; they were recorded with {}, this is {rustc}", record.rustc),
        };
        let grown = verdict.grown.join(", ");
        bail!("more instructions than were recorded: {grown}{compilers}. If they are worth it, {renew}");
    }
    if verdict.is_stale {
        crate::print(format_args!("fewer than were recorded: {renew}\n"))?;
    }
    Ok(())
}

struct Verdict {
    table: String,
    /// What there is more of than is let pass.
    grown: Vec<String>,
    /// Whether there is so much less of something that it could grow unnoticed.
    is_stale: bool,
}

fn compare(recorded: &BTreeMap<String, Count>, counted: &BTreeMap<String, Count>) -> Verdict {
    let mut table =
        "| network | token of | recorded | counted | change |\n|---|---|---|---|---|\n".to_owned();
    let (mut grown, mut is_stale) = (Vec::new(), false);
    for (name, now) in counted {
        let before = recorded.get(name);
        let parts = [
            ("an answer", before.map(|count| count.decode), now.decode),
            ("a prompt", before.map(|count| count.prefill), now.prefill),
        ];
        for (part, before, now) in parts {
            let change = now as f64 / before.unwrap_or(0) as f64 - 1.0;
            let before = before.map_or("-".to_owned(), |count| count.to_string());
            table += &format!("| {name} | {part} | {before} | {now} | {:+.1} % |\n", 100.0 * change);
            if change > TOLERANCE {
                grown.push(format!("{name}, {part}"));
            }
            is_stale |= change < -TOLERANCE;
        }
    }
    Verdict { table, grown, is_stale }
}

fn rustc() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().context("cannot run rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Network {
    fn count(&'static self) -> anyhow::Result<Count> {
        let of = |prefilled, decoded| Pass { network: self, prefilled, decoded }.count();
        let [few, many] = PROMPTS;
        let base = of(few, 0)?;
        let difference = |more: u64, n: usize| more.saturating_sub(base) / n as u64;
        Ok(Count {
            decode: difference(of(few, DECODED)?, DECODED),
            prefill: difference(of(many, 0)?, many - few),
        })
    }

    fn config(&self) -> PathBuf {
        workspace::root().join("tests/fixtures/checkpoints").join(self.name).join("config.json")
    }
}

impl Pass {
    fn parse(words: &[String]) -> anyhow::Result<Pass> {
        let [name, prefilled, decoded] = words else { bail!("a pass is a network and two numbers") };
        let network = NETWORKS.iter().find(|network| network.name == name).context("no such network")?;
        Ok(Pass { network, prefilled: prefilled.parse()?, decoded: decoded.parse()? })
    }

    /// Instructions of the whole program.
    fn count(&self) -> anyhow::Result<u64> {
        let folder = workspace::target().join("instructions");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let profile = folder.join(format!("{}-{}-{}", self.network.name, self.prefilled, self.decoded));
        let mut command = Command::new("valgrind");
        command
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(std::env::current_exe()?)
            .args(["instructions", "--pass", self.network.name])
            .args([self.prefilled.to_string(), self.decoded.to_string()])
            .env("STERNA_ISA", ISA.name());
        let output = command.output().context("cannot run valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {said}");
        total(&profile)
    }

    /// The tokens, on one thread: others would spin for as long as they like.
    fn run(&self) -> anyhow::Result<()> {
        let compute = Compute::new(1, Precision::Int8);
        ensure!(compute.isa == ISA, "counted with {}, not {ISA}", compute.isa);
        let format = synthetic::format(self.network.bits).context("a number of bits that weights have")?;
        let config = ConfigFile::open(&self.network.config())?;
        let model = Model::synthetic(config, format, 256, &compute)?;
        let (mut state, mut workspace) = (State::new(&model, KvType::F16), Workspace::new());
        let mut feed = |tokens: &[u32]| {
            forward(&model, &compute, &mut state, &mut workspace, tokens, Logits::Last).map(drop)
        };
        feed(&vec![3; self.prefilled])?;
        (0..self.decoded).try_for_each(|_| feed(&[3]))?;
        Ok(())
    }
}

/// The line of a callgrind profile that sums it up.
fn total(profile: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(profile)?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    let total = total.with_context(|| format!("no sum in {}", profile.display()))?;
    Ok(total.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_fails() {
        let counts = |decode, prefill| BTreeMap::from([("tiny".to_owned(), Count { decode, prefill })]);
        let compared = |decode, prefill| compare(&counts(1000, 1000), &counts(decode, prefill));
        assert!(compared(1010, 1015).grown.is_empty());
        assert_eq!(compared(1030, 900).grown, ["tiny, an answer"]);
        assert!(compared(1030, 900).is_stale && !compared(1010, 990).is_stale);
        // A network that nobody recorded must not pass.
        assert_eq!(compare(&BTreeMap::new(), &counts(1, 1)).grown.len(), 2);
    }
}
