//! Constant factors that some families multiply parts of the network by.

use super::fields::{Fields, Key};
use crate::error::{ModelError, Result};

/// Factors of a whole network.
pub(super) struct Scales {
    /// On the embedding.
    pub(super) embedding: f32,
    /// On what every block adds to the residual stream.
    pub(super) residual: f32,
    /// On the logits.
    pub(super) logits: f32,
}

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
    const EMBEDDING: Key = Key { hf: "embedding_multiplier", gguf: "embedding_scale" };
    const RESIDUAL: Key = Key { hf: "residual_multiplier", gguf: "residual_scale" };
    const LOGITS: Key = Key { hf: "logits_scaling", gguf: "logit_scale" };
    let factor = |key| Ok::<f32, ModelError>(fields.opt_positive(key)?.map_or(1.0, |factor| factor as f32));
    Ok(Scales { embedding: factor(EMBEDDING)?, residual: factor(RESIDUAL)?, logits: 1.0 / factor(LOGITS)? })
}

/// What Granite multiplies scores by, as the number whose root they are divided by.
pub(super) fn granite_score_divisor(fields: &Fields, head_dim: usize) -> Result<f64> {
    const ATTENTION: Key = Key { hf: "attention_multiplier", gguf: "attention.scale" };
    Ok(fields.opt_positive(ATTENTION)?.map_or(head_dim as f64, |factor| 1.0 / (factor * factor)))
}
