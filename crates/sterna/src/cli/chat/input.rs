//! What the user types: with line editing and history on a terminal, line by line from a pipe.

use std::io::{self, BufRead, IsTerminal, stdin};
use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::note;

/// Begins and ends a message of several lines.
const FENCE: &str = "\"\"\"";

/// One thing the user typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A line, perhaps a command.
    Line(String),
    /// A fenced message, whatever it begins with.
    Message(String),
}

/// What reading one line gave.
enum Typed {
    Line(String),
    /// Ctrl-C.
    Interrupted,
    End,
}

/// Where lines come from.
pub(super) enum Input {
    Editor { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    Pipe(io::Lines<io::StdinLock<'static>>),
}

impl Input {
    /// An editor if stdin is a terminal; `history` is where it remembers lines from one run to the next.
    pub(super) fn new(history: Option<PathBuf>) -> anyhow::Result<Input> {
        if !stdin().is_terminal() {
            return Ok(Input::Pipe(stdin().lock().lines()));
        }
        let mut editor = Box::new(DefaultEditor::new()?);
        if let Some(file) = &history {
            // There is neither the first time.
            let _ = file.parent().map(std::fs::create_dir_all);
            let _ = editor.load_history(file);
        }
        Ok(Input::Editor { editor, history })
    }

    /// Whether a person is typing.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Input::Editor { .. })
    }

    /// The next entry; `None` at the end of the input.
    ///
    /// # Errors
    /// Stdin cannot be read, or is not UTF-8.
    pub(super) fn read(&mut self) -> anyhow::Result<Option<Entry>> {
        read_entry(|prompt| self.line(prompt))
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Typed> {
        let (editor, history) = match self {
            Input::Pipe(lines) => return Ok(lines.next().transpose()?.map_or(Typed::End, Typed::Line)),
            Input::Editor { editor, history } => (editor, history),
        };
        match editor.readline(prompt) {
            Ok(line) => {
                if !line.trim().is_empty() && editor.add_history_entry(&line)? {
                    // Losing the history is no reason to stop a chat.
                    let _ = history.as_ref().map(|file| editor.save_history(file));
                }
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error.into()),
        }
    }
}

/// A line, or the joined lines of a fenced message; Ctrl-C gives up the entry and begins another.
fn read_entry(mut line: impl FnMut(&str) -> anyhow::Result<Typed>) -> anyhow::Result<Option<Entry>> {
    'entry: loop {
        let first = match line("> ")? {
            Typed::Line(first) => first,
            Typed::Interrupted => {
                note("Ctrl-D or /bye leaves");
                continue;
            }
            Typed::End => return Ok(None),
        };
        let Some(opened) = first.trim_start().strip_prefix(FENCE) else {
            return Ok(Some(Entry::Line(first)));
        };
        let mut text = opened.to_owned();
        while !text.trim_end().ends_with(FENCE) {
            let next = match line("… ")? {
                Typed::Line(next) => next,
                Typed::Interrupted => continue 'entry,
                // The end of the input closes the fence.
                Typed::End => return Ok(Some(Entry::Message(text))),
            };
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&next);
        }
        text.truncate(text.trim_end().len() - FENCE.len());
        return Ok(Some(Entry::Message(text.trim_end_matches('\n').to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `^C` stands for the key.
    fn typed(line: Option<&str>) -> Typed {
        match line {
            Some("^C") => Typed::Interrupted,
            Some(line) => Typed::Line(line.to_owned()),
            None => Typed::End,
        }
    }

    fn entries(text: &str) -> Vec<Entry> {
        let mut lines = text.lines();
        let mut out = Vec::new();
        while let Ok(Some(entry)) = read_entry(|_| Ok(typed(lines.next()))) {
            out.push(entry);
        }
        out
    }

    #[test]
    fn lines_and_fences() {
        let typed = "hello\n\"\"\"\none\n\n/two\n\"\"\"\n\"\"\"three\"\"\"\nlast";
        let expected = [
            Entry::Line("hello".into()),
            Entry::Message("one\n\n/two".into()),
            Entry::Message("three".into()),
            Entry::Line("last".into()),
        ];
        assert_eq!(entries(typed), expected);
    }

    #[test]
    fn an_interrupt_gives_up_the_entry() {
        assert_eq!(entries("^C\n\"\"\"\none\n^C\ntwo"), [Entry::Line("two".into())]);
    }

    #[test]
    fn the_end_of_the_input_closes_a_fence() {
        assert_eq!(entries("\"\"\"one\ntwo"), [Entry::Message("one\ntwo".into())]);
    }
}
