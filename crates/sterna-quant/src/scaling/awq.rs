//! AWQ, activation-aware weight quantization (arXiv:2306.00978): a channel's scale is its mean magnitude to a power.
//!
//! Which power is found by trying: the weights are scaled, rounded, scaled back, and the output of the block's part on
//! calibration text is compared with the true one (section 3.2 of the paper, and its published code, `auto_scale.py`).
//! The published code rounds with the whole range of each group there and searches ranges only when the powers are fixed;
//! here ranges are searched in every trial, as they will be: what a narrower range can clip needs no scale.

use sterna_model::Layerwise;
use sterna_model::layerwise::{FloatBlock, FloatLinear, LayerwiseScratch, RunnableBlock};
use sterna_tensor::{Compute, PackedFormat};

use super::{Fold, Found, Judge, N_POWERS, Scaling, folds, least, power};
use crate::error::{QuantError, Result};
use crate::observe::{Input, Observations};
use crate::rounding::round_scaled;

/// Scales for the inputs of `block`, block `index` of `network`, in the order in which data flows. Each is found with all
/// others at one: what a fold does to the rows of a layer leaves the errors of that layer's groups in proportion.
///
/// `format_of` is what a layer will be rounded to; without a format it takes no part in the search.
///
/// # Errors
/// Outputs that are no numbers.
pub fn search(
    network: &Layerwise,
    index: usize,
    block: &FloatBlock,
    observations: &Observations,
    format_of: &dyn Fn(&FloatLinear) -> Option<PackedFormat>,
    c: &Compute,
) -> Result<Vec<Found>> {
    let folds = folds(&network.spec().blocks[index], block).into_iter();
    let seen = folds.filter_map(|fold| Some((observations.of(&fold.readers[0])?, fold)));
    let found = seen.map(|(input, fold)| {
        let (scaling, scales) = Trial { network, index, fold: &fold, input, format_of, c }.search(block)?;
        Ok(Found { fold, scaling, scales })
    });
    found.collect()
}

/// The search for the scales of one input.
struct Trial<'a> {
    network: &'a Layerwise,
    index: usize,
    fold: &'a Fold,
    input: &'a Input,
    format_of: &'a dyn Fn(&FloatLinear) -> Option<PackedFormat>,
    c: &'a Compute,
}

impl Trial<'_> {
    fn search(&self, block: &FloatBlock) -> Result<(Scaling, Vec<f32>)> {
        let (magnitudes, importance) = (self.input.mean_magnitudes(), self.input.gram.diagonal());
        let mut runnable = self.network.runnable(self.index, block)?;
        let mut scratch = LayerwiseScratch::default();
        let wanted = self.outputs(&runnable, &mut scratch);
        let mut errors = [0.0; N_POWERS];
        for (step, error) in errors.iter_mut().enumerate() {
            let scales = self.fold.scales(&magnitudes, power(step));
            for (layer, weight) in self.rounded(block, &scales, &importance)? {
                runnable.replace(&layer, weight)?;
            }
            *error = mean_squared_error(&wanted, &self.outputs(&runnable, &mut scratch));
        }
        let (layer, step) = (self.fold.readers[0].clone(), least(&errors));
        if !errors[step].is_finite() {
            return Err(QuantError::NotFinite { layer, what: "outputs" });
        }
        let (error_before, error_after) = (errors[0], errors[step]);
        let scaling = Scaling { layer, power: power(step), error_before, error_after };
        Ok((scaling, self.fold.scales(&magnitudes, power(step))))
    }

    /// The readers' weights scaled, rounded, and scaled back.
    fn rounded(
        &self,
        block: &FloatBlock,
        scales: &[f32],
        importance: &[f32],
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let readers = block.linears().into_iter().filter(|layer| self.fold.readers.contains(&layer.name));
        let rounded = readers.filter_map(|layer| {
            let format = (self.format_of)(layer)?;
            let rounded = round_scaled(&layer.weight, format, scales, importance, &self.c.pool);
            let rounded =
                rounded.map_err(|source| QuantError::Rounding { layer: layer.name.clone(), source });
            Some(rounded.map(|weight| (layer.name.clone(), weight)))
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

fn mean_squared_error(wanted: &[Vec<f32>], got: &[Vec<f32>]) -> f64 {
    let squares = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let pairs = wanted.iter().zip(got);
    let sum: f64 = pairs.map(|(a, b)| a.iter().zip(b).map(squares).sum::<f64>()).sum();
    sum / wanted.iter().map(Vec::len).sum::<usize>().max(1) as f64
}
