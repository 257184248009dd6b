//! Showing a generation while it happens.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use sterna::{Completion, Event, Speculation};

use super::progress::token_bar;
use super::terminal::dim;

/// A prompt with more to compute than this gets a progress bar.
const LONG_PROMPT: usize = 1024;

/// Writes text to stdout as it comes, and a bar to stderr while a long prompt is read.
pub(super) struct Printer<'a> {
    cancel: &'a AtomicBool,
    bar: Option<ProgressBar>,
    ends_with_newline: bool,
    failed: Option<io::Error>,
}

impl<'a> Printer<'a> {
    /// `cancel` is set when nobody reads stdout any more.
    pub(super) fn new(cancel: &'a AtomicBool) -> Printer<'a> {
        Printer { cancel, bar: None, ends_with_newline: false, failed: None }
    }

    /// Takes an event of the generation.
    pub(super) fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Prefill { done, total } => self.prefill(done, total),
            Event::Text(text) => {
                if let Err(error) = write_now(text) {
                    self.cancel.store(true, Ordering::Relaxed);
                    self.failed.get_or_insert(error);
                }
                self.ends_with_newline = text.ends_with('\n');
            }
        }
    }

    fn prefill(&mut self, done: usize, total: usize) {
        if self.bar.is_none() && total - done > LONG_PROMPT && stderr().is_terminal() {
            self.bar = Some(token_bar(total));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        }
    }

    /// Ends the line.
    ///
    /// # Errors
    /// What stdout answered to an earlier write.
    pub(super) fn finish(self) -> io::Result<()> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        match self.failed {
            Some(error) => Err(error),
            None if self.ends_with_newline => Ok(()),
            None => write_now("\n"),
        }
    }
}

fn write_now(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The tok/s line: `34 tokens (12 of 15 guessed), 58.1 tok/s · prompt 41 tokens (29 reused), 310 tok/s · first token 0.04 s`.
pub(super) fn print_stats(completion: &Completion) {
    let rate = |rate: Option<f64>| rate.map_or(String::new(), |rate| format!(", {rate:.1} tok/s"));
    let reused = match completion.cached_tokens {
        0 => String::new(),
        n => format!(" ({n} reused)"),
    };
    let guessed = match completion.speculation {
        Speculation { guessed: 0, .. } => String::new(),
        Speculation { guessed, accepted, .. } => format!(" ({accepted} of {guessed} guessed)"),
    };
    let line = format!(
        "{} tokens{guessed}{} · prompt {} tokens{reused}{} · first token {:.2} s",
        completion.tokens.len(),
        rate(completion.decode_tokens_per_second()),
        completion.prompt_tokens,
        rate(completion.prompt_tokens_per_second()),
        completion.timings.time_to_first_token.as_secs_f64(),
    );
    eprintln!("{}", dim(line));
}
