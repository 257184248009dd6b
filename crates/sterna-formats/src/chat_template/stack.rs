//! The stack that templates run on.
//!
//! The engine limits how deep brackets, blocks and calls nest, but not chains (`a.a.a`, `- - 1`, `elif` after
//! `elif`), which its tree nests as well, nor lists that a loop puts into lists. It walks and drops all of them by
//! recursion, and a stack that overflows ends the process. Both are bounded from outside, though: a chain by the
//! length of the source, a value by the steps that built it. So templates run on a thread whose stack suffices for
//! the worst of either; pages that are never touched cost nothing.

use std::io;
use std::thread::{self, Builder};

use super::MAX_SOURCE;

/// Bytes of stack for a byte of source: twice what the worst chain was measured to take.
const PER_SOURCE_BYTE: usize = 512;
/// Bytes of stack for a step: one step nests a value one level deeper, and walking it took at most 700 per level.
const PER_STEP: usize = 1024;

/// Stack in bytes to compile the longest source.
pub(super) const FOR_SOURCE: usize = MAX_SOURCE * PER_SOURCE_BYTE;

/// Stack in bytes to compile the longest source and to run it for `steps`.
pub(super) const fn for_steps(steps: usize) -> usize {
    FOR_SOURCE.saturating_add(steps.saturating_mul(PER_STEP))
}

/// Runs `task` on a thread with a stack of `bytes`.
///
/// # Errors
/// When the system gives no such thread, or the task panicked: the engine is not ours, and what it runs is not the
/// user's.
pub(super) fn run<T: Send>(bytes: usize, task: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread =
            Builder::new().name("chat template".into()).stack_size(bytes).spawn_scoped(scope, task)?;
        thread.join().map_err(|_| io::Error::other("the template engine failed"))
    })
}
