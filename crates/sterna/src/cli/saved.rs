//! Conversations in files: the messages as JSON, alone or within a saved state beside what the model has computed of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sterna::state_file::{SectionKind, StateFile, StateWriter};
use sterna::{Engine, Message, Session};

use super::own_files;

/// A conversation file larger than this is not one.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// What was said, first to last: messages, or the tokens of a text that was continued without a chat template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Messages(Vec<Message>),
    Text(Vec<u32>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<SavedMessage>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text_tokens: Option<Vec<u32>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedMessage {
    role: String,
    content: String,
}

/// What a file holds of what was said.
pub(super) struct Found {
    pub(super) said: Said,
    /// What was computed of it.
    state: Option<StateFile>,
}

/// Writes `said` to `file`: as JSON if it is called so, else with all that `session` has computed.
pub(super) fn write(file: &Path, engine: &Engine, session: &Session, said: &Said) -> anyhow::Result<()> {
    let json = said.to_json()?;
    match is_json(file) {
        true => {
            own_files::write(file, json.as_bytes()).with_context(|| format!("writing {}", file.display()))
        }
        false => Ok(session.save(file, engine.identity(), json.as_bytes())?),
    }
}

/// Refuses a `file` that a state could not be written to, before minutes are spent on what it would hold.
pub(super) fn check_writable(file: &Path, engine: &Engine) -> anyhow::Result<()> {
    Ok(StateWriter::create(file, engine.identity()).map(drop)?)
}

/// Reads what was said from `file`, JSON or a saved state of `engine`'s model.
pub(super) fn read(file: &Path, engine: &Engine) -> anyhow::Result<Found> {
    if !StateFile::is_one(file) {
        let said = read_json(file).with_context(|| format!("reading {}", file.display()))?;
        return Ok(Found { said, state: None });
    }
    let state = StateFile::open(file)?;
    state.check_model(&engine.identity())?;
    let json = state.section(SectionKind::Application, 0)?;
    let said = Said::from_json(&json).with_context(|| format!("reading {}", file.display()))?;
    Ok(Found { said, state: Some(state) })
}

impl Found {
    /// What was said, after `session` has taken what was computed of it.
    pub(super) fn resume(self, session: &mut Session) -> anyhow::Result<Said> {
        if let Some(state) = &self.state {
            session.load(state)?;
        }
        Ok(self.said)
    }
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn read_json(file: &Path) -> anyhow::Result<Said> {
    const EXPECTED: &str = "expected a saved state, or a conversation in JSON";
    let size = fs::metadata(file)?.len();
    ensure!(size <= MAX_JSON_BYTES, "{EXPECTED} of at most {MAX_JSON_BYTES} bytes, found {size} bytes");
    Said::from_json(&fs::read(file)?).context(EXPECTED)
}

impl Said {
    fn to_json(&self) -> serde_json::Result<String> {
        let saved =
            |message: &Message| SavedMessage { role: message.role.clone(), content: message.content.clone() };
        let saved = match self {
            Said::Messages(messages) => {
                Saved { messages: Some(messages.iter().map(saved).collect()), text_tokens: None }
            }
            Said::Text(tokens) => Saved { messages: None, text_tokens: Some(tokens.clone()) },
        };
        Ok(serde_json::to_string_pretty(&saved)? + "\n")
    }

    fn from_json(json: &[u8]) -> anyhow::Result<Said> {
        let saved: Saved = serde_json::from_slice(json)?;
        let message = |(i, saved): (usize, SavedMessage)| match saved.role.as_str() {
            "system" | "user" | "assistant" => Ok(Message::new(saved.role, saved.content)),
            role => bail!("messages[{i}].role: expected system, user or assistant, found {role:?}"),
        };
        match (saved.messages, saved.text_tokens) {
            (Some(messages), None) => Ok(Said::Messages(
                messages.into_iter().enumerate().map(message).collect::<anyhow::Result<_>>()?,
            )),
            (None, Some(tokens)) => Ok(Said::Text(tokens)),
            _ => bail!("expected messages or text_tokens"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() -> anyhow::Result<()> {
        let messages = vec![Message::new("system", "s"), Message::new("user", "é")];
        for said in [Said::Messages(messages), Said::Text(vec![1, 70000])] {
            assert_eq!(Said::from_json(said.to_json()?.as_bytes())?, said);
        }
        Ok(())
    }

    #[test]
    fn other_files_are_refused() {
        let error =
            |json: &str| format!("{:#}", Said::from_json(json.as_bytes()).expect_err("no conversation"));
        assert!(error("").contains("EOF"));
        assert!(error(r#"{"messages": 3}"#).contains("expected a sequence"));
        assert_eq!(error("{}"), "expected messages or text_tokens");
        let role = r#"{"messages": [{"role": "tool", "content": ""}]}"#;
        assert_eq!(error(role), r#"messages[0].role: expected system, user or assistant, found "tool""#);
    }
}
