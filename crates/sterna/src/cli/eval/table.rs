//! Results as tables: the same ones on the terminal, in Markdown and on the page.

use sterna_quant::eval::statistics::{Estimate, Ratio};

use super::results::{MetricResult, ModelResult, Results, TaskId, TextId};
use crate::cli::table::markdown;
use crate::cli::units;

/// A heading and rows, the first of them the names of the columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) rows: Vec<Vec<String>>,
}

/// Every table that the results fill.
pub(super) fn all(results: &Results) -> Vec<Table> {
    let mut tables = vec![models(results)];
    for id in results.texts() {
        tables.push(perplexity(results, id));
        tables.extend(divergence(results, id));
    }
    tables.extend(results.tasks().into_iter().map(|id| task(results, id)));
    tables
}

fn models(results: &Results) -> Table {
    let row = |model: &ModelResult| {
        vec![
            name(model),
            units::bytes(model.size_bytes),
            format!("{:.2}", model.bits_per_weight),
            model.precision.clone(),
            or_dash(model.decode_tokens_per_second.map(|rate| format!("{rate:.1}"))),
        ]
    };
    let names = ["model", "size", "bits/weight", "activations", "decode tok/s"];
    table("Models".to_owned(), &names, results.models.iter().map(row).collect())
}

fn perplexity(results: &Results, id: &TextId) -> Table {
    let TextId { file, window, n_windows, n_scored } = id;
    let rows = results.over_text(id).into_iter().map(|(model, text)| {
        let comparison = text.comparison.as_ref();
        vec![
            name(model),
            estimate(text.perplexity, 3),
            or_dash(comparison.map(|comparison| ratio(comparison.perplexity_ratio))),
            or_dash(comparison.map(|comparison| percent(comparison.retention))),
        ]
    });
    let title = format!("Perplexity · {file}, {n_windows} windows of {window} tokens, {n_scored} scored");
    table(title, &["model", "perplexity", "ratio (95 %)", "retention (95 %)"], rows.collect())
}

/// Where something was compared.
fn divergence(results: &Results, id: &TextId) -> Option<Table> {
    let mut rows = Vec::new();
    for (model, text) in results.over_text(id) {
        let Some(divergence) = text.comparison.as_ref().map(|comparison| comparison.divergence) else {
            continue;
        };
        let mut row = vec![name(model), estimate(divergence.mean, 5)];
        let quantiles = [divergence.median, divergence.p90, divergence.p99, divergence.max];
        row.extend(quantiles.map(|nats| format!("{nats:.4}")));
        row.push(share(divergence.same_top));
        row.push(format!("{:.3} ({:.3})", divergence.entropy.value, divergence.reference_entropy.value));
        rows.push(row);
    }
    let names =
        ["model", "mean", "median", "90 %", "99 %", "largest", "same top token", "entropy (reference’s)"];
    let title = format!("KL divergence from the reference, nats · {}", id.file);
    (!rows.is_empty()).then(|| table(title, &names, rows))
}

fn task(results: &Results, id: &TaskId) -> Table {
    let over = results.over_task(id);
    let mut names = vec!["model"];
    for metric in over.first().into_iter().flat_map(|(_, task)| &task.metrics) {
        names.extend([metric.name.as_str(), "retention (95 %)"]);
    }
    let rows = over.iter().map(|(model, task)| {
        let cells = task.metrics.iter().flat_map(|metric| {
            let figure = match is_share(metric) {
                true => share(metric.estimate),
                false => estimate(metric.estimate, 3),
            };
            [figure, or_dash(metric.retention.map(percent))]
        });
        std::iter::once(name(model)).chain(cells).collect()
    });
    table(format!("{} · {}, {} items", id.task, id.file, id.n_items), &names, rows.collect())
}

/// Every figure of a task is a share of the items, except this one.
pub(super) fn is_share(metric: &MetricResult) -> bool {
    metric.name != "perplexity"
}

pub(super) fn name(model: &ModelResult) -> String {
    match model.is_reference {
        true => format!("{} (reference)", model.name),
        false => model.name.clone(),
    }
}

fn table(title: String, names: &[&str], rows: Vec<Vec<String>>) -> Table {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Table { title, rows: std::iter::once(names).chain(rows).collect() }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

fn estimate(estimate: Estimate, decimals: usize) -> String {
    format!("{:.decimals$} ± {:.decimals$}", estimate.value, estimate.standard_error)
}

fn share(estimate: Estimate) -> String {
    format!("{:.2} ± {:.2} %", 100.0 * estimate.value, 100.0 * estimate.standard_error)
}

fn ratio(ratio: Ratio) -> String {
    format!("{:.4} ({:.4} to {:.4})", ratio.value, ratio.low, ratio.high)
}

fn percent(ratio: Ratio) -> String {
    let [value, low, high] = [ratio.value, ratio.low, ratio.high].map(|part| 100.0 * part);
    format!("{value:.2} % ({low:.2} to {high:.2})")
}

impl Table {
    fn widths(&self) -> Vec<usize> {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |row: &Vec<String>, column| row.get(column).map_or(0, |cell: &String| cell.chars().count());
        (0..n_columns).map(|i| self.rows.iter().map(|row| width(row, i)).max().unwrap_or(0)).collect()
    }

    /// Columns that line up: names to the left, figures to the right.
    pub(super) fn text(&self) -> String {
        let widths = self.widths();
        let mut text = format!("{}\n", self.title);
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, width))| match i {
                0 => format!("  {cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }

    /// A heading and a Markdown table.
    pub(super) fn markdown(&self) -> String {
        format!("**{}**\n\n{}", self.title, markdown(&self.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let rows =
            vec![vec!["a|b".to_owned(), "1.0 ± 0.1".to_owned()], vec!["long".to_owned(), "–".to_owned()]];
        super::table("Title".to_owned(), &["model", "figure"], rows)
    }

    #[test]
    fn columns_line_up() {
        let expected = "Title\n  model     figure\n  a|b    1.0 ± 0.1\n  long           –\n";
        assert_eq!(table().text(), expected);
    }

    #[test]
    fn markdown_escapes_its_own_sign() {
        let expected = "\
**Title**

| model |    figure |
| ----- | --------: |
| a\\|b  | 1.0 ± 0.1 |
| long  |         – |
";
        assert_eq!(table().markdown(), expected);
    }
}
