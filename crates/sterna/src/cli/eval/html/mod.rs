//! Results as one page: plots of quality against size and speed, and the tables. It loads nothing and runs nothing.

mod labels;
mod plot;
mod scale;

use std::fmt::Write;

use super::results::{ModelResult, Results, TaskId, TextId, TextResult};
use super::table::{self, Table, is_share};
use plot::{Plot, Point};
use scale::Kind;

/// The whole page.
pub(super) fn page(results: &Results) -> String {
    let mut body = String::new();
    for id in results.texts() {
        let TextId { file, window, n_windows, n_scored } = id;
        let about = format!("{n_windows} windows of {window} tokens, {n_scored} of them scored");
        section(&mut body, file, &about, &text_plots(results, id));
    }
    for id in results.tasks() {
        let about = format!("{}, {} items", id.file, id.n_items);
        section(&mut body, &id.task, &about, &task_plots(results, id));
    }
    for table in table::all(results) {
        write_table(&mut body, &table);
    }
    let style = include_str!("style.css");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>sterna eval</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<main>\n<h1>What the bits are worth</h1>\n{body}\
         <footer>Made by <code>sterna eval</code>. Bars are standard errors, or 95 % intervals of ratios.</footer>\n\
         </main>\n</body>\n</html>\n"
    )
}

/// What is on the x axis.
#[derive(Clone, Copy)]
struct Cost {
    name: &'static str,
    of: fn(&ModelResult) -> Option<f64>,
}

const COSTS: [Cost; 2] = [
    Cost { name: "bits per weight", of: |model| Some(model.bits_per_weight) },
    Cost { name: "decoded tokens per second", of: |model| model.decode_tokens_per_second },
];

/// What is on the y axis.
struct Quality<'a, T> {
    name: &'a str,
    kind: Kind,
    /// Value, lower and upper end.
    of: &'a dyn Fn(&T) -> Option<[f64; 3]>,
    /// The reference's, a line across.
    baseline: Option<f64>,
}

impl<T> Quality<'_, T> {
    /// A plot for each cost. The reference is a line, not a point, so that it does not stretch the axis of costs.
    fn plots(&self, results: &Results, over: &[(&ModelResult, &T)]) -> Vec<String> {
        let plot = |cost: &Cost| {
            let point = |(model, figures): &(&ModelResult, &T)| {
                let [y, low, high] = (self.of)(figures)?;
                let colour = results.models.iter().position(|other| std::ptr::eq(other, *model))?;
                let x = (cost.of)(model)?;
                Some(Point { name: model.name.clone(), colour, x, y, low, high })
            };
            let points: Vec<Point> =
                over.iter().filter(|(model, _)| !model.is_reference).filter_map(point).collect();
            let baseline = self.baseline;
            Plot { x_name: cost.name, y_name: self.name, y_kind: self.kind, baseline, points }.svg()
        };
        COSTS.iter().filter_map(plot).collect()
    }
}

fn text_plots(results: &Results, id: &TextId) -> Vec<String> {
    let over = results.over_text(id);
    let reference = over.iter().find(|(model, _)| model.is_reference);
    let around = |value: f64, error: f64| [value, value - error, value + error];
    let divergence = |text: &TextResult| {
        let mean = text.comparison.as_ref()?.divergence.mean;
        Some(around(mean.value, mean.standard_error)).filter(|_| mean.value > 0.0)
    };
    let ratio = |text: &TextResult| {
        let ratio = text.comparison.as_ref()?.perplexity_ratio;
        Some([ratio.value, ratio.low, ratio.high])
    };
    let perplexity = |text: &TextResult| Some(around(text.perplexity.value, text.perplexity.standard_error));
    if over.iter().all(|(_, text)| text.comparison.is_none()) {
        let baseline = reference.map(|(_, text)| text.perplexity.value);
        let name = "perplexity";
        return Quality { name, kind: Kind::Linear, of: &perplexity, baseline }.plots(results, &over);
    }
    let name = "mean KL divergence, nats";
    let mut plots = Quality { name, kind: Kind::Log, of: &divergence, baseline: None }.plots(results, &over);
    let name = "perplexity ÷ reference’s";
    plots.extend(Quality { name, kind: Kind::Linear, of: &ratio, baseline: Some(1.0) }.plots(results, &over));
    plots
}

/// Of the first metric.
fn task_plots(results: &Results, id: &TaskId) -> Vec<String> {
    let over = results.over_task(id);
    let Some(metric) = over.first().and_then(|(_, task)| task.metrics.first()) else { return Vec::new() };
    let (name, scale) = match is_share(metric) {
        true => (format!("{}, %", metric.name), 100.0),
        false => (metric.name.clone(), 1.0),
    };
    let of = |task: &super::results::TaskResult| {
        let estimate = task.metrics.first()?.estimate;
        let error = estimate.standard_error;
        Some([estimate.value, estimate.value - error, estimate.value + error].map(|part| scale * part))
    };
    let reference = over.iter().find(|(model, _)| model.is_reference);
    let baseline = reference.and_then(|(_, task)| of(task)).map(|[value, ..]| value);
    Quality { name: &name, kind: Kind::Linear, of: &of, baseline }.plots(results, &over)
}

fn section(body: &mut String, title: &str, about: &str, plots: &[String]) {
    if plots.is_empty() {
        return;
    }
    let (title, about) = (escape(title), escape(about));
    let _ = write!(body, "<section>\n<h2>{title} <small>{about}</small></h2>\n<div class=\"plots\">\n");
    for plot in plots {
        let _ = write!(body, "<figure>\n{plot}</figure>\n");
    }
    *body += "</div>\n</section>\n";
}

fn write_table(body: &mut String, table: &Table) {
    let _ = write!(body, "<section>\n<h2>{}</h2>\n<div class=\"wide\"><table>\n", escape(&table.title));
    for (i, row) in table.rows.iter().enumerate() {
        let cell = if i == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|text| format!("<{cell}>{}</{cell}>", escape(text))).collect();
        let _ = writeln!(body, "<tr>{cells}</tr>");
    }
    *body += "</table></div>\n</section>\n";
}

/// Text as it can stand in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
