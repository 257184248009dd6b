//! AWQ, activation-aware weight quantization (arXiv:2306.00978): channels that carry large activations get larger
//! weights, and so smaller rounding errors, before anything is rounded.
//!
//! A channel's scale is its mean magnitude to a power; which power is found by trying: the weights are scaled, rounded,
//! scaled back, and the output of the block's part on calibration text is compared with the true one (section 3.2 of
//! the paper, and its published code, `auto_scale.py`). Then the scales are folded into the norms and layers before, so
//! that nothing is left of them at run time.
//!
//! Where the published code gives up, on values that several query heads share, the scales of those heads are averaged.

mod folds;

use sterna_model::Layerwise;
use sterna_model::layerwise::{FloatBlock, FloatLinear, LayerwiseScratch, RunnableBlock};
use sterna_tensor::{Compute, PackedFormat};

pub use folds::{Fold, Judge, Maker, folds};

use crate::error::{QuantError, Result};
use crate::observe::{Input, Observations};
use crate::rounding::round_scaled;

/// Powers that may be tried: 0, 1/20, … 19/20.
const N_POWERS: usize = 20;

/// Which of the powers are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Powers {
    /// All of them, as published.
    All,
    /// Every other one, and the neighbours of the best of those: the error has one valley, give or take noise.
    CoarseToFine,
}

/// What scaling did to one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// The first layer that reads it.
    pub layer: String,
    /// The best power.
    pub power: f32,
    /// Mean squared error of the judged output without scaling.
    pub error_before: f64,
    /// The same with it.
    pub error_after: f64,
}

/// Scales the channels of `block`, block `index` of `network`, in place, and the `observations` of its inputs with it.
///
/// `format_of` is what a layer will be rounded to; without a format it takes no part in the search.
///
/// # Errors
/// Weights that their format cannot hold.
pub fn scale_block(
    network: &Layerwise,
    index: usize,
    block: &mut FloatBlock,
    observations: &mut Observations,
    format_of: &dyn Fn(&FloatLinear) -> Option<PackedFormat>,
    powers: Powers,
    c: &Compute,
) -> Result<Vec<Scaling>> {
    let mut scalings = Vec::new();
    for fold in folds(&network.spec().blocks[index], block) {
        let Some(input) = observations.of(&fold.readers[0]) else { continue };
        let trial = Trial { network, index, fold: &fold, input, format_of, powers, c };
        let (scaling, scales) = trial.search(block)?;
        fold.apply(block, &scales);
        // What is read is now smaller by the scales; experts are observed under names of their own.
        for reader in &fold.readers {
            if let Some(input) = observations.of_mut(reader) {
                input.divide(&scales);
            }
        }
        scalings.push(scaling);
    }
    Ok(scalings)
}

/// The search for the scales of one input.
struct Trial<'a> {
    network: &'a Layerwise,
    index: usize,
    fold: &'a Fold,
    input: &'a Input,
    format_of: &'a dyn Fn(&FloatLinear) -> Option<PackedFormat>,
    powers: Powers,
    c: &'a Compute,
}

impl Trial<'_> {
    fn search(&self, block: &FloatBlock) -> Result<(Scaling, Vec<f32>)> {
        let magnitudes = self.input.mean_magnitudes();
        let mut runnable = self.network.runnable(self.index, block)?;
        let mut scratch = LayerwiseScratch::default();
        let wanted = self.outputs(&runnable, &mut scratch);
        let mut error_of = |step: usize| -> Result<f64> {
            for (layer, weight) in self.rounded(block, &self.scales(&magnitudes, power(step))) {
                runnable.replace(&layer, weight)?;
            }
            Ok(mean_squared_error(&wanted, &self.outputs(&runnable, &mut scratch)))
        };
        let mut errors = [f64::INFINITY; N_POWERS];
        let stride = if self.powers == Powers::All { 1 } else { 2 };
        for step in (0..N_POWERS).step_by(stride) {
            errors[step] = error_of(step)?;
        }
        let coarse = least(&errors);
        for step in [coarse.saturating_sub(1), coarse + 1] {
            if errors.get(step) == Some(&f64::INFINITY) {
                errors[step] = error_of(step)?;
            }
        }
        let (layer, step) = (self.fold.readers[0].clone(), least(&errors));
        if !errors[step].is_finite() {
            return Err(QuantError::NotFinite { layer, what: "outputs" });
        }
        let (error_before, error_after) = (errors[0], errors[step]);
        let scaling = Scaling { layer, power: power(step), error_before, error_after };
        Ok((scaling, self.scales(&magnitudes, power(step))))
    }

    /// `magnitudes` to `power`, the largest and the smallest equally far from one.
    fn scales(&self, magnitudes: &[f32], power: f32) -> Vec<f32> {
        let mut scales: Vec<f32> =
            magnitudes.iter().map(|magnitude| magnitude.powf(power).max(1e-4)).collect();
        self.fold.tie(&mut scales);
        let (smallest, largest) = scales
            .iter()
            .fold((f32::INFINITY, 0f32), |(low, high), &scale| (low.min(scale), high.max(scale)));
        let middle = (smallest * largest).sqrt();
        scales.iter_mut().for_each(|scale| *scale /= middle);
        scales
    }

    /// The readers' weights scaled, rounded, and scaled back.
    fn rounded(&self, block: &FloatBlock, scales: &[f32]) -> Vec<(String, Vec<f32>)> {
        let readers = block.linears().into_iter().filter(|layer| self.fold.readers.contains(&layer.name));
        let rounded = readers.filter_map(|layer| {
            let format = (self.format_of)(layer)?;
            Some((layer.name.clone(), round_scaled(&layer.weight, format, scales, &self.c.pool)))
        });
        rounded.collect()
    }

    /// What the judge sees of the sample, sequence by sequence.
    fn outputs(&self, block: &RunnableBlock, scratch: &mut LayerwiseScratch) -> Vec<Vec<f32>> {
        let output = |x: &Vec<f32>| match self.fold.judge {
            Judge::Mixer => self.network.mixer_output(self.c, block, scratch, x),
            Judge::FeedForward => self.network.feed_forward_output(self.c, block, scratch, x),
            Judge::Layer => self.network.layer_output(self.c, block, &self.fold.readers[0], x),
        };
        self.input.sample.iter().map(output).collect()
    }
}

fn power(step: usize) -> f32 {
    step as f32 / N_POWERS as f32
}

/// Where the least of `errors` is, the first of several.
fn least(errors: &[f64]) -> usize {
    (0..errors.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b])).unwrap_or(0)
}

fn mean_squared_error(wanted: &[Vec<f32>], got: &[Vec<f32>]) -> f64 {
    let squares = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let pairs = wanted.iter().zip(got);
    let sum: f64 = pairs.map(|(a, b)| a.iter().zip(b).map(squares).sum::<f64>()).sum();
    sum / wanted.iter().map(Vec::len).sum::<usize>().max(1) as f64
}
