//! Rounding one layer by a method.

use sterna_model::layerwise::FloatLinear;
use sterna_tensor::{Compute, PackedFormat, ShapeError};

use crate::error::{QuantError, Result};
use crate::observe::Input;
use crate::recipe::Method;
use crate::rounding::{
    self, Damping, Factor, Gram, Grids, GroupMoments, Order, Quantized, Refit, Search, compensate, gptq,
    refit, round_to_nearest,
};
use crate::scaling::multiply_columns;

/// Weights that are rounded at a time. Rounding takes several times their memory, which the head of a model, much larger
/// than its other layers, must not.
const BATCH: usize = 1 << 24;

/// Damping of `auto` when there are as many tokens as inputs, and so much less with more: the fewer tokens, the less is
/// known of how inputs go together on other text.
const DAMPING: f32 = 2.0;

/// How layers are rounded.
pub(crate) struct LayerRounding<'a> {
    pub(crate) method: Method,
    pub(crate) c: &'a Compute,
}

/// A layer, or some rows of it, that was rounded.
pub(crate) struct Rounded {
    pub(crate) quantized: Quantized,
    /// Of its outputs, where its inputs are known.
    pub(crate) error: Option<OutputError>,
}

/// What a layer's outputs lost, and what they were: mean squares, summed over outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutputError {
    /// `tr(Δ H Δᵀ)`.
    pub(crate) lost: f64,
    /// `tr(W H Wᵀ)`.
    own: f64,
}

impl OutputError {
    /// What was lost, relative to what was there.
    pub(crate) fn relative(self) -> f64 {
        self.lost / self.own.max(f64::MIN_POSITIVE)
    }
}

impl LayerRounding<'_> {
    /// What error compensation follows for the layers that read `input`, where the method has it.
    pub(crate) fn factor(&self, layer: &str, input: &Input) -> Result<Option<Factor>> {
        let damping = match self.method {
            Method::Gptq => Damping::Mean(0.01),
            Method::Auto => Damping::Own(DAMPING * input.gram.cols() as f32 / input.gram.n_tokens() as f32),
            Method::Rtn | Method::Awq => return Ok(None),
        };
        let factor = Factor::new(&input.gram, damping, Order::Importance, self.c);
        factor.map(Some).map_err(|source| QuantError::Rounding { layer: layer.to_owned(), source })
    }

    /// Rounds `layer`. A layer that no token came by is rounded to nearest.
    pub(crate) fn round(
        &self,
        layer: &FloatLinear,
        format: PackedFormat,
        input: Option<&Input>,
        factor: Option<&Factor>,
    ) -> Result<Rounded> {
        let mut whole: Option<Rounded> = None;
        self.in_batches(layer, |weight| {
            let rounded = match input {
                Some(input) => self.fitted(weight, layer.cols, format, &input.gram, factor)?,
                None => self.unseen(weight, layer.cols, format)?,
            };
            match &mut whole {
                None => whole = Some(rounded),
                Some(whole) => whole.append(rounded),
            }
            Ok(())
        })?;
        let FloatLinear { name, rows, cols, .. } = layer;
        let whole = whole.ok_or_else(|| {
            let source = ShapeError::Empty { rows: *rows, cols: *cols }.into();
            QuantError::Rounding { layer: name.clone(), source }
        })?;
        match whole.error {
            Some(error) if !error.relative().is_finite() => {
                Err(QuantError::NotFinite { layer: name.clone(), what: "errors" })
            }
            _ => Ok(whole),
        }
    }

    /// What the outputs of `layer` would lose, as [`OutputError::lost`], if its columns were multiplied by `scales`, rounded
    /// to nearest, ranges searched, and divided again: all that AWQ does.
    pub(crate) fn lost_to_nearest(
        &self,
        layer: &FloatLinear,
        format: PackedFormat,
        gram: &Gram,
        scales: &[f32],
    ) -> Result<f64> {
        let cols = layer.cols;
        let moments = GroupMoments::new(gram, format, Some(scales), self.c);
        let moments = moments.map_err(|source| QuantError::Rounding { layer: layer.name.clone(), source })?;
        let mut lost = 0.0;
        self.in_batches(layer, |weight| {
            let rows = weight.len() / cols;
            let mut scaled = weight.to_vec();
            multiply_columns(&mut scaled, scales);
            let mut delta = moments.round(&scaled, rows, self.c)?.dequantize(&self.c.pool);
            for (delta, weight) in delta.chunks_exact_mut(cols).zip(weight.chunks_exact(cols)) {
                delta.iter_mut().zip(weight).zip(scales).for_each(|((d, w), scale)| *d = *d / scale - w);
            }
            lost += gram.error(self.c, &delta);
            Ok(())
        })?;
        Ok(lost)
    }

    /// Hands the weights of `layer` to `each`, [`BATCH`] of them at a time, in whole rows.
    fn in_batches(
        &self,
        layer: &FloatLinear,
        mut each: impl FnMut(&[f32]) -> rounding::Result<()>,
    ) -> Result<()> {
        let cols = layer.cols.max(1);
        let n_rows = (BATCH / cols).max(1);
        for (i, weight) in layer.weight.chunks(n_rows * cols).enumerate() {
            each(weight).map_err(|error| QuantError::Rounding {
                layer: layer.name.clone(),
                source: error.of_rows_from(i * n_rows),
            })?;
        }
        Ok(())
    }

    /// Rows of which is known what they are multiplied by.
    fn fitted(
        &self,
        weight: &[f32],
        cols: usize,
        format: PackedFormat,
        gram: &Gram,
        factor: Option<&Factor>,
    ) -> rounding::Result<Rounded> {
        let (c, rows) = (self.c, weight.len() / cols);
        let nearest = || GroupMoments::new(gram, format, None, c)?.round(weight, rows, c);
        let own = gram.error(c, weight);
        let judged = |quantized: Quantized| {
            let mut delta = quantized.dequantize(&c.pool);
            delta.iter_mut().zip(weight).for_each(|(rounded, weight)| *rounded -= weight);
            (gram.error(c, &delta), quantized)
        };
        let (lost, quantized) = match (self.method, factor) {
            (Method::Gptq, Some(factor)) => {
                judged(gptq(weight, rows, format, factor, Grids::default(), Search::Clip, c)?)
            }
            (Method::Auto, Some(factor)) => {
                // Grids that are judged by their groups gain nothing where other groups make up for errors.
                let importance = gram.diagonal();
                let mut fitted =
                    round_to_nearest(weight, rows, cols, format, Some(&importance), Search::Clip, &c.pool)?;
                compensate(weight, factor, &mut fitted, c)?;
                refit(weight, gram, factor, &mut fitted, Refit::default(), c)?;
                let (fitted, nearest) = (judged(fitted), judged(nearest()?));
                if nearest.0 < fitted.0 { nearest } else { fitted }
            }
            _ => judged(nearest()?),
        };
        Ok(Rounded { quantized, error: Some(OutputError { lost, own }) })
    }

    fn unseen(&self, weight: &[f32], cols: usize, format: PackedFormat) -> rounding::Result<Rounded> {
        let search = if self.method == Method::Rtn { Search::MinMax } else { Search::Clip };
        let rows = weight.len() / cols;
        let quantized = round_to_nearest(weight, rows, cols, format, None, search, &self.c.pool)?;
        Ok(Rounded { quantized, error: None })
    }
}

impl Rounded {
    fn append(&mut self, below: Rounded) {
        self.quantized.append(below.quantized);
        if let (Some(error), Some(below)) = (&mut self.error, below.error) {
            error.lost += below.lost;
            error.own += below.own;
        }
    }
}
