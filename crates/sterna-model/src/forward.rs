//! The fast forward pass: one loop over blocks, the same for every architecture.

use sterna_tensor::Compute;

use crate::block::{self, Block, BlockScratch};
use crate::error::{ModelError, Result};
use crate::head;
use crate::mixer::Pass;
use crate::model::Model;
use crate::rows;
use crate::spec::Spec;
use crate::state::State;
use crate::tap::{Site, Tap};
use crate::workspace::{Workspace, sized};

/// Tokens that go through the network together at most; longer inputs are cut. More would not make the weights'
/// trip through the cache any cheaper, and would take the activations out of it.
pub const MAX_CHUNK: usize = 512;

/// Which positions of the input logits are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// The last one.
    Last,
    /// All of them.
    All,
}

/// Runs `tokens` through `model` after what `state` has seen, and adds them to it. Returns the logits
/// `[n_logits, vocab_size]`, which stay in `workspace`.
///
/// Any way of cutting a sequence into calls gives the same logits, up to float rounding. (LongRoPE models rotate by
/// the length of the whole sequence, so with them earlier logits are those of the sequence as long as it was then;
/// see [`State::expect_length`].)
///
/// # Errors
/// [`ModelError::NoTokens`], [`ModelError::TokenOutOfRange`], [`ModelError::ContextOverflow`], and
/// [`ModelError::Mismatch`] when `state` belongs to another model. The state is then as it was.
pub fn forward<'w>(
    model: &Model,
    compute: &Compute,
    state: &mut State,
    workspace: &'w mut Workspace,
    tokens: &[u32],
    logits: Logits,
) -> Result<&'w [f32]> {
    forward_tapped(model, compute, state, workspace, tokens, logits, None)
}

/// As [`forward`], and shows `tap` the values between the blocks.
///
/// # Errors
/// Those of [`forward`].
pub fn forward_tapped<'w>(
    model: &Model,
    compute: &Compute,
    state: &mut State,
    workspace: &'w mut Workspace,
    tokens: &[u32],
    logits: Logits,
    tap: Option<&mut dyn Tap>,
) -> Result<&'w [f32]> {
    let spec = model.spec();
    let length = state.len() + tokens.len();
    check_tokens(spec, tokens, length)?;
    if !state.fits(spec) {
        return Err(ModelError::Mismatch { what: "state" });
    }
    let regime = spec.regime(state.final_length(length));
    if regime != state.regime {
        let seen = state.restart(regime);
        Run { model, compute, state, workspace, tap: None }.tokens(&seen, None);
    }
    Run { model, compute, state, workspace, tap }.tokens(tokens, Some(logits));
    Ok(&workspace.logits)
}

/// Refuses tokens that `spec` cannot take: none, unknown ones, or so many that the sequence of `length` tokens does
/// not fit its context.
pub(crate) fn check_tokens(spec: &Spec, tokens: &[u32], length: usize) -> Result<()> {
    if tokens.is_empty() {
        return Err(ModelError::NoTokens);
    }
    if let Some(&token) = tokens.iter().find(|token| **token as usize >= spec.vocab_size) {
        return Err(ModelError::TokenOutOfRange { token, vocab_size: spec.vocab_size });
    }
    if length > spec.context_length {
        return Err(ModelError::ContextOverflow { needed: length, context_length: spec.context_length });
    }
    Ok(())
}

/// A forward pass with all that it works on.
struct Run<'a, 't> {
    model: &'a Model,
    compute: &'a Compute,
    state: &'a mut State,
    workspace: &'a mut Workspace,
    tap: Option<&'t mut dyn Tap>,
}

impl Run<'_, '_> {
    /// Runs `tokens`, chunk by chunk, and leaves the logits that are asked for in the workspace.
    fn tokens(&mut self, tokens: &[u32], logits: Option<Logits>) {
        self.workspace.logits.clear();
        let n_chunks = tokens.len().div_ceil(MAX_CHUNK);
        for (i, chunk) in tokens.chunks(MAX_CHUNK).enumerate() {
            self.compute.begin_pass(chunk.len());
            self.blocks(chunk);
            let n_logits = match logits {
                Some(Logits::All) => chunk.len(),
                Some(Logits::Last) if i + 1 == n_chunks => 1,
                _ => 0,
            };
            self.head(chunk.len(), n_logits);
            self.state.tokens.extend_from_slice(chunk);
        }
    }

    /// Runs the tokens of one chunk through all blocks; the residual stream is left in `workspace.x`.
    fn blocks(&mut self, tokens: &[u32]) {
        let Model { spec, weights, ropes, .. } = self.model;
        let c = self.compute;
        let (n_tokens, first) = (tokens.len(), self.state.len());
        let Workspace { x, embedding: start, block: scratch, ropes: tables, .. } = &mut *self.workspace;
        tables.fill(ropes, self.state.regime, first, n_tokens);
        let x = sized(x, n_tokens * spec.hidden_size);

        for (token, row) in tokens.iter().zip(x.chunks_exact_mut(spec.hidden_size)) {
            self.model.embed(*token, row);
        }
        show(&mut self.tap, Site::Embedding, x);
        let start = if spec.reads_embedding() { sized(start, x.len()) } else { &mut [] };
        start.copy_from_slice(&x[..start.len()]);
        let pass = Pass {
            compute: c,
            norm_eps: spec.norm_eps,
            first,
            n_tokens,
            ropes: tables,
            embedding: start,
            inputs: None,
        };
        let blocks = spec.blocks.iter().zip(&weights.blocks).zip(&mut self.state.mixers);
        for (i, ((spec, weights), state)) in blocks.enumerate() {
            let transformer = block::transformer(spec, &self.model.weights.blocks);
            Block { spec, weights, rope: ropes.of_block[i], transformer }.run(&pass, state, scratch, x);
            show(&mut self.tap, Site::Block(i), x);
        }
    }

    /// Appends the logits of the last `n_logits` of `n_tokens` rows of the residual stream.
    fn head(&mut self, n_tokens: usize, n_logits: usize) {
        let Model { spec, weights, .. } = self.model;
        let Workspace { x, block: BlockScratch { normed, input, .. }, logits, .. } = &mut *self.workspace;
        // A tap wants to see all rows.
        let n_rows = if self.tap.is_some() { n_tokens } else { n_logits };
        let x = &x[..n_tokens * spec.hidden_size];
        let normed = sized(normed, n_rows * spec.hidden_size);
        let x = &x[x.len() - normed.len()..];
        rows::rms_norm(self.compute, x, &weights.final_norm, spec.norm_eps, normed);
        show(&mut self.tap, Site::FinalNorm, normed);
        if n_logits == 0 {
            return;
        }
        let normed = &normed[normed.len() - n_logits * spec.hidden_size..];
        let before = logits.len();
        logits.resize(before + n_logits * spec.vocab_size, 0.0);
        head::logits(self.compute, spec, &weights.head, normed, input, &mut logits[before..]);
    }
}

fn show(tap: &mut Option<&mut dyn Tap>, site: Site, values: &[f32]) {
    if let Some(tap) = tap {
        tap.observe(site, values);
    }
}
