//! Rotary positions: from the parameters in a config to the cosines and sines that rotate queries and keys.
//!
//! A rotation of `n_dims` dimensions turns pair (i, i + n_dims/2) of a head by `position · inv_freq[i]`; dimensions
//! beyond `n_dims` pass through. Scalings change the frequencies once, before any token is seen, with one exception:
//! LongRoPE has two sets of frequencies and picks one by the length of the *whole* sequence (see [`Regime`]).

use std::f64::consts::PI;

use crate::spec::Spec;

/// The rotation of one attention layer.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Dimensions of a head that rotate, from its first on; even.
    pub n_dims: usize,
    /// How the frequencies are changed to reach a longer context.
    pub scaling: RopeScaling,
}

/// A change of the frequencies `theta^(-2i/n_dims)`.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// How much longer the context became.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided, short ones kept, a smooth passage between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the first training.
        original_context: f64,
    },
    /// YaRN, arXiv:2309.00071 §3.
    Yarn {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Pairs that turn more often than this over the original context are kept.
        beta_fast: f64,
        /// Pairs that turn less often than this over the original context are divided.
        beta_slow: f64,
        /// Context of the first training.
        original_context: f64,
        /// The ends of the ramp are rounded outwards to whole pairs.
        truncate: bool,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
    /// LongRoPE, arXiv:2402.13753: one divisor per pair, a short and a long set.
    LongRope {
        /// Divisors while the sequence is at most `original_context` tokens long.
        short: Vec<f32>,
        /// Divisors beyond.
        long: Vec<f32>,
        /// Context of the first training.
        original_context: usize,
        /// Factor on cosines and sines, with either set.
        attention_factor: f64,
    },
    /// One divisor per pair (the `rope_freqs.weight` tensor of GGUF files).
    Divisors(Vec<f32>),
}

/// Which frequencies a sequence uses.
///
/// All positions of a sequence must rotate alike, and the keys *and values* of deeper layers depend on the rotation
/// in the layers below, so re-rotating cached keys would not give what a fresh pass gives. A state therefore
/// remembers its tokens, and a forward pass that crosses the border computes them again. It happens once in the life
/// of a sequence, and not at all when a prompt is announced in full (`State::expect_length`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Regime {
    /// The sequence is within the original context of every LongRoPE layer, or there is no such layer.
    #[default]
    Short,
    /// It is longer.
    Long,
}

impl RopeSpec {
    /// The regime of a sequence of `length` tokens.
    pub fn regime(&self, length: usize) -> Regime {
        match self.border() {
            Some(border) if length > border => Regime::Long,
            _ => Regime::Short,
        }
    }

    /// The longest sequence in [`Regime::Short`], where there are two regimes.
    pub(crate) fn border(&self) -> Option<usize> {
        match self.scaling {
            RopeScaling::LongRope { original_context, .. } => Some(original_context),
            _ => None,
        }
    }

    /// Radians per position of each pair, `[n_dims / 2]`.
    pub fn frequencies(&self, regime: Regime) -> Vec<f32> {
        let n_pairs = self.n_dims / 2;
        let base = |i: usize| self.theta.powf(-((2 * i) as f64) / self.n_dims as f64);
        let divided_by = |divisors: &[f32]| {
            divisors.iter().take(n_pairs).enumerate().map(|(i, &d)| (base(i) / f64::from(d)) as f32).collect()
        };
        match &self.scaling {
            RopeScaling::None => (0..n_pairs).map(|i| base(i) as f32).collect(),
            RopeScaling::Linear { factor } => (0..n_pairs).map(|i| (base(i) / factor) as f32).collect(),
            &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => (0
                ..n_pairs)
                .map(|i| {
                    let frequency = base(i);
                    let turns = original_context * frequency / (2.0 * PI);
                    let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    blend(frequency / factor, frequency, kept) as f32
                })
                .collect(),
            RopeScaling::Yarn { factor, .. } => {
                let (low, high) = self.yarn_ramp();
                (0..n_pairs)
                    .map(|i| blend(base(i), base(i) / factor, (i as f64 - low) / (high - low)) as f32)
                    .collect()
            }
            RopeScaling::LongRope { short, long, .. } => divided_by(match regime {
                Regime::Short => short,
                Regime::Long => long,
            }),
            RopeScaling::Divisors(divisors) => divided_by(divisors),
        }
    }

    /// Factor on cosines and sines.
    pub fn attention_factor(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor as f32
            }
            _ => 1.0,
        }
    }

    /// The pairs between which YaRN passes from kept to divided frequencies.
    fn yarn_ramp(&self) -> (f64, f64) {
        let RopeScaling::Yarn { beta_fast, beta_slow, original_context, truncate, .. } = self.scaling else {
            return (0.0, 1.0);
        };
        let n_dims = self.n_dims as f64;
        // The pair that turns `turns` times over the original context.
        let pair =
            |turns: f64| n_dims * (original_context / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(n_dims - 1.0));
        if low == high { (low, high + 0.001) } else { (low, high) }
    }
}

/// `a` at `t ≤ 0`, `b` at `t ≥ 1`, linear between.
fn blend(a: f64, b: f64, t: f64) -> f64 {
    let t = t.clamp(0.0, 1.0);
    a * (1.0 - t) + b * t
}

/// The attention factor that YaRN's authors suggest for a context `factor` times as long, weighted by `mscale`.
pub(crate) fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// The attention factor of LongRoPE for a context `factor` times as long as `original_context`.
pub(crate) fn longrope_attention_factor(factor: f64, original_context: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original_context.ln()).sqrt() }
}

