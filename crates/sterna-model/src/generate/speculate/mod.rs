//! Speculative decoding: the next tokens are guessed, and one pass of the network checks all guesses together.
//!
//! Decoding reads all weights for each token; a pass of a few tokens reads them once and takes little longer. So guesses that
//! mostly come true make decoding faster, and the text stays what it was: at each position the sampler draws from the network's
//! own logits, and a guess only decides whether those of the next position are at hand already. That is rejection sampling
//! (Leviathan et al., 2023; Chen et al., 2023) of a guess that is certain of one token: it is kept with the probability that the
//! network gives it, and what is drawn in its place has the distribution of the rest. A pass of a few tokens gives the bits
//! of single ones (`docs/kernels.md`), so that even each drawn token is the one that plain decoding draws.
//!
//! Guesses come from the text itself (`lookup`), or from a smaller model (`draft`) that draws with the same random numbers
//! (the coupling of Daliri et al., 2024, arXiv:2408.07978) where the text has none. `cost` decides from measured times how many
//! are checked, and `acceptance` knows how often they come true: what lookup would have guessed is compared with each token
//! that comes, also when no guess is made, so that text without repetitions costs nothing.

mod acceptance;
mod cost;
mod draft;
mod lookup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_tensor::ops::FEW_TOKENS;
use sterna_tensor::{Compute, KvType};

use crate::Result;
use crate::sampling::Sampler;
use acceptance::Acceptance;
use cost::Costs;
use draft::Draft;
pub use draft::DraftModel;
use lookup::Lookup;

/// Most tokens of a pass: the newest and its guesses.
pub const MAX_VERIFIED: usize = FEW_TOKENS;

/// What guessing did for one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speculation {
    /// Forward passes after that of the prompt.
    pub passes: usize,
    /// Tokens that were guessed and checked.
    pub guessed: usize,
    /// Guesses that came true: tokens that took no pass of their own.
    pub accepted: usize,
}

/// Makes guesses for one sequence, and learns from what comes of them.
pub(super) struct Speculator {
    lookup: Option<LookupGuesser>,
    draft: Option<Draft>,
    costs: Costs,
    guesses: Vec<u32>,
    is_of_draft: bool,
    /// What the last guesses took to make.
    effort: Duration,
}

/// Guesses from the text so far.
struct LookupGuesser {
    index: Lookup,
    /// By length of the match.
    acceptance: Acceptance,
}

impl Speculator {
    /// Guesses from the text if `looks_up`, until there is a draft model too.
    pub(super) fn new(looks_up: bool) -> Speculator {
        // A match of four tokens goes on every other time.
        let prior = |len: usize| len as f64 / (len + 4) as f64;
        let lookup = || LookupGuesser { index: Lookup::default(), acceptance: Acceptance::new(prior) };
        Speculator {
            lookup: looks_up.then(lookup),
            draft: None,
            costs: Costs::default(),
            guesses: Vec::new(),
            is_of_draft: false,
            effort: Duration::ZERO,
        }
    }

    pub(super) fn set_draft(&mut self, draft: &DraftModel, compute: &Arc<Compute>, kv: KvType) {
        self.draft = Some(Draft::new(draft, compute, kv));
    }

    /// Begins with a prompt, of which `n_computed` tokens took `time`.
    ///
    /// # Errors
    /// The draft model's forward pass failed.
    pub(super) fn start(&mut self, prompt: &[u32], n_computed: usize, time: Duration) -> Result<()> {
        self.costs.measure_prompt(n_computed, time);
        if let Some(lookup) = &mut self.lookup {
            lookup.index.set(prompt);
        }
        if let Some(draft) = &mut self.draft {
            draft.read(prompt)?;
        }
        Ok(())
    }

    /// Takes note of a token that was drawn.
    pub(super) fn push(&mut self, token: u32) {
        let Some(LookupGuesser { index, acceptance }) = &mut self.lookup else { return };
        if let Some(best) = index.best() {
            acceptance.observe(best.len, index.expected(best, 0) == token);
        }
        index.push(token);
    }

    /// At most `most` guesses of what follows `seen` and then `newest`, as many as promise to pay: often none. `sampler` is about
    /// to draw.
    ///
    /// # Errors
    /// The draft model's forward pass failed.
    pub(super) fn guess(
        &mut self,
        seen: &[u32],
        newest: u32,
        most: usize,
        sampler: &Sampler,
    ) -> Result<&[u32]> {
        self.guesses.clear();
        self.effort = Duration::ZERO;
        let most = most.min(MAX_VERIFIED - 1);
        if most == 0 || !self.costs.allow_guesses() {
            return Ok(&[]);
        }
        if let Some(LookupGuesser { index, acceptance }) = &self.lookup
            && let Some(best) = index.best()
        {
            let count = self.costs.best_count(most, 0.0, |ahead| acceptance.of(best.len + ahead));
            self.guesses.extend((0..count).map(|ahead| index.expected(best, ahead)));
        }
        self.is_of_draft = self.guesses.is_empty();
        if let Some(draft) = self.draft.as_mut().filter(|_| self.is_of_draft) {
            let start = Instant::now();
            draft.guess(seen, newest, most, sampler, &self.costs, &mut self.guesses)?;
            self.effort = start.elapsed();
        }
        Ok(&self.guesses)
    }

    /// A pass of the newest token and the guesses took `time` and yielded `n_drawn` tokens.
    pub(super) fn observe(&mut self, time: Duration, n_drawn: usize) {
        let n_guesses = self.guesses.len();
        self.costs.measure(1 + n_guesses, self.effort, time, n_drawn);
        if let Some(draft) = self.draft.as_mut().filter(|_| self.is_of_draft) {
            draft.observe(n_drawn.saturating_sub(1).min(n_guesses));
        }
    }
}
