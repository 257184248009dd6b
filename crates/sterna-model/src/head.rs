//! From the last norm to logits: the head, a scale, a soft cap.

use sterna_tensor::{Activations, Compute, ops};

use crate::linear::{Linear, project_head};
use crate::spec::Spec;

/// Logits `[n, vocab_size]` of `normed` `[n, hidden_size]`.
pub(crate) fn logits(
    c: &Compute,
    spec: &Spec,
    head: &Linear,
    normed: &[f32],
    input: &mut Activations,
    logits: &mut [f32],
) {
    project_head(c, normed, head, input, logits);
    if spec.logit_scale != 1.0 {
        ops::scale(logits, spec.logit_scale);
    }
    if let Some(cap) = spec.logit_softcap {
        logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
    }
}
