//! Constant factors that some families multiply parts of the network by.

use super::fields::{Fields, Key};
use crate::error::{ModelError, Result};
use crate::spec::Mamba2Scales;

/// Factors of a whole network.
pub(super) struct Scales {
    /// On the embedding.
    pub(super) embedding: f32,
    /// On what every block adds to the residual stream.
    pub(super) residual: f32,
    /// On the logits.
    pub(super) logits: f32,
}

pub(super) const EMBEDDING: Key = Key { hf: "embedding_multiplier", gguf: "embedding_scale" };
pub(super) const RESIDUAL: Key = Key { hf: "residual_multiplier", gguf: "residual_scale" };
/// What logits are divided by.
pub(super) const LOGITS: Key = Key { hf: "logits_scaling", gguf: "logit_scale" };
pub(super) const ATTENTION: Key = Key { hf: "attention_multiplier", gguf: "attention.scale" };

const NONE: Scales = Scales { embedding: 1.0, residual: 1.0, logits: 1.0 };

/// Nothing is scaled.
pub(super) fn unscaled(_: &Fields, _: usize) -> Result<Scales> {
    Ok(NONE)
}

/// The embedding is scaled by the square root of the width (Gemma).
pub(super) fn embedding_by_root_of_width(_: &Fields, hidden_size: usize) -> Result<Scales> {
    Ok(Scales { embedding: (hidden_size as f32).sqrt(), ..NONE })
}

/// The multipliers of Granite.
pub(super) fn granite_scales(fields: &Fields, _: usize) -> Result<Scales> {
    let factor = |key| Ok::<f32, ModelError>(fields.opt_factor(key)?.map_or(1.0, |factor| factor as f32));
    Ok(Scales { embedding: factor(EMBEDDING)?, residual: factor(RESIDUAL)?, logits: 1.0 / factor(LOGITS)? })
}

/// What `factor` is the reciprocal of, to the last bit where there is such a number.
pub(super) fn reciprocal(factor: f32) -> f32 {
    let near = 1.0 / factor;
    let candidates = [near, near.next_down(), near.next_up()];
    candidates.into_iter().find(|candidate| 1.0 / candidate == factor).unwrap_or(near)
}

/// What Granite multiplies scores by, as the number whose root they are divided by.
pub(super) fn granite_score_divisor(fields: &Fields, head_dim: usize) -> Result<f64> {
    Ok(fields.opt_factor(ATTENTION)?.map_or(head_dim as f64, |factor| 1.0 / (factor * factor)))
}

/// The multipliers of Falcon-H1. (Converters to GGUF multiply the weights by them.)
pub(super) fn falcon_scales(fields: &Fields, _: usize) -> Result<Scales> {
    let embedding = multiplier(fields, "embedding_multiplier")?;
    Ok(Scales { embedding, residual: 1.0, logits: multiplier(fields, "lm_head_multiplier")? })
}

/// What Falcon-H1 multiplies keys by is a factor on the scores.
pub(super) fn falcon_score_divisor(fields: &Fields, head_dim: usize) -> Result<f64> {
    let factor = f64::from(multiplier(fields, "key_multiplier")?);
    Ok(head_dim as f64 / (factor * factor))
}

/// One factor of `config.json`; 1 where there is none.
pub(super) fn multiplier(fields: &Fields, name: &'static str) -> Result<f32> {
    Ok(fields.opt_factor(Key { hf: name, gguf: "" })?.map_or(1.0, |factor| factor as f32))
}

/// Factors on the parts of what goes into Mamba-2, where the configuration has any.
pub(super) fn mamba2_scales(fields: &Fields) -> Result<Option<Mamba2Scales>> {
    let scales = multipliers(fields, "ssm_multipliers")?;
    Ok(scales.map(|[z, x, b, c, dt]| Mamba2Scales { z, x, b, c, dt }))
}

/// Factors on what goes into the non-linearity of a feed-forward network, and on what it gives.
pub(super) fn network_scales(fields: &Fields) -> Result<[f32; 2]> {
    Ok(multipliers(fields, "mlp_multipliers")?.unwrap_or([1.0, 1.0]))
}

fn multipliers<const N: usize>(fields: &Fields, name: &str) -> Result<Option<[f32; N]>> {
    let Some(view) = fields.hf() else { return Ok(None) };
    let Some(all) = view.opt_f32s(name)? else { return Ok(None) };
    let is_sound = |factor: &f32| factor.abs() <= 1e6;
    if let Some(i) = all.iter().position(|factor| !is_sound(factor)) {
        return Err(view.wrong(name, format!("numbers from -1e6 to 1e6, which number {i} is not")).into());
    }
    all.try_into().map(Some).map_err(|_| view.wrong(name, format!("{N} numbers")).into())
}
