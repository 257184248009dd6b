//! An answer that grows by tokens until there is a reason to stop.

use sterna_formats::Tokenizer;

use super::output::Output;
use super::{Event, FinishReason, Request};

/// The tokens of an answer and their text.
pub(super) struct Answer<'a> {
    tokenizer: &'a Tokenizer,
    output: Output<'a>,
    tokens: Vec<u32>,
    /// Most tokens, and why no more.
    limit: (usize, FinishReason),
}

impl<'a> Answer<'a> {
    /// To `request` within a context of so many tokens, which its prompt leaves room in.
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        request: &Request<'a>,
        context: usize,
        on_event: &'a mut dyn FnMut(Event<'_>),
    ) -> Answer<'a> {
        let room = context - request.prompt.len();
        let limit = match request.max_tokens {
            Some(max_tokens) if max_tokens <= room => (max_tokens, FinishReason::Length),
            _ => (room, FinishReason::Context),
        };
        let output = Output::new(tokenizer, request.stop, on_event);
        Answer { tokenizer, output, tokens: Vec::new(), limit }
    }

    /// Takes the next token; says whether it is the last and why.
    pub(super) fn push(&mut self, token: u32) -> Option<FinishReason> {
        self.tokens.push(token);
        if self.tokenizer.is_end(token) || self.output.push(token) {
            return Some(FinishReason::Stop);
        }
        (self.room() == 0).then_some(self.limit.1)
    }

    /// How many more tokens it may have.
    pub(super) fn room(&self) -> usize {
        self.limit.0.saturating_sub(self.tokens.len())
    }

    /// The text without what stops it, and all tokens.
    pub(super) fn finish(self) -> (String, Vec<u32>) {
        (self.output.finish(), self.tokens)
    }
}
