//! Rounding one layer by a method.

use sterna_model::layerwise::FloatLinear;
use sterna_tensor::{Compute, PackedFormat, ShapeError};

use crate::error::{QuantError, Result};
use crate::observe::Input;
use crate::recipe::Method;
use crate::rounding::{
    self, Damping, Factor, Gram, Grids, Order, Quantized, Refit, Search, compensate, gptq, refit,
    round_to_nearest,
};

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

/// Rows that were rounded, with the sums over their outputs of what those lost, and of what they were (mean squares).
struct Rounded {
    quantized: Quantized,
    lost: f64,
    own: f64,
}

impl LayerRounding<'_> {
    /// What error compensation follows for the layers that read `input`, where the method has it.
    pub(crate) fn factor(&self, layer: &str, input: &Input) -> Result<Option<Factor>> {
        let damping = match self.method {
            Method::Gptq => Damping::Mean(0.01),
            Method::Auto => Damping::Mean(DAMPING * input.gram.cols() as f32 / input.gram.n_tokens() as f32),
            Method::Rtn | Method::Awq => return Ok(None),
        };
        let factor = Factor::new(&input.gram, damping, Order::Importance, self.c);
        factor.map(Some).map_err(|source| QuantError::Rounding { layer: layer.to_owned(), source })
    }

    /// Rounds `layer`, and says the error of its output relative to the output: `tr(Δ H Δᵀ) / tr(W H Wᵀ)`. A layer that no
    /// token came by is rounded to nearest.
    pub(crate) fn round(
        &self,
        layer: &FloatLinear,
        format: PackedFormat,
        input: Option<&Input>,
        factor: Option<&Factor>,
    ) -> Result<(Quantized, Option<f64>)> {
        let FloatLinear { name, rows, cols, weight, .. } = layer;
        let wrong = |source| QuantError::Rounding { layer: name.clone(), source };
        let n_rows = (BATCH / cols.max(&1)).max(1);
        let mut whole: Option<Rounded> = None;
        for (i, weight) in weight.chunks(n_rows * cols.max(&1)).enumerate() {
            let rounded = match input {
                Some(input) => self.fitted(weight, *cols, format, &input.gram, factor),
                None => self.unseen(weight, *cols, format),
            };
            let rounded = rounded.map_err(|error| wrong(error.of_rows_from(i * n_rows)))?;
            match &mut whole {
                None => whole = Some(rounded),
                Some(whole) => whole.append(rounded),
            }
        }
        let empty = || wrong(ShapeError::Empty { rows: *rows, cols: *cols }.into());
        let Rounded { quantized, lost, own } = whole.ok_or_else(empty)?;
        let error = lost / own.max(f64::MIN_POSITIVE);
        match (input, error.is_finite()) {
            (None, _) => Ok((quantized, None)),
            (Some(_), true) => Ok((quantized, Some(error))),
            (Some(_), false) => Err(QuantError::NotFinite { layer: name.clone(), what: "errors" }),
        }
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
        let nearest = || {
            let importance = gram.diagonal();
            round_to_nearest(weight, rows, cols, format, Some(&importance), Search::Clip, &c.pool)
        };
        let judged = |quantized: Quantized| {
            let mut delta = quantized.dequantize(&c.pool);
            delta.iter_mut().zip(weight).for_each(|(rounded, weight)| *rounded -= weight);
            Rounded { quantized, lost: gram.error(c, &delta), own: 0.0 }
        };
        let best = match (self.method, factor) {
            (Method::Gptq, Some(factor)) => {
                judged(gptq(weight, rows, format, factor, Grids::default(), Search::Clip, c)?)
            }
            (Method::Auto, Some(factor)) => {
                let nearest = nearest()?;
                let mut fitted = nearest.clone();
                compensate(weight, factor, &mut fitted, c)?;
                refit(weight, gram, factor, &mut fitted, Refit::default(), c)?;
                let (fitted, nearest) = (judged(fitted), judged(nearest));
                if nearest.lost < fitted.lost { nearest } else { fitted }
            }
            _ => judged(nearest()?),
        };
        Ok(Rounded { own: gram.error(c, weight), ..best })
    }

    fn unseen(&self, weight: &[f32], cols: usize, format: PackedFormat) -> rounding::Result<Rounded> {
        let search = if self.method == Method::Rtn { Search::MinMax } else { Search::Clip };
        let rows = weight.len() / cols;
        let quantized = round_to_nearest(weight, rows, cols, format, None, search, &self.c.pool)?;
        Ok(Rounded { quantized, lost: 0.0, own: 0.0 })
    }
}

impl Rounded {
    fn append(&mut self, below: Rounded) {
        self.quantized.append(below.quantized);
        self.lost += below.lost;
        self.own += below.own;
    }
}
