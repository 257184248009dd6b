//! The messages so far and the session that has computed them.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use sterna::{Completion, Engine, Event, GenerateError, Message, Request, Sampler, Session};

/// A conversation file larger than this is not one.
const MAX_FILE_BYTES: u64 = 64 << 20;

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

/// The file of `/save`.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    messages: Vec<SavedMessage>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedMessage {
    role: String,
    content: String,
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

    /// Writes the messages as JSON.
    pub(super) fn save(&self, file: &Path) -> anyhow::Result<()> {
        let saved =
            |message: &Message| SavedMessage { role: message.role.clone(), content: message.content.clone() };
        let saved = Saved { messages: self.messages.iter().map(saved).collect() };
        let text = serde_json::to_string_pretty(&saved)? + "\n";
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// Replaces the messages by those of a file; returns how many there are.
    pub(super) fn load(&mut self, file: &Path) -> anyhow::Result<usize> {
        self.messages = read(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(self.messages.len())
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Message>> {
    let size = fs::metadata(file)?.len();
    ensure!(size <= MAX_FILE_BYTES, "expected at most {MAX_FILE_BYTES} bytes, found {size}");
    let saved: Saved = serde_json::from_slice(&fs::read(file)?)?;
    let message = |(i, saved): (usize, SavedMessage)| match saved.role.as_str() {
        "system" | "user" | "assistant" => Ok(Message::new(saved.role, saved.content)),
        role => bail!("messages[{i}].role: expected system, user or assistant, found {role:?}"),
    };
    saved.messages.into_iter().enumerate().map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Message>, String> {
        let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        fs::write(file.path(), text).map_err(|e| e.to_string())?;
        read(file.path()).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn reads_what_it_would_write() {
        let text = r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "é"}]}"#;
        let messages = read_text(text).expect("a conversation");
        assert_eq!(messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), ["s", "é"]);
    }

    #[test]
    fn other_files_are_refused() {
        let error = |text| read_text(text).map(|m| m.len()).expect_err("not a conversation");
        assert!(error("").contains("EOF"));
        assert!(error(r#"{"messages": 3}"#).contains("expected a sequence"));
        let role = r#"{"messages": [{"role": "tool", "content": ""}]}"#;
        assert_eq!(error(role), r#"messages[0].role: expected system, user or assistant, found "tool""#);
    }
}
