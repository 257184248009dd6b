//! The tables of `docs/quality.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::fewest::{self, Kept};
use super::judged::{Judged, Value};

/// Shares of the checkpoint's quality that are asked about.
const SHARES: [f64; 3] = [0.95, 0.98, 0.99];

/// What was found about `model`.
pub(super) fn markdown(model: &str, results: &[Judged]) -> anyhow::Result<String> {
    let mut text = format!("\n### {model}\n\n");
    text += "| file | bytes of the file | bits per weight | perplexity, ratio | KL, mean | same top token | LAMBADA |\n";
    text += "|---|---|---|---|---|---|---|\n";
    for judged in results {
        let of_file = match judged.is_reference {
            true => "-".to_owned(),
            false => n_bytes(&judged.file)?.to_string(),
        };
        let Judged { name, bits_per_weight, .. } = judged;
        let comparison = judged.comparison();
        let ratio = comparison.map(|comparison| format!("{:.3}", comparison.perplexity_ratio.value));
        let divergence = comparison.map(|comparison| with_error(comparison.divergence.mean, 1.0, 4));
        let same_top =
            comparison.map(|comparison| format!("{:.1} %", 100.0 * comparison.divergence.same_top.value));
        let accuracy = judged.accuracy().map(|accuracy| format!("{} %", with_error(accuracy, 100.0, 1)));
        let [ratio, divergence, same_top, accuracy] =
            [ratio, divergence, same_top, accuracy].map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        let _ = writeln!(
            text,
            "| {name} | {of_file} | {bits_per_weight:.3} | {ratio} | {divergence} | {same_top} | {accuracy} |"
        );
    }
    text += "\n| kept | of | fewest bits, Sterna | fewest bits, llama.cpp |\n|---|---|---|---|\n";
    let (ours, theirs): (Vec<&Judged>, Vec<&Judged>) = results
        .iter()
        .filter(|judged| !judged.is_reference)
        .filter(|judged| judged.name.contains("bpw") || is_gguf(judged))
        .partition(|judged| !is_gguf(judged));
    type Of = fn(&Judged) -> Option<f64>;
    let perplexity: Of = |judged| Some(judged.comparison()?.retention.value);
    for (what, of) in [("perplexity", perplexity), ("LAMBADA", Judged::accuracy_retention as Of)] {
        let kept = |files: &[&Judged]| -> Vec<Kept> {
            files.iter().filter_map(|judged| Some((judged.bits_per_weight, of(judged)?))).collect()
        };
        let (ours, theirs) = (kept(&ours), kept(&theirs));
        for share in SHARES.into_iter().filter(|_| !ours.is_empty() || !theirs.is_empty()) {
            let bits = [fewest::of_curve(&ours, share), fewest::of_files(&theirs, share)];
            let [ours, theirs] = bits.map(|bits| bits.map_or("-".to_owned(), |bits| format!("{bits:.2}")));
            let _ = writeln!(text, "| {:.0} % | {what} | {ours} | {theirs} |", 100.0 * share);
        }
    }
    Ok(text)
}

fn is_gguf(judged: &Judged) -> bool {
    judged.file.extension().is_some_and(|extension| extension == "gguf")
}

fn n_bytes(file: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len())
}

fn with_error(figure: Value, unit: f64, digits: usize) -> String {
    let error = figure.standard_error.unwrap_or(f64::NAN);
    format!("{:.digits$} ± {:.digits$}", unit * figure.value, unit * error)
}
