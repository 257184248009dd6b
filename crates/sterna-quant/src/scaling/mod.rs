//! Scaling channels before anything is rounded: those where an error costs more get larger weights, and so smaller errors.
//!
//! A channel's scale is a power of what says how much it counts. [`awq`] takes its mean magnitude and finds the power by
//! trying; [`compensated`] takes what is left of it once the other channels have made up for its errors. The scales are then
//! folded into the norms and layers before, so that nothing is left of them at run time ([`folds`]).
//!
//! Where AWQ's published code gives up, on values that several query heads share, the scales of those heads are averaged.

pub mod awq;
pub mod compensated;
mod folds;

use sterna_model::layerwise::FloatBlock;

use crate::observe::Observations;

pub(crate) use folds::multiply_columns;
pub use folds::{Fold, Judge, Maker, folds};

/// Powers that are compared: 0, 1/20, … 19/20.
const N_POWERS: usize = 20;

/// What scaling did to one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// The first layer that reads it.
    pub layer: String,
    /// The best power.
    pub power: f32,
    /// The error that the search looks at, without scaling.
    pub error_before: f64,
    /// The same with it.
    pub error_after: f64,
}

/// Scales that a search found for one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Where they go.
    pub fold: Fold,
    /// What they gain.
    pub scaling: Scaling,
    /// One for each channel.
    pub scales: Vec<f32>,
}

impl Found {
    /// Scales the input in `block`, and what was observed of it.
    pub fn apply(&self, block: &mut FloatBlock, observations: &mut Observations) {
        self.fold.apply(block, &self.scales);
        observations.divide(&self.fold.readers, &self.scales);
    }

    /// What is left to be done of this once `other`, scales of the same input, were applied.
    pub(crate) fn after(&self, other: &Found) -> Found {
        let scales = self.scales.iter().zip(&other.scales).map(|(own, other)| own / other).collect();
        Found { scales, ..self.clone() }
    }
}

fn power(step: usize) -> f32 {
    step as f32 / N_POWERS as f32
}

/// Where the least of `errors` is, the first of several.
fn least(errors: &[f64]) -> usize {
    (0..errors.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b])).unwrap_or(0)
}

impl Fold {
    /// `sizes` of the channels to `power`, the largest and the smallest equally far from one.
    fn scales(&self, sizes: &[f32], power: f32) -> Vec<f32> {
        let mut scales: Vec<f32> = sizes.iter().map(|size| size.powf(power).max(1e-4)).collect();
        self.tie(&mut scales);
        let (smallest, largest) = scales
            .iter()
            .fold((f32::INFINITY, 0f32), |(low, high), &scale| (low.min(scale), high.max(scale)));
        let middle = (smallest * largest).sqrt();
        scales.iter_mut().for_each(|scale| *scale /= middle);
        scales
    }
}
