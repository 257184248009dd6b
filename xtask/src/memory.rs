//! Resident memory of networks at long contexts, by the system's account of a process for each, and decode speed there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Shapes that `sterna bench --synthetic` knows
    #[arg(default_values = ["qwen2.5-3b", "phi-4-mini", "bitnet-3b", "bamba-3b", "bamba-9b", "nemotron-h-8b", "jamba-mini"])]
    shapes: Vec<String>,
    /// Lengths of context, tokens
    #[arg(short, long, value_delimiter = ',', default_values_t = [4096, 16384, 65536, 262144])]
    depths: Vec<usize>,
    /// Storage of keys and values
    #[arg(long, default_value = "int8")]
    kv: String,
    /// Bits of weights
    #[arg(long, default_value_t = 4)]
    bits: usize,
}

/// Tokens generated at each depth.
const N_GENERATED: usize = 8;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sterna = workspace::release_build()?;
    let depths: Vec<String> = args.depths.iter().map(usize::to_string).collect();
    let titles: String = depths.iter().map(|depth| format!(" | {depth}: GB | of decode")).collect();
    crate::print(format_args!(
        "| shape | KV | weights, GB{titles} |\n|---|---|---{} |\n",
        "|---".repeat(2 * depths.len())
    ))?;
    for shape in &args.shapes {
        let cells = match bench(&sterna, shape, args)? {
            Some(report) => measured(&report)?,
            None => foreseen(&sterna, shape, args)?,
        };
        crate::print(format_args!("| {shape} | {} | {cells} |\n", args.kv))?;
    }
    Ok(())
}

/// The report of a process that makes the network and its contexts; nothing where it refuses, as there is too little memory.
fn bench(sterna: &Path, shape: &str, args: &Args) -> anyhow::Result<Option<Value>> {
    let depths = args.depths.iter().fold("0".to_owned(), |list, depth| format!("{list},{depth}"));
    let mut command = Command::new(sterna);
    command.args(["bench", "--synthetic", shape, "--bits", &args.bits.to_string(), "--kv", &args.kv]);
    command.args(["-p", "0", "-n", &N_GENERATED.to_string(), "-r", "2", "-d", &depths, "-o", "json"]);
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("--ignore-memory") {
        return Ok(None);
    }
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// Memory at each depth, and decode speed as a share of that at depth 0.
fn measured(report: &Value) -> anyhow::Result<String> {
    let number = |value: &Value| value.as_f64().context("a number in the report");
    let tests = report["tests"].as_array().context("tests in the report")?;
    let alone = number(&tests.first().context("a test at depth 0")?["tokens_per_second"])?;
    let mut cells = format!("{:.2}", number(&report["size_bytes"])? / 1e9);
    for test in &tests[1..] {
        let (rss, rate) = (number(&test["rss_bytes"])?, number(&test["tokens_per_second"])?);
        cells += &format!(" | {:.2} | {:.0} %", rss / 1e9, 100.0 * rate / alone);
    }
    Ok(cells)
}

/// Memory at each depth by `inspect`.
fn foreseen(sterna: &Path, shape: &str, args: &Args) -> anyhow::Result<String> {
    let mut cells = String::new();
    for depth in &args.depths {
        let mut command = Command::new(sterna);
        command.args(["inspect", "--synthetic", shape, "--bits", &args.bits.to_string(), "--kv", &args.kv]);
        let output = command.args(["--context", &depth.to_string(), "--json"]).output()?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let memory: Value = serde_json::from_slice(&output.stdout)?;
        let gb = |field: &str| memory[field].as_f64().unwrap_or(f64::NAN) / 1e9;
        if cells.is_empty() {
            cells = format!("{:.2}", gb("weights_bytes"));
        }
        cells += &format!(" | ({:.2}) | -", gb("total_bytes"));
    }
    Ok(cells)
}
