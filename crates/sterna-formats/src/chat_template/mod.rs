//! Chat templates: from a list of messages to the text that a model was trained to continue.
//!
//! A template is a Jinja program inside the model file, so it is untrusted code. It runs without access to
//! anything but what it is given: no files, no includes, a bounded number of steps ([`STEPS`],
//! [`STEPS_PER_MESSAGE`]), of bytes built, read and written ([`WORK`]) and of nested calls, on a stack that what it
//! nests cannot overflow. Rendering follows Hugging Face's `apply_chat_template`.

mod charges;
mod clock;
mod defaults;
mod json;
mod meter;
mod program;
mod stack;

use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};

use self::meter::Meter;
use self::program::Program;
use crate::checkpoint::{Checkpoint, Config};
use crate::error::{FormatError, Result};
use crate::tokenizer::Tokenizer;

/// Instructions that a template may run for a conversation of no messages.
pub const STEPS: usize = 300_000;
/// Instructions that it may run more for each message and each tool. Real ones take some hundred.
pub const STEPS_PER_MESSAGE: usize = 4_000;
/// Bytes that a template may build, go through and write for a conversation of no messages.
pub const WORK: u64 = 64 << 20;
/// The most that a long conversation raises [`WORK`] to. It does so by a few times its length for each message, as
/// templates add one message after the other to a string.
pub const MAX_WORK: u64 = 1 << 30;
/// Longest source in bytes; real ones have at most 20 KiB.
pub const MAX_SOURCE: usize = 64 << 10;
/// Depth of loops, calls and values. Real templates nest some ten deep.
const MAX_DEPTH: usize = 200;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// The text.
    pub content: String,
    /// Further fields, such as `tool_calls` or `reasoning_content`.
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl Message {
    /// A message that is text only.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into(), more: serde_json::Map::new() }
    }

    fn n_bytes(&self) -> u64 {
        let more = self.more.iter().map(|(key, value)| key.len() + value.to_string().len()).sum::<usize>();
        (self.role.len() + self.content.len() + more) as u64
    }
}

/// What to render besides the messages.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// Whether to end with the begin of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Functions that the model may call, as JSON schemas.
    pub tools: Option<Vec<serde_json::Value>>,
    /// Further variables, such as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The time that `strftime_now` tells, in UTC.
    pub now: SystemTime,
}

impl RenderOptions {
    /// The assistant's turn is next; no tools, no further variables, the time is now.
    pub fn reply() -> RenderOptions {
        RenderOptions {
            add_generation_prompt: true,
            tools: None,
            variables: serde_json::Map::new(),
            now: SystemTime::now(),
        }
    }
}

