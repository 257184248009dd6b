//! What one token does with the weights.

use sterna::spec::FeedForwardSpec;
use sterna::{Matrix, Model};

/// Bytes of the matrices that one decode step multiplies with, the head among them: of experts, as many as are active.
pub(super) fn bytes_per_token(model: &Model) -> usize {
    per_token(model, Matrix::n_bytes)
}

/// Multiply-adds of the same matrices with one token.
pub(super) fn multiply_adds_per_token(model: &Model) -> usize {
    per_token(model, |matrix| matrix.rows() * matrix.cols())
}

fn per_token(model: &Model, of: impl Fn(&Matrix) -> usize) -> usize {
    let (experts, others): (Vec<_>, Vec<_>) = model.matrices().partition(|(name, _)| is_expert(name));
    let sum = |matrices: Vec<(&str, &Matrix)>| -> usize {
        matrices.into_iter().map(|(_, matrix)| of(matrix)).sum()
    };
    // Every layer of a model has the same experts, so the first one's share is that of all.
    let share = model.spec().blocks.iter().find_map(|block| match &block.feed_forward {
        FeedForwardSpec::Moe(moe) => Some((moe.n_active, moe.n_experts)),
        _ => None,
    });
    let (n_active, n_experts) = share.unwrap_or((1, 1));
    sum(others) + sum(experts) / n_experts.max(1) * n_active
}

/// Names of expert tensors in GGUF files (`ffn_up_exps`) and Hugging Face ones (`mlp.experts.7.up_proj`).
fn is_expert(name: &str) -> bool {
    name.contains("_exps.") || name.contains(".experts.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_known_by_name() {
        assert!(
            is_expert("blk.3.ffn_up_exps.weight") && is_expert("model.layers.0.mlp.experts.7.up_proj.weight")
        );
        assert!(!is_expert("blk.3.ffn_up.weight") && !is_expert("blk.3.ffn_gate_inp.weight"));
    }
}
