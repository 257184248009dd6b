//! What was measured, engine beside engine.

use serde::Serialize;

use super::engines::Work;
use super::{Measured, N_GENERATED, N_PROMPT};

/// One model at one thread count.
#[derive(Serialize)]
pub(super) struct Cell {
    model: String,
    threads: usize,
    /// Tokens before those that are generated.
    depth: usize,
    /// Bytes of the file that Sterna ran, and of the one that the others ran.
    sterna_bytes: u64,
    peer_bytes: u64,
    peers: Vec<Beside>,
}

/// The rounds of Sterna and one other engine.
#[derive(Serialize)]
struct Beside {
    peer: &'static str,
    #[serde(skip)]
    rounds: Vec<(Measured, Measured)>,
    figures: Vec<Figure>,
}

/// One figure of both engines: the median of all samples, and the ratio of each round.
#[derive(Serialize)]
struct Figure {
    name: String,
    sterna: f64,
    peer: f64,
    /// Sterna over the other: median, least and greatest round.
    ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
}

impl Cell {
    pub(super) fn new(
        model: &str,
        Work { threads, depth, .. }: Work,
        sterna_bytes: u64,
        peer_bytes: u64,
    ) -> Cell {
        Cell { model: model.to_owned(), threads, depth, sterna_bytes, peer_bytes, peers: Vec::new() }
    }

    /// Adds a round.
    pub(super) fn add(&mut self, peer: &'static str, ours: Measured, theirs: Measured) {
        let at = self.peers.iter().position(|beside| beside.peer == peer).unwrap_or_else(|| {
            self.peers.push(Beside { peer, rounds: Vec::new(), figures: Vec::new() });
            self.peers.len() - 1
        });
        let Beside { rounds, figures, .. } = &mut self.peers[at];
        rounds.push((ours, theirs));
        let behind = if self.depth > 0 { format!(" after {}", self.depth) } else { String::new() };
        let decode = format!("decode {N_GENERATED}{behind}, tok/s");
        let rate = |n_tokens: usize| move |ns: &u64| n_tokens as f64 * 1e9 / *ns as f64;
        *figures = vec![
            Figure::new("prefill 512, tok/s", rounds, |m| m.prefill_ns.iter().map(rate(N_PROMPT)).collect()),
            Figure::new(&decode, rounds, |m| m.decode_ns.iter().map(rate(N_GENERATED)).collect()),
            // From the start of loading; less is better, and so is a ratio below 1, here and in memory.
            Figure::new("first token, s", rounds, |m| {
                m.first_token_ns.iter().map(|&ns| ns as f64 / 1e9).collect()
            }),
            Figure::new("peak memory, MB", rounds, |m| {
                m.peak_rss_bytes.iter().map(|&bytes| bytes as f64 / 1e6).collect()
            }),
        ];
        figures.retain(|figure| figure.ratio.is_finite());
    }
}

impl Figure {
    fn new(name: &str, rounds: &[(Measured, Measured)], samples: impl Fn(&Measured) -> Vec<f64>) -> Self {
        let all = |of: fn(&(Measured, Measured)) -> &Measured| {
            median(rounds.iter().flat_map(|round| samples(of(round))).collect())
        };
        let ratios: Vec<f64> =
            rounds.iter().map(|(ours, theirs)| median(samples(ours)) / median(samples(theirs))).collect();
        Self {
            name: name.to_owned(),
            sterna: all(|round| &round.0),
            peer: all(|round| &round.1),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ratio: median(ratios),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

pub(super) fn markdown(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| model | MB, Sterna / peer | threads | figure | Sterna | peer | | ratio | least to greatest round |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for Cell { model, threads, sterna_bytes, peer_bytes, peers, .. } in cells {
        let megabytes = |bytes: &u64| *bytes as f64 / 1e6;
        let (own, other) = (megabytes(sterna_bytes), megabytes(peer_bytes));
        for Beside { peer, figures, .. } in peers {
            for Figure { name, sterna, peer: theirs, ratio, ratio_min, ratio_max } in figures {
                text += &format!(
                    "| {model} | {own:.0} / {other:.0} | {threads} | {name} | {sterna:.2} | {peer} | {theirs:.2} \
                     | {ratio:.2} | {ratio_min:.2} to {ratio_max:.2} |\n"
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let measured = |ns| Measured { prefill_ns: vec![ns], decode_ns: vec![ns], ..Measured::default() };
        let work = Work { threads: 1, repetitions: 1, depth: 16_384 };
        let mut cell = Cell::new("model", work, 2_000_000, 1_000_000);
        // The second round is twice as slow for both.
        for (ours, theirs) in [(100, 150), (200, 300)] {
            cell.add("peer", measured(ours), measured(theirs));
        }
        // What the peer does not tell of is left out.
        let [prefill, decode] = &cell.peers[0].figures[..] else { panic!("figures") };
        assert_eq!(decode.name, "decode 128 after 16384, tok/s");
        for ratio in [prefill.ratio, prefill.ratio_min, prefill.ratio_max] {
            assert!((ratio - 1.5).abs() < 1e-12, "{ratio}");
        }
        assert!(markdown(&[cell]).contains("| model | 2 / 1 | 1 | prefill 512, tok/s |"));
    }
}
