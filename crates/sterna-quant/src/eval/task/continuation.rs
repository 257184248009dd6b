//! How likely a model finds it that a text goes on as it does.

use super::Subject;
use crate::eval::perplexity::score;
use crate::eval::{EvalError, LogitSource, Result};

/// A continuation in the eyes of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Continuation {
    /// Negative log-likelihood of all its tokens together, in nats.
    pub(super) nll: f64,
    /// Whether each of its tokens is the likeliest one.
    pub(super) is_greedy: bool,
}

/// How `text` follows `context`. Both are tokenized together, as the model would see them, and the tokens that `context`
/// alone would have are its; where one token reaches over the border, it belongs to the continuation.
pub(super) fn continuation(subject: &mut Subject<'_>, context: &str, text: &str) -> Result<Continuation> {
    let tokens = subject.tokens(&format!("{context}{text}"))?;
    let alone = subject.tokens(context)?;
    let shared = tokens.iter().zip(&alone).take_while(|(a, b)| a == b).count();
    // The first token of all has nothing that could predict it.
    let border = shared.clamp(1, tokens.len().max(2) - 1);
    let Some((_, seen)) = tokens.split_last().filter(|(_, seen)| !seen.is_empty()) else {
        return Ok(Continuation { nll: 0.0, is_greedy: false });
    };
    let (found, context_length) = (seen.len(), subject.runner.context_length());
    if found > context_length {
        return Err(EvalError::ContextTooShort { found, context_length });
    }
    let targets = &tokens[border..];
    let scores = score(&mut subject.runner, seen, border - 1, targets, &|score| {
        (score.nll(), score.row.top == score.target)
    })?;
    Ok(Continuation {
        nll: scores.iter().map(|(nll, _)| nll).sum(),
        is_greedy: scores.iter().all(|(_, is_top)| *is_top),
    })
}
