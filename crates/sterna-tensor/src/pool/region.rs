//! One parallel region at a time: its task, its unclaimed chunks, and its unfinished chunks.
//!
//! # Protocol
//! `unclaimed` counts down. A thread claims a chunk by decrementing it; a result above zero is a claim, and its value
//! says which chunk. Everything else about the region (`task`) is read *after* the claim.
//!
//! * A claim always belongs to the region that is open at that instant, whatever the claimer saw earlier, because the
//!   decrement is one atomic step and carries nothing over from a former region. A stale worker, asleep for any time
//!   between two of its instructions, therefore either claims a chunk of the current region or none. No epoch needed.
//! * A region closes only when `unfinished` is zero, that is when every claimed chunk has run. So between a claim and
//!   its report, `task` neither changes nor dangles.
//! * Late decrements push `unclaimed` below zero, by at most one per worker, since each looks before it decrements;
//!   `open` overwrites the value.
//!
//! # Memory order
//! * `open` writes `task`, then stores `unclaimed` (release). A claim is a read-modify-write (acquire) that reads that
//!   store or a later read-modify-write in its release sequence, so the claimer sees `task`, and all that the caller
//!   wrote before the region.
//! * A finished chunk is reported by a decrement of `unfinished` (release), and `close` reads zero (acquire) from the
//!   release sequence of all such decrements, so the caller sees all that the chunks wrote, and its next write of
//!   `task` comes after their last read of it.

use std::any::Any;
use std::cell::UnsafeCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::caught;

/// How long the caller spins for the last chunks before it gives its core away.
const SPIN: Duration = Duration::from_micros(20);

/// Set in `unfinished` while the caller sleeps.
const ASLEEP: usize = 1;
/// What one chunk counts in `unfinished`.
const CHUNK: usize = 2;

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

#[derive(Clone, Copy)]
struct Work {
    task: *const Task<'static>,
    n_chunks: usize,
}

/// Keeps a hot atomic on cache lines of its own (two, for the adjacent-line prefetcher).
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

pub(super) struct Region {
    unclaimed: Padded<AtomicIsize>,
    unfinished: Padded<AtomicUsize>,
    work: UnsafeCell<Work>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Mutex<Option<Thread>>,
}

// SAFETY: `work` is written by `open` while no chunk is claimed and read only by holders of a claim (see the module's
// protocol); its task is `Sync`, so any thread may call it. The other fields are `Sync` by themselves.
unsafe impl Sync for Region {}
// SAFETY: nothing in here is tied to the thread that made it.
unsafe impl Send for Region {}

impl Region {
    pub(super) fn new() -> Region {
        fn nothing(_: usize, _: usize) {}
        Region {
            unclaimed: Padded(AtomicIsize::new(0)),
            unfinished: Padded(AtomicUsize::new(0)),
            work: UnsafeCell::new(Work { task: &nothing, n_chunks: 0 }),
            panic: Mutex::new(None),
            caller: Mutex::new(None),
        }
    }

    /// Publishes `n_chunks` chunks of `task`.
    ///
    /// # Safety
    /// One thread at a time, and it must call `close` before it opens the next region and before `task` dies.
    pub(super) unsafe fn open(&self, n_chunks: usize, task: &Task<'_>) {
        // SAFETY: only the lifetime changes; `close` returns when no thread will use the task again.
        let task: *const Task<'static> =
            unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: the former region is closed, so no claim is held and nobody else reads or writes `work`.
        unsafe { *self.work.get() = Work { task, n_chunks } };
        self.unfinished.0.store(n_chunks * CHUNK, Ordering::Relaxed);
        // Sequentially consistent rather than release for the sake of `Shared::wake`, which must not read "nobody
        // sleeps" before this store is seen by one who falls asleep.
        self.unclaimed.0.store(n_chunks as isize, Ordering::SeqCst);
    }

    /// Whether a claim might succeed.
    pub(super) fn has_unclaimed(&self) -> bool {
        self.unclaimed.0.load(Ordering::SeqCst) > 0
    }

    /// Claims and runs chunks until none is left, then reports them. Returns whether there was any.
    pub(super) fn work(&self, worker: usize) -> bool {
        let Some(mut unclaimed) = self.claim() else { return false };
        // SAFETY: this thread holds a claim, so `work` stays as it is and its task alive until the report below.
        let (task, n_chunks) = unsafe { (&*(*self.work.get()).task, (*self.work.get()).n_chunks) };
        let mut finished = 0;
        loop {
            if let Some(payload) = caught(|| task(n_chunks - unclaimed, worker)) {
                self.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(payload);
            }
            finished += 1;
            // The region cannot have closed, for this thread has not yet reported: a claim is one of the same region.
            match self.claim() {
                Some(next) => unclaimed = next,
                None => break,
            }
        }
        self.report(finished);
        true
    }

    /// Takes one chunk, named by how many were unclaimed.
    fn claim(&self) -> Option<usize> {
        if self.unclaimed.0.load(Ordering::Relaxed) <= 0 {
            return None;
        }
        usize::try_from(self.unclaimed.0.fetch_sub(1, Ordering::Acquire))
            .ok()
            .filter(|&unclaimed| unclaimed > 0)
    }

    fn report(&self, finished: usize) {
        let before = self.unfinished.0.fetch_sub(finished * CHUNK, Ordering::AcqRel);
        if before - finished * CHUNK == ASLEEP {
            // The name stays in place: should this be late and wake the caller of a later region, that one looks and
            // sleeps on, and its own last chunk still finds the name.
            if let Some(caller) = &*self.caller.lock().unwrap_or_else(|e| e.into_inner()) {
                caller.unpark();
            }
        }
    }

    /// Returns when every chunk has finished, with the first panic if there was one.
    pub(super) fn close(&self) -> Option<Box<dyn Any + Send>> {
        if !self.spin_until_finished() {
            self.sleep_until_finished();
        }
        self.panic.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    fn spin_until_finished(&self) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..16 {
                if self.unfinished.0.load(Ordering::Acquire) == 0 {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                return false;
            }
        }
    }

    fn sleep_until_finished(&self) {
        *self.caller.lock().unwrap_or_else(|e| e.into_inner()) = Some(std::thread::current());
        let mut unfinished = self.unfinished.0.fetch_or(ASLEEP, Ordering::AcqRel);
        while unfinished >= CHUNK {
            std::thread::park();
            unfinished = self.unfinished.0.load(Ordering::Acquire);
        }
    }
}
