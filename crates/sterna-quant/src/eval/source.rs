//! Where logits come from: a model, or in tests a table.

use std::sync::Arc;

use sterna_model::{KvType, Logits, MAX_CHUNK, Model, State, Workspace, forward};
use sterna_tensor::{Compute, Pool};

use super::Result;

/// Something that predicts the next token.
pub trait LogitSource {
    /// Logits of one position.
    fn vocab_size(&self) -> usize;

    /// Most tokens of a sequence.
    fn context_length(&self) -> usize;

    /// Runs the sequence `tokens` and shows `visit` the logits after positions `first..tokens.len()`, in ascending
    /// order and some at a time: the threads to work with, the first position, and `[n_positions, vocab_size]`.
    ///
    /// # Errors
    /// Those of the forward pass.
    fn logits(&mut self, tokens: &[u32], first: usize, visit: &mut Visit<'_>) -> Result<()>;
}

/// Takes logits: threads, first position, `[n_positions, vocab_size]`.
pub type Visit<'a> = dyn FnMut(&Pool, usize, &[f32]) + 'a;

/// Memory for logits. A window of 512 over a vocabulary of 262,144 would take four times as much.
const MAX_LOGIT_BYTES: usize = 128 << 20;

/// Tokens in common with the sequence before that are worth keeping: choices share their question.
const MIN_SHARED: usize = 16;

/// A model that runs one sequence after the other, many tokens per forward pass.
pub struct Runner {
    model: Arc<Model>,
    compute: Arc<Compute>,
    state: State,
    workspace: Workspace,
}

impl Runner {
    /// A model and what it runs on, with keys and values stored as `kv`.
    pub fn new(model: &Arc<Model>, compute: &Arc<Compute>, kv: KvType) -> Runner {
        Runner {
            state: State::new(model, kv),
            workspace: Workspace::new(),
            model: Arc::clone(model),
            compute: Arc::clone(compute),
        }
    }

    /// Positions whose logits are made at once.
    fn logits_per_pass(&self) -> usize {
        let row_bytes = self.vocab_size() * size_of::<f32>();
        (MAX_LOGIT_BYTES / row_bytes).clamp(1, MAX_CHUNK)
    }
}

impl LogitSource for Runner {
    fn vocab_size(&self) -> usize {
        self.model.spec().vocab_size
    }

    fn context_length(&self) -> usize {
        self.model.spec().context_length
    }

    fn logits(&mut self, tokens: &[u32], first: usize, visit: &mut Visit<'_>) -> Result<()> {
        let step = self.logits_per_pass();
        let Runner { model, compute, state, workspace } = self;
        let shared = state.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count().min(first);
        state.truncate(if shared < MIN_SHARED { 0 } else { shared });
        state.expect_length(tokens.len());
        if state.len() < first {
            let unseen = &tokens[state.len()..first];
            forward(model, compute, state, workspace, unseen, Logits::Last)?;
        }
        for chunk in tokens[first..].chunks(step) {
            let position = state.len();
            let logits = forward(model, compute, state, workspace, chunk, Logits::All)?;
            visit(&compute.pool, position, logits);
        }
        Ok(())
    }
}
