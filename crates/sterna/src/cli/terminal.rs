//! The terminal: colours where they are wanted, progress bars, and Ctrl-C.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Text in a colour, on a terminal that shows colours.
pub(super) struct Paint<T> {
    code: &'static str,
    text: T,
}

/// Side remarks.
pub(super) fn dim<T: fmt::Display>(text: T) -> Paint<T> {
    Paint { code: "2", text }
}

/// Headings and the prompt.
pub(super) fn bold<T: fmt::Display>(text: T) -> Paint<T> {
    Paint { code: "1", text }
}

/// Errors.
pub(super) fn red<T: fmt::Display>(text: T) -> Paint<T> {
    Paint { code: "1;31", text }
}

impl<T: fmt::Display> fmt::Display for Paint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if stderr_has_colour() {
            write!(f, "\x1b[{}m{}\x1b[0m", self.code, self.text)
        } else {
            self.text.fmt(f)
        }
    }
}

/// A side remark on stderr.
pub(super) fn note(text: impl fmt::Display) {
    eprintln!("{}", dim(text));
}

/// Everything coloured goes to stderr. See <https://no-color.org>.
fn stderr_has_colour() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stderr().is_terminal() && !no_colour && !dumb
}

/// A bar over bytes on stderr; nothing when stderr is no terminal. Goes away when dropped.
pub(super) struct ByteBar(ProgressBar);

impl ByteBar {
    /// `total` bytes will come, if that is known.
    pub(super) fn new(total: Option<u64>) -> ByteBar {
        ByteBar(match total {
            Some(_) => bar(total, "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"),
            None => bar(total, "{bytes}, {bytes_per_sec}"),
        })
    }

    /// `done` bytes are here.
    pub(super) fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for ByteBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar over `total` prompt tokens on stderr.
pub(super) fn token_bar(total: usize) -> ProgressBar {
    bar(Some(total as u64), "reading {bar:30} {pos} of {len} tokens")
}

/// A bar over `total` steps of `what` on stderr.
pub(super) fn step_bar(what: &str, total: usize) -> ProgressBar {
    let bar = bar(Some(total as u64), "{msg} {bar:30} {pos} of {len}, {eta} left");
    bar.set_message(what.to_owned());
    bar
}

fn bar(total: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

static ANSWERING: AtomicBool = AtomicBool::new(false);
static CANCEL: AtomicBool = AtomicBool::new(false);

/// While this lives, the first Ctrl-C sets the [`cancel`](Interruptible::cancel) flag instead of ending the program.
pub(super) struct Interruptible(());

impl Interruptible {
    /// From here on Ctrl-C interrupts.
    pub(super) fn start() -> Interruptible {
        CANCEL.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Interruptible(())
    }

    /// True once Ctrl-C was pressed; can be set by others too.
    pub(super) fn cancel(&self) -> &'static AtomicBool {
        &CANCEL
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::SeqCst);
    }
}

/// What a shell reports for a program that Ctrl-C ended.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// Takes over Ctrl-C for the rest of the program.
///
/// # Errors
/// The operating system refused.
pub(super) fn handle_interrupts() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        let first = !CANCEL.swap(true, Ordering::SeqCst);
        if !(first && ANSWERING.load(Ordering::SeqCst)) {
            process::exit(i32::from(EXIT_INTERRUPTED));
        }
    })
}
