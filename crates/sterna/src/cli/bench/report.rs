//! What a bench says, as a table, JSON or CSV.

use std::fmt::Write;

use serde::Serialize;
use sterna::{Network, Precision, TuningSource};

use super::energy::Meter;
use super::limits::{Limits, PerToken};
use super::measure::{Context, Kind, Timed};
use super::weights::{bytes_per_token, multiply_adds_per_token};
use crate::cli::table::markdown;
use crate::cli::units;

/// A whole bench. Field names and units are those of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    architecture: String,
    size_bytes: u64,
    params: u64,
    isa: &'static str,
    precision: &'static str,
    /// Who says which kernels and how many threads are fastest.
    kernels: String,
    /// Opening, mapping and packing the weights.
    load_seconds: f64,
    /// `None` where the system does not say.
    peak_rss_bytes: Option<u64>,
    /// What was expected of the longest test before the model was loaded.
    predicted_rss_bytes: Option<u64>,
    /// Read by all threads together.
    memory_bandwidth_gb_per_second: f64,
    /// Weights that one token reads.
    weight_bytes_per_token: u64,
    /// Of weights with one token.
    multiply_adds_per_token: u64,
    kv_type: String,
    /// `computed`, or `made up` where keys and values of the context mean nothing.
    context: &'static str,
    /// Where the joules come from; `None` where the machine does not tell, for the reason beside it.
    energy_source: Option<&'static str>,
    energy_unknown_because: Option<String>,
    pub(super) tests: Vec<Row>,
    /// Where they were asked for.
    limits: Option<Limits>,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) test: String,
    #[serde(skip)]
    pub(super) kind: Kind,
    pub(super) threads: usize,
    n_tokens: usize,
    depth: usize,
    pub(super) tokens_per_second: f64,
    tokens_per_second_sd: f64,
    /// Of a prompt: until its last logits, from which the first token is drawn.
    ttft_ms: Option<f64>,
    /// Of a generation: bytes of weights, and of keys and values, read per second, 10^9.
    read_gb_per_second: Option<f64>,
    /// The same as a share of the memory bandwidth; above 1 where all stays in a cache.
    bandwidth_share: Option<f64>,
    /// Bytes of keys and values that one token reads at this depth.
    kv_bytes_per_token: u64,
    /// Of this process, after the test; `None` where the system does not say.
    rss_bytes: Option<u64>,
    /// Of processor or machine, as `energy_source` says.
    joules_per_token: Option<f64>,
    samples_ns: Vec<u64>,
}

/// What a report is of.
pub(super) struct About<'a> {
    pub(super) model: &'a str,
    pub(super) context: Context,
    pub(super) peak_rss: Option<u64>,
    pub(super) predicted_rss: Option<u64>,
    /// Bytes per second.
    pub(super) bandwidth: f64,
    pub(super) meter: Meter,
    pub(super) kernels: &'a TuningSource,
}

impl Report {
    pub(super) fn new(
        about: About<'_>,
        network: &Network,
        results: Vec<Timed>,
        limits: Option<Limits>,
    ) -> Report {
        let About { model, context, peak_rss, predicted_rss, bandwidth, meter, kernels } = about;
        let weight_bytes_per_token = bytes_per_token(&network.model) as u64;
        let row = |timed: Timed| {
            let kv_bytes = network.model.spec().kv_bytes_read(network.kv, timed.test.depth) as u64;
            Row::new(timed, weight_bytes_per_token, kv_bytes, bandwidth)
        };
        Report {
            model: model.to_owned(),
            kv_type: network.kv.to_string(),
            context: match context {
                Context::Computed => "computed",
                Context::MadeUp => "made up",
            },
            architecture: network.model.spec().architecture.to_string(),
            size_bytes: network.size.n_bytes,
            params: network.size.n_params,
            isa: network.compute.isa.name(),
            precision: match network.compute.precision {
                Precision::Int8 => "int8",
                Precision::Float => "float",
            },
            kernels: kernels.to_string(),
            load_seconds: network.load_time.as_secs_f64(),
            peak_rss_bytes: peak_rss,
            predicted_rss_bytes: predicted_rss,
            memory_bandwidth_gb_per_second: bandwidth / 1e9,
            weight_bytes_per_token,
            energy_source: meter.source(),
            energy_unknown_because: meter.why_not().map(str::to_owned),
            tests: results.into_iter().map(row).collect(),
            multiply_adds_per_token: multiply_adds_per_token(&network.model) as u64,
            limits,
        }
    }

