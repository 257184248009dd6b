//! How far long work is: a bar on stderr. Where that is no terminal but a log, a line now and then.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::pace::Pace;
use super::terminal::note;

/// Between two lines in a log.
const PAUSE: Duration = Duration::from_secs(60);

/// A bar over steps. Goes away when dropped.
pub(super) struct StepBar {
    what: String,
    bar: ProgressBar,
    total: usize,
    pace: Pace,
    /// When a line was last written.
    said: Instant,
}

impl StepBar {
    /// `done` steps of `what` are done already, of `total`.
    pub(super) fn new(what: impl Into<String>, done: usize, total: usize) -> StepBar {
        let (what, now) = (what.into(), Instant::now());
        // Not indicatif's own time left: it goes by the last seconds, and a step may take minutes.
        let bar = bar(Some(total as u64), "{msg} {bar:30} {pos} of {len}{prefix}");
        bar.set_message(what.clone());
        bar.set_position(done as u64);
        StepBar { what, bar, total, pace: Pace::new(done, now), said: now }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.set(self.bar.position() as usize + 1);
    }

    /// `done` are done.
    pub(super) fn set(&mut self, done: usize) {
        self.pace.set(done, Instant::now());
        let left = self.pace.left(self.total).map(|left| format!(", {} left", HumanDuration(left)));
        let left = left.unwrap_or_default();
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() && self.said.elapsed() >= PAUSE {
            self.said = Instant::now();
            note(format_args!("{}: {done} of {}{left}", self.what, self.total));
        }
        self.bar.set_prefix(left);
    }

    /// Writes what `write` does above the bar.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

impl Drop for StepBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar over bytes, on a terminal only. Goes away when dropped.
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

/// A bar over `total` prompt tokens, on a terminal only.
pub(super) fn token_bar(total: usize) -> ProgressBar {
    bar(Some(total as u64), "reading {bar:30} {pos} of {len} tokens")
}

fn bar(total: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