/// The frequencies of one [`RopeSpec`] in both regimes, ready to rotate positions.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    /// `[n_dims / 2]`.
    short: Vec<f32>,
    /// `[n_dims / 2]`.
    long: Vec<f32>,
    attention_factor: f32,
}

impl Rope {
    pub(crate) fn new(spec: &RopeSpec) -> Rope {
        Rope {
            short: spec.frequencies(Regime::Short),
            long: spec.frequencies(Regime::Long),
            attention_factor: spec.attention_factor(),
        }
    }

    /// Cosines and sines of `n` positions from `first` on, each `[n, n_dims / 2]`.
    pub(crate) fn fill(&self, regime: Regime, first: usize, cos: &mut [f32], sin: &mut [f32]) {
        let frequencies = match regime {
            Regime::Short => &self.short,
            Regime::Long => &self.long,
        };
        let n_pairs = frequencies.len();
        let rows = cos.chunks_exact_mut(n_pairs).zip(sin.chunks_exact_mut(n_pairs));
        for (position, (cos, sin)) in (first..).zip(rows) {
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies) {
                // The product rounds to f32 as the reference's does; at long positions that is visible.
                let (s, c) = f64::from(position as f32 * frequency).sin_cos();
                *cos = c as f32 * self.attention_factor;
                *sin = s as f32 * self.attention_factor;
            }
        }
    }
}

/// The rotations of all blocks of a network, equal ones once.
#[derive(Debug)]
pub(crate) struct Ropes {
    pub(crate) distinct: Vec<Rope>,
    /// For each block, which of `distinct` it rotates by.
    pub(crate) of_block: Vec<Option<usize>>,
}

impl Ropes {
    pub(crate) fn new(spec: &Spec) -> Ropes {
        let mut specs: Vec<&RopeSpec> = Vec::new();
        let mut of_block = Vec::new();
        for block in &spec.blocks {
            of_block.push(block.rope().map(|rope| {
                specs.iter().position(|known| *known == rope).unwrap_or_else(|| {
                    specs.push(rope);
                    specs.len() - 1
                })
            }));
        }
        Ropes { distinct: specs.into_iter().map(Rope::new).collect(), of_block }
    }
}

/// Cosines and sines of the positions of one chunk, for each distinct rotation.
#[derive(Debug, Default)]
pub(crate) struct RopeTables {
    tables: Vec<(Vec<f32>, Vec<f32>)>,
}

impl RopeTables {
    /// Fills the tables for `n` positions from `first` on.
    pub(crate) fn fill(&mut self, ropes: &Ropes, regime: Regime, first: usize, n: usize) {
        self.tables.resize_with(ropes.distinct.len(), Default::default);
        for (rope, (cos, sin)) in ropes.distinct.iter().zip(&mut self.tables) {
            cos.resize(n * rope.short.len(), 0.0);
            sin.resize(n * rope.short.len(), 0.0);
            rope.fill(regime, first, cos, sin);
        }
    }

    /// The cosines and sines, each `[n, n_dims / 2]`, of rotation `index`.
    pub(crate) fn get(&self, index: usize) -> (&[f32], &[f32]) {
        let (cos, sin) = &self.tables[index];
        (cos, sin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(scaling: RopeScaling) -> RopeSpec {
        RopeSpec { theta: 10_000.0, n_dims: 8, scaling }
    }

    #[test]
    fn llama3_divides_long_wavelengths_and_keeps_short_ones() {
        let plain = spec(RopeScaling::None).frequencies(Regime::Short);
        let (factor, original_context) = (8.0, 64.0);
        let scaling =
            RopeScaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context };
        let scaled = spec(scaling).frequencies(Regime::Short);
        assert_eq!(plain[0], 1.0);
        assert_eq!(scaled[0], plain[0]);
        // 64 · 0.1 / 2π is 1.0186 turns, just inside the passage from divided to kept.
        let kept = (64.0 * 0.1 / (2.0 * std::f32::consts::PI) - 1.0) / 3.0;
        assert!((scaled[1] - (plain[1] / 8.0 * (1.0 - kept) + plain[1] * kept)).abs() < 1e-8);
        assert_eq!(scaled[3], plain[3] / 8.0);
    }

    #[test]
    fn only_longrope_has_a_long_regime() {
        let long = spec(RopeScaling::LongRope {
            short: vec![1.0; 4],
            long: vec![2.0; 4],
            original_context: 32,
            attention_factor: 1.5,
        });
        assert_eq!((long.regime(32), long.regime(33)), (Regime::Short, Regime::Long));
        assert_eq!(spec(RopeScaling::None).regime(1 << 20), Regime::Short);
        let (short, halved) = (long.frequencies(Regime::Short), long.frequencies(Regime::Long));
        assert!(short.iter().zip(&halved).all(|(a, b)| *a == 2.0 * b));
        let rope = Rope::new(&long);
        let (mut cos, mut sin) = ([0.0; 8], [0.0; 8]);
        rope.fill(Regime::Short, 0, &mut cos, &mut sin);
        assert_eq!((cos[0], sin[0]), (1.5, 0.0));
        assert!((cos[4] - 1.5 * 1f32.cos()).abs() < 1e-6 && (sin[4] - 1.5 * 1f32.sin()).abs() < 1e-6);
    }
}