    /// A table, a line on the rest, and the limits.
    pub(super) fn markdown(&self) -> String {
        let mut rows = vec![
            [
                "model",
                "size",
                "params",
                "threads",
                "test",
                "t/s",
                "TTFT",
                "GB/s",
                "of memory",
                "resident",
                "J/token",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        for row in &self.tests {
            rows.push(vec![
                self.model.clone(),
                units::bytes(self.size_bytes),
                units::count(self.params),
                row.threads.to_string(),
                row.test.clone(),
                format!("{:.2} ± {:.2}", row.tokens_per_second, row.tokens_per_second_sd),
                or_dash(row.ttft_ms.map(|ms| format!("{ms:.0} ms"))),
                or_dash(row.read_gb_per_second.map(|rate| format!("{rate:.2}"))),
                or_dash(row.bandwidth_share.map(|share| format!("{:.0} %", share * 100.0))),
                or_dash(row.rss_bytes.map(units::bytes)),
                or_dash(row.joules_per_token.map(|joules| format!("{joules:.3}"))),
            ]);
        }
        let mut text = markdown(&rows);
        let peak = self.peak_rss_bytes.map_or("unknown".to_owned(), units::bytes);
        let predicted = self
            .predicted_rss_bytes
            .map_or(String::new(), |bytes| format!(" ({} expected)", units::bytes(bytes)));
        let _ = writeln!(
            text,
            "\nload {:.2} s · peak memory {peak}{predicted} · memory reads {:.1} GB/s · {} · {} activations · {} keys and values",
            self.load_seconds, self.memory_bandwidth_gb_per_second, self.isa, self.precision, self.kv_type
        );
        let _ = writeln!(text, "kernels and threads: {}", self.kernels);
        if self.context == "made up" && self.tests.iter().any(|row| row.depth > 0) {
            let _ = writeln!(text, "Keys and values of the context are made up, not computed.");
        }
        if let Some(energy) = self.energy_source.or(self.energy_unknown_because.as_deref()) {
            let _ = writeln!(text, "energy: {energy}");
        }
        if let Some(limits) = &self.limits {
            let per_token = PerToken {
                weight_bytes: self.weight_bytes_per_token,
                multiply_adds: self.multiply_adds_per_token,
                is_int8: self.precision == "int8",
            };
            let _ = write!(text, "\n{}\n{}", limits.markdown(), limits.shares(&self.tests, per_token));
        }
        text
    }

    /// All of it.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A line per test, the bench's own fields in each.
    pub(super) fn csv(&self) -> String {
        let mut text = String::from(
            "model,architecture,size_bytes,params,isa,precision,load_seconds,peak_rss_bytes,\
             memory_bandwidth_gb_per_second,weight_bytes_per_token,test,threads,n_tokens,depth,tokens_per_second,\
             tokens_per_second_sd,ttft_ms,read_gb_per_second,bandwidth_share,kv_type,context,\
             kv_bytes_per_token,rss_bytes,joules_per_token\n",
        );
        fn cell<T: ToString>(value: Option<T>) -> String {
            value.map_or(String::new(), |value| value.to_string())
        }
        for row in &self.tests {
            let cells = [
                quoted(&self.model),
                quoted(&self.architecture),
                self.size_bytes.to_string(),
                self.params.to_string(),
                self.isa.to_owned(),
                self.precision.to_owned(),
                self.load_seconds.to_string(),
                cell(self.peak_rss_bytes),
                self.memory_bandwidth_gb_per_second.to_string(),
                self.weight_bytes_per_token.to_string(),
                row.test.clone(),
                row.threads.to_string(),
                row.n_tokens.to_string(),
                row.depth.to_string(),
                row.tokens_per_second.to_string(),
                row.tokens_per_second_sd.to_string(),
                cell(row.ttft_ms),
                cell(row.read_gb_per_second),
                cell(row.bandwidth_share),
                self.kv_type.clone(),
                self.context.to_owned(),
                row.kv_bytes_per_token.to_string(),
                cell(row.rss_bytes),
                cell(row.joules_per_token),
            ];
            text += &cells.join(",");
            text.push('\n');
        }
        text
    }
}

impl Row {
    /// `bandwidth` in bytes per second.
    fn new(timed: Timed, weight_bytes: u64, kv_bytes: u64, bandwidth: f64) -> Row {
        let seconds: Vec<f64> = timed.samples.iter().map(|time| time.as_secs_f64()).collect();
        let n_tokens = timed.test.n_tokens;
        let rates: Vec<f64> = seconds.iter().map(|seconds| n_tokens as f64 / seconds).collect();
        let (tokens_per_second, tokens_per_second_sd) = mean_and_sd(&rates);
        let rate = match timed.test.kind {
            Kind::Generation => Some(tokens_per_second * (weight_bytes + kv_bytes) as f64),
            Kind::Prompt => None,
        };
        Row {
            test: timed.test.name(),
            kind: timed.test.kind,
            threads: timed.threads,
            n_tokens,
            depth: timed.test.depth,
            tokens_per_second,
            tokens_per_second_sd,
            ttft_ms: (timed.test.kind == Kind::Prompt).then(|| mean_and_sd(&seconds).0 * 1e3),
            read_gb_per_second: rate.map(|rate| rate / 1e9),
            bandwidth_share: rate.map(|rate| rate / bandwidth),
            kv_bytes_per_token: kv_bytes,
            rss_bytes: timed.rss,
            joules_per_token: timed.joules.map(|joules| joules / (n_tokens * timed.samples.len()) as f64),
            samples_ns: timed.samples.iter().map(|time| time.as_nanos() as u64).collect(),
        }
    }
}

/// Mean and sample standard deviation; a single value deviates by 0.
fn mean_and_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

/// A CSV cell (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Test;
    use super::*;
    use std::time::Duration;

    fn report() -> Report {
        let timed = |kind, n_tokens, ms: [u64; 2]| Timed {
            test: Test { kind, n_tokens, depth: 0 },
            threads: 2,
            samples: ms.map(Duration::from_millis).to_vec(),
            rss: Some(3 << 20),
            joules: Some(51.2),
        };
        let rows = [timed(Kind::Prompt, 512, [400, 600]), timed(Kind::Generation, 100, [1000, 1000])];
        Report {
            model: "tiny, \"mine\"".into(),
            architecture: "llama".into(),
            size_bytes: 98_362_432,
            params: 134_515_008,
            isa: "avx2",
            precision: "int8",
            kernels: TuningSource::Asked.to_string(),
            load_seconds: 0.25,
            peak_rss_bytes: None,
            predicted_rss_bytes: Some(3 << 20),
            memory_bandwidth_gb_per_second: 20.0,
            weight_bytes_per_token: 100_000_000,
            multiply_adds_per_token: 200_000_000,
            kv_type: "f16".into(),
            context: "computed",
            energy_source: Some("a test"),
            energy_unknown_because: None,
            tests: rows.into_iter().map(|timed| Row::new(timed, 80_000_000, 20_000_000, 2e10)).collect(),
            limits: None,
        }
    }

    #[test]
    fn the_table_lines_up() {
        let text = report().markdown();
        let expected = "\
| model        |     size | params | threads |  test |              t/s |   TTFT |  GB/s | of memory | resident | J/token |
| ------------ | -------: | -----: | ------: | ----: | ---------------: | -----: | ----: | --------: | -------: | ------: |
| tiny, \"mine\" | 93.8 MiB |  135 M |       2 | pp512 | 1066.67 ± 301.70 | 500 ms |     - |         - | 3.00 MiB |   0.050 |
| tiny, \"mine\" | 93.8 MiB |  135 M |       2 | tg100 |    100.00 ± 0.00 |      - | 10.00 |      50 % | 3.00 MiB |   0.256 |

load 0.25 s · peak memory unknown (3.00 MiB expected) · memory reads 20.0 GB/s · avx2 · int8 activations · f16 keys and values
kernels and threads: STERNA_ISA
energy: a test
";
        assert_eq!(text, expected);
    }

    #[test]
    fn csv_has_a_cell_per_column() {
        let text = report().csv();
        let lines: Vec<&str> = text.lines().collect();
        let n_columns = lines[0].split(',').count();
        assert!(lines[1].starts_with("\"tiny, \"\"mine\"\"\",llama,98362432,"));
        // The quoted model name holds one comma of its own.
        assert!(lines[1..].iter().all(|line| line.split(',').count() == n_columns + 1));
    }

    #[test]
    fn json_has_units_in_its_names() -> serde_json::Result<()> {
        let value: serde_json::Value = serde_json::from_str(&report().json()?)?;
        assert_eq!(value["tests"][1]["read_gb_per_second"], 10.0);
        assert_eq!(value["tests"][0]["samples_ns"][0], 400_000_000u64);
        assert_eq!(value["peak_rss_bytes"], serde_json::Value::Null);
        Ok(())
    }

    #[test]
    fn deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_sd(&[1.0, 3.0]), (2.0, 2.0f64.sqrt()));
        assert_eq!(mean_and_sd(&[5.0]), (5.0, 0.0));
    }
}