/// A chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    /// Path of the file it comes from, for errors.
    file: String,
    source: String,
    /// The template for conversations with tools, where a file has one of its own.
    tool_use: Option<String>,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// The template of a checkpoint: from `chat_template.jinja`, `tokenizer_config.json` or the metadata of the
    /// GGUF file.
    ///
    /// Where there is none, the one that goes with the special tokens of the vocabulary: Gemma's for
    /// `<start_of_turn>`, Llama 3's for `<|start_header_id|>`, ChatML for `<|im_start|>`, Phi-3's for
    /// `<|assistant|>` with `<|end|>`.
    ///
    /// # Errors
    /// When there is neither, as with models that were not trained to chat; and when the template is malformed.
    pub fn from_checkpoint(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        let file = checkpoint.path().display().to_string();
        let text = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8(bytes).unwrap_or_default()
        };
        let source = match checkpoint.chat_template()? {
            Some(source) => source,
            None => defaults::for_vocabulary(tokenizer)
                .ok_or_else(|| FormatError::missing(&file, "chat_template (is this a base model?)"))?
                .to_owned(),
        };
        let mut template = ChatTemplate::new(file, source, text(tokenizer.bos()), text(tokenizer.eos()))?;
        template.tool_use = tool_use(checkpoint)?;
        template.compile(template.tool_use.as_deref().unwrap_or_default())?;
        Ok(template)
    }

    /// A template from its Jinja source; `file` is for errors.
    ///
    /// # Errors
    /// When the source is malformed or longer than [`MAX_SOURCE`].
    pub fn new(
        file: impl Into<String>,
        source: impl Into<String>,
        bos_token: impl Into<String>,
        eos_token: impl Into<String>,
    ) -> Result<ChatTemplate> {
        let template = ChatTemplate {
            file: file.into(),
            source: source.into(),
            tool_use: None,
            bos_token: bos_token.into(),
            eos_token: eos_token.into(),
        };
        template.compile(&template.source)?;
        Ok(template)
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation, to be encoded with special tokens parsed and nothing added.
    ///
    /// # Errors
    /// When the template refuses the messages (its own words are in the error), does something that does not
    /// exist, or passes a limit.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        let source = match (&self.tool_use, &options.tools) {
            (Some(tool_use), Some(_)) => tool_use,
            _ => &self.source,
        };
        let n_inputs = messages.len() + options.tools.as_ref().map_or(0, Vec::len);
        let steps = STEPS.saturating_add(STEPS_PER_MESSAGE.saturating_mul(n_inputs));
        let context_bytes = messages.iter().map(Message::n_bytes).sum::<u64>()
            + options.tools.iter().flatten().map(|tool| tool.to_string().len() as u64).sum::<u64>();
        let work = WORK.saturating_add(context_bytes.saturating_mul(8 * (n_inputs as u64 + 1))).min(MAX_WORK);
        let rendered = stack::run(stack::for_steps(steps), || {
            let source = without_generation_tags(source);
            let mut environment = environment(options.now, steps);
            charges::install(&mut environment, &Meter::new(work));
            Program::compile(&source, syntax())
                .and_then(|program| program.render(&environment, self.context(messages, options)))
                .map_err(|error| self.error("messages that the template accepts", &error))
        });
        rendered.map_err(|error| self.error("a thread for the template", &error))?
    }

    fn compile(&self, source: &str) -> Result<()> {
        if source.len() > MAX_SOURCE {
            let (expected, found) =
                (format!("at most {MAX_SOURCE} bytes"), format!("{} bytes", source.len()));
            return Err(FormatError::invalid(&self.file, "chat_template", expected, found));
        }
        let compiled = stack::run(stack::FOR_SOURCE, || {
            Program::compile(&without_generation_tags(source), syntax())
                .map(drop)
                .map_err(|error| self.error("a Jinja template", &error))
        });
        compiled.map_err(|error| self.error("a thread for the template", &error))?
    }

    fn context(&self, messages: &[Message], options: &RenderOptions) -> Value {
        let message = |message: &Message| {
            let own = [("role", &message.role), ("content", &message.content)];
            let own = own.map(|(key, text)| (key.to_owned(), Value::from(text.as_str())));
            let more = message.more.iter().map(|(key, value)| (key.clone(), json::to_template(value)));
            Value::from_pairs(own.into_iter().chain(more))
        };
        let list = |values: &Vec<_>| values.iter().map(json::to_template).collect::<Value>();
        let own = [
            ("messages", messages.iter().map(message).collect::<Value>()),
            ("tools", options.tools.as_ref().map_or(Value::from(()), list)),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("bos_token", Value::from(self.bos_token.as_str())),
            ("eos_token", Value::from(self.eos_token.as_str())),
        ];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
        let more = options.variables.iter().map(|(key, value)| (key.clone(), json::to_template(value)));
        Value::from_pairs(own.chain(more))
    }

    fn error(&self, expected: &str, error: &dyn std::error::Error) -> FormatError {
        FormatError::invalid(&self.file, "chat_template", expected, error.to_string())
    }
}

/// The template named `tool_use`, which some checkpoints have beside the default one.
fn tool_use(checkpoint: &Checkpoint) -> Result<Option<String>> {
    if let Config::Gguf(metadata) = checkpoint.config() {
        return Ok(metadata.get::<&str>("tokenizer.chat_template.tool_use")?.map(str::to_owned));
    }
    let config = checkpoint.tokenizer_config()?;
    let named = config.as_ref().and_then(|config| config.view().get("chat_template")?.as_array());
    let found =
        named.into_iter().flatten().find(|entry| entry.get("name").is_some_and(|name| name == "tool_use"));
    Ok(found.and_then(|entry| entry.get("template")?.as_str()).map(str::to_owned))
}

/// Whitespace as `apply_chat_template` has it.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default()
}

/// Functions and filters as `apply_chat_template` sets them up.
fn environment<'a>(now: SystemTime, steps: usize) -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(steps as u64));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    // It indents what is nested, so its output grows with the square of the depth.
    environment.remove_global("debug");
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| clock::strftime(now, &format));
    environment
}

/// The filter `tojson` of `apply_chat_template`: Python's `json.dumps` without ASCII escapes.
fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    // Given by some templates; it is what happens anyway.
    options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut style = json::Style::python(indent.map(|indent| indent.min(MAX_DEPTH)));
    if let Some([item, key]) = separators.as_deref() {
        style.separators = [item.clone(), key.clone()];
    }
    style.sort_keys = sort_keys;
    json::dumps(value, &style, WORK as usize).map(Value::from)
}

/// `source` with `{% generation %}` and its end, by which Hugging Face marks the assistant's words for training,
/// turned into a condition that always holds.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        let sign = if tag.starts_with(['-', '+']) { &tag[..1] } else { "" };
        let word = tag[sign.len()..].trim_start();
        let name = word.find(|c: char| !c.is_ascii_alphabetic()).map_or(word, |end| &word[..end]);
        rest = tag;
        let statement = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.extend([sign, " ", statement]);
        rest = &word[name.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_conditions() {
        let source = "{% if a %}{%- generation -%}x{% endgeneration %}{% generationx %}{% endif %}generation";
        let wanted = "{% if a %}{%- if true -%}x{% endif %}{% generationx %}{% endif %}generation";
        assert_eq!(without_generation_tags(source), wanted);
    }
}
