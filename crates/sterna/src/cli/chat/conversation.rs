//! The messages so far and the session that has computed them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{anyhow, bail};
use sterna::{Completion, Engine, Event, GenerateError, Message, Request, Sampler, Session};

use crate::cli::saved::{self, Said};

/// Messages, first to last, and the model's state after the tokens that it has seen of them.
pub(super) struct Conversation<'a> {
    engine: &'a Engine,
    session: Session,
    messages: Vec<Message>,
}

/// How to generate one answer.
pub(super) struct Turn<'t> {
    pub(super) sampler: &'t mut Sampler,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: &'t [String],
    pub(super) cancel: &'t AtomicBool,
    pub(super) on_event: &'t mut dyn FnMut(Event<'_>),
}

impl<'a> Conversation<'a> {
    pub(super) fn new(engine: &'a Engine, system: Option<String>) -> Conversation<'a> {
        let messages = system.into_iter().map(|text| Message::new("system", text)).collect();
        Conversation { engine, session: engine.session(), messages }
    }

    /// The system prompt.
    pub(super) fn system(&self) -> Option<&str> {
        self.messages
            .first()
            .filter(|message| message.role == "system")
            .map(|message| message.content.as_str())
    }

    /// Forgets all but the system prompt.
    pub(super) fn clear(&mut self) {
        self.messages.truncate(usize::from(self.system().is_some()));
    }

    /// Adds a user message and the answer to it. On an error the conversation is as before.
    pub(super) fn say(&mut self, text: String, turn: Turn<'_>) -> anyhow::Result<Completion> {
        self.messages.push(Message::new("user", text));
        let answered = self.answer(turn);
        if answered.is_err() {
            self.messages.pop();
        }
        answered
    }

    /// Answers the last user message again, in place of the answer it had.
    pub(super) fn say_again(&mut self, turn: Turn<'_>) -> anyhow::Result<Completion> {
        let Some(last_user) = self.messages.iter().rposition(|message| message.role == "user") else {
            bail!("nothing to answer yet");
        };
        let old = self.messages.split_off(last_user + 1);
        let answered = self.answer(turn);
        if answered.is_err() {
            self.messages.extend(old);
        }
        answered
    }

    fn answer(&mut self, turn: Turn<'_>) -> anyhow::Result<Completion> {
        let prompt = self.engine.chat_prompt(&self.messages)?;
        let request =
            Request { prompt: &prompt, max_tokens: turn.max_tokens, stop: turn.stop, cancel: turn.cancel };
        let completion = self
            .session
            .generate(self.engine.tokenizer(), turn.sampler, request, |event| (turn.on_event)(event))
            .map_err(|error| match error {
                GenerateError::ContextOverflow { .. } => anyhow!("{error}; /clear starts anew"),
                error => error.into(),
            })?;
        self.messages.push(Message::new("assistant", &completion.text));
        Ok(completion)
    }

    /// Writes the messages to a file, and what was computed of them unless it is called `.json`.
    pub(super) fn save(&self, file: &Path) -> anyhow::Result<()> {
        saved::write(file, self.engine, &self.session, &Said::Messages(self.messages.clone()))
    }

    /// Replaces the messages by those of a file, and what was computed too if it is there; returns how many messages there are.
    pub(super) fn load(&mut self, file: &Path) -> anyhow::Result<usize> {
        let found = saved::read(file, self.engine)?;
        if matches!(found.said, Said::Text(_)) {
            bail!("{}: a text, not a conversation; `sterna run --state` goes on with it", file.display());
        }
        if let Said::Messages(messages) = found.resume(&mut self.session)? {
            self.messages = messages;
        }
        Ok(self.messages.len())
    }
}
