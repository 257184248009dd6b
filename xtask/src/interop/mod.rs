//! Exports run by the runtimes that they are for: a model is quantized, exported, and loaded by each peer, and what the
//! peer computes is compared with what Sterna computes on the same file.
//!
//! A peer is a Python script beside this file that answers one JSON request; `peer.rs` has the form of both. To add one,
//! add its script, a file with its [`Peer`], and its name to [`PEERS`].

mod gguf_py;
mod llama_cpp;
mod mlx;
mod network;
mod peer;
mod python;
mod transformers;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::{models, workspace};
use network::Network;
use peer::{Answer, Peer, Request};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model: the name of a test model, or a checkpoint
    #[arg(default_value = "smollm2")]
    model: String,
    /// Peers to try
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values_t = PEERS.map(|peer| peer.name.to_owned()))]
    peers: Vec<String>,
    /// A Python that has the peers [default: one is made under target/ for each]
    #[arg(long)]
    python: Option<PathBuf>,
}

/// All peers.
const PEERS: [&Peer; 5] =
    [&llama_cpp::PEER, &mlx::PEER, &transformers::DENSE, &transformers::AWQ, &transformers::GPTQ];

/// Ways to quantize: name, and arguments of `sterna quantize`.
const FORMATS: [(&str, &[&str]); 3] = [
    ("a4g128", &["--bits", "4", "--group", "128"]),
    ("s4g32", &["--bits", "4", "--group", "32", "--symmetric"]),
    ("s8g32", &["--bits", "8", "--group", "32", "--symmetric"]),
];

/// Texts that are continued: sure to be so in one way, that rounding may not decide what comes next.
const PROMPTS: [&str; 3] = [
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,",
    "A rose is a rose is a rose is a rose is a rose is a rose is",
    "January, February, March, April, May, June, July, August, September, October, November, December, January, \
     February, March,",
];

/// Tokens of a continuation.
const N_GENERATED: usize = 32;

/// A text whose next tokens are predicted at every place.
const PASSAGE: &str = include_str!("passage.txt");

/// Mean divergence, in nats, up to which two ways of rounding the same products are the same network.
const MAX_KL: f64 = 0.01;

/// What one peer made of one file.
struct Outcome {
    peer: &'static str,
    format: &'static str,
    n_bytes: u64,
    /// Continuations that are the same, token for token.
    n_same: usize,
    /// Mean divergence from Sterna's distribution on the passage.
    kl: f64,
    /// Texts of which the peer's tokenizer makes the same ids.
    n_tokenized: usize,
    /// The largest relative error of a tensor when Sterna reads the export back.
    read_back: f64,
}

impl Outcome {
    fn is_right(&self) -> bool {
        (self.n_same == PROMPTS.len() || self.kl < MAX_KL) && self.n_tokenized == PROMPTS.len() + 1
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sterna = workspace::release_build()?;
    let original = models::find(&args.model)?;
    let directory = workspace::target().join("interop");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut outcomes = Vec::new();
    for (format, quantize) in FORMATS {
        let native = directory.join(format!("{format}.sterna"));
        let mut command = Command::new(&sterna);
        command
            .arg("quantize")
            .arg(&original)
            .arg("-o")
            .arg(&native)
            .args(["--method", "rtn"])
            .args(quantize);
        workspace::succeed(&mut command)?;
        let is_asked = |peer: &&Peer| args.peers.iter().any(|name| name == peer.name);
        let takes_it = |peer: &&Peer| peer.formats.contains(&format);
        for peer in PEERS.into_iter().filter(is_asked).filter(takes_it) {
            let exported = directory.join(format!("{format}-{}{}", peer.name, peer.extension));
            if exported.is_dir() {
                std::fs::remove_dir_all(&exported)?;
            }
            let mut export = Command::new(&sterna);
            export.arg("export").arg(&native).args(["--to", peer.target]).arg("-o").arg(&exported);
            workspace::succeed(&mut export)?;
            eprintln!("{format}: {} runs {}", peer.name, exported.display());
            outcomes.push(compare(peer, format, &native, &exported, args.python.as_deref(), &directory)?);
        }
    }
    print!("{}", table(&outcomes));
    ensure!(outcomes.iter().all(Outcome::is_right), "a peer computes something else than Sterna");
    Ok(())
}

fn compare(
    peer: &Peer,
    format: &'static str,
    native: &Path,
    exported: &Path,
    python: Option<&Path>,
    directory: &Path,
) -> anyhow::Result<Outcome> {
    let python = python.map_or_else(|| (peer.python)(), |python| Ok(python.to_owned()))?;
    if let Some(check) = peer.check {
        check(&python, exported)?;
    }
    let network = Network::load(exported, peer.precision)?;
    let prompts = PROMPTS.map(|prompt| network.encode(prompt)).into_iter().collect::<Result<Vec<_>, _>>()?;
    let passage = network.encode(PASSAGE)?;
    let request = Request {
        model: exported.to_owned(),
        texts: PROMPTS.into_iter().chain([PASSAGE]).map(str::to_owned).collect(),
        prompts: prompts.clone(),
        n_generated: N_GENERATED,
        passage: passage.clone(),
        logits: directory.join("logits.f32"),
    };
    let Answer { tokens, continuations } = peer.ask(&python, &request)?;
    let expected = prompts.iter().chain([&passage]);
    let theirs = network::read_logits(&request.logits, passage.len())?;
    let mut n_same = 0;
    for (prompt, continuation) in prompts.iter().zip(&continuations) {
        n_same += usize::from(network.continuation(prompt, N_GENERATED)? == *continuation);
    }
    Ok(Outcome {
        peer: peer.name,
        format,
        n_bytes: size(exported)?,
        n_same,
        kl: network::mean_divergence(&network.logits(&passage)?, &theirs, passage.len()),
        n_tokenized: tokens.iter().zip(expected).filter(|(theirs, ours)| theirs == ours).count(),
        read_back: network::largest_error(native, exported)?,
    })
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| peer | quantized | MB | same text | mean KL, nats | same ids | read back, error | |\n|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let Outcome { peer, format, n_bytes, n_same, kl, n_tokenized, read_back } = outcome;
        let verdict = if outcome.is_right() { "right" } else { "WRONG" };
        let (n_prompts, n_texts, mb) = (PROMPTS.len(), PROMPTS.len() + 1, *n_bytes as f64 / 1e6);
        text += &format!(
            "| {peer} | {format} | {mb:.1} | {n_same} of {n_prompts} | {kl:.5} | {n_tokenized} of {n_texts} \
             | {read_back:.1e} | {verdict} |\n"
        );
    }
    text
}

/// Bytes of a file, or of all files in a directory.
fn size(path: &Path) -> anyhow::Result<u64> {
    let metadata = path.metadata().with_context(|| format!("no {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    path.read_dir()?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
