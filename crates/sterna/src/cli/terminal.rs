//! The terminal: colours where they are wanted, and Ctrl-C.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

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
