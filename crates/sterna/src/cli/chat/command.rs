//! The slash commands of a chat, read from a line.

use std::path::PathBuf;

use crate::cli::settings::SamplingArgs;

/// What `/help` prints.
pub(super) const HELP: &str = "\
/system [TEXT]    set the system prompt and start anew; without TEXT, show it
/set [NAME VALUE] set temp, top-k, top-p, min-p, repeat-penalty, seed or n; alone, show them
/regen            answer the last message again
/clear            forget the conversation, keep the system prompt
/save FILE        write the conversation and all that was computed of it; if FILE ends in .json, only its text
/load FILE        go on with what /save wrote
/stats            show or hide the tokens-per-second line
/help             this
/bye              leave (so does Ctrl-D)
\"\"\"               begins and ends a message of several lines
Ctrl-C            stops an answer";

/// A line typed into a chat.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// A message to the model.
    Message(String),
    /// A slash command.
    Command(Command),
}

/// A slash command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Help,
    System(Option<String>),
    Set(Option<SamplingArgs>),
    Regenerate,
    Clear,
    Save(PathBuf),
    Load(PathBuf),
    Stats,
    Bye,
}

/// Reads a line. A message that begins with a slash can be written with two.
///
/// # Errors
/// An unknown command, or one with wrong arguments; in words.
pub(super) fn parse(line: &str) -> Result<Line, String> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else { return Ok(Line::Message(line.to_owned())) };
    if command.starts_with('/') {
        return Ok(Line::Message(command.to_owned()));
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let file = || match rest {
        "" => Err(format!("/{name} needs a file name")),
        path => Ok(PathBuf::from(path)),
    };
    let command = match name {
        "help" | "?" => Command::Help,
        "system" => Command::System((!rest.is_empty()).then(|| rest.to_owned())),
        "set" => Command::Set(setting(rest)?),
        "regen" => Command::Regenerate,
        "clear" => Command::Clear,
        "save" => Command::Save(file()?),
        "load" => Command::Load(file()?),
        "stats" => Command::Stats,
        "bye" | "exit" | "quit" => Command::Bye,
        _ => return Err(format!("unknown command /{name}; /help lists them")),
    };
    Ok(Line::Command(command))
}

/// `NAME VALUE`, or nothing.
fn setting(rest: &str) -> Result<Option<SamplingArgs>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (name, value) = rest.split_once([' ', '=']).ok_or_else(|| format!("/set {rest} needs a value"))?;
    SamplingArgs::from_setting(name.trim(), value.trim()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Line::Command(command)) => command,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn messages_are_not_commands() {
        assert_eq!(parse(" hello /bye "), Ok(Line::Message("hello /bye".into())));
        assert_eq!(parse("//etc/hosts?"), Ok(Line::Message("/etc/hosts?".into())));
    }

    #[test]
    fn commands_take_their_arguments() {
        assert_eq!(command("/bye"), Command::Bye);
        assert_eq!(command("/system  be brief "), Command::System(Some("be brief".into())));
        assert_eq!(command("/system"), Command::System(None));
        assert_eq!(command("/save my chat.json"), Command::Save("my chat.json".into()));
        assert_eq!(command("/set"), Command::Set(None));
        let temp = SamplingArgs { temp: Some(0.5), ..SamplingArgs::default() };
        assert_eq!(command("/set temp 0.5"), Command::Set(Some(temp.clone())));
        assert_eq!(command("/set temp=0.5"), Command::Set(Some(temp)));
    }

    #[test]
    fn mistakes_are_explained() {
        assert_eq!(parse("/byte"), Err("unknown command /byte; /help lists them".into()));
        assert_eq!(parse("/save"), Err("/save needs a file name".into()));
        assert_eq!(parse("/set temp"), Err("/set temp needs a value".into()));
        assert_eq!(parse("/set temp warm"), Err("temp needs a number, found `warm`".into()));
        assert!(parse("/set colour red").is_err_and(|e| e.contains("colour") && e.contains("top-k")));
    }
}
