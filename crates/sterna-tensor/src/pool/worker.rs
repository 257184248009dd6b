//! The life of a background worker: work, spin a little, sleep until woken.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::Region;

/// How long an idle worker spins before it sleeps: longer than the single-threaded gaps inside a forward pass, shorter
/// than anything a user could notice on a battery.
const SPIN: Duration = Duration::from_micros(50);

/// What the workers and the caller share.
pub(super) struct Shared {
    pub(super) region: Region,
    stopped: AtomicBool,
    /// Workers from this one on leave regions to the others.
    n_active: AtomicUsize,
    sleepers: Vec<Sleeper>,
}

struct Sleeper {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Shared {
    pub(super) fn new(n_workers: usize) -> Shared {
        let sleeper = || Sleeper { asleep: AtomicBool::new(false), thread: OnceLock::new() };
        let sleepers = std::iter::repeat_with(sleeper).take(n_workers).collect();
        Shared {
            region: Region::new(),
            stopped: AtomicBool::new(false),
            n_active: AtomicUsize::new(n_workers),
            sleepers,
        }
    }

    /// The main function of background worker `index`, whose chunks see it as worker `index + 1`.
    pub(super) fn serve(&self, index: usize) {
        let me = &self.sleepers[index];
        me.thread.get_or_init(std::thread::current);
        while !self.stopped.load(Ordering::Acquire) {
            let has_worked = self.is_active(index) && self.region.work(index + 1);
            if !has_worked && !self.spin(index) {
                self.sleep(index, me);
            }
        }
    }

    /// Leaves regions to the first `n_workers` workers and the caller.
    pub(super) fn limit(&self, n_workers: usize) {
        self.n_active.store(n_workers, Ordering::SeqCst);
    }

    /// Workers that take part in regions.
    pub(super) fn n_active(&self) -> usize {
        self.n_active.load(Ordering::Relaxed)
    }

    /// Whether the caller has no worker to help it.
    pub(super) fn is_alone(&self) -> bool {
        self.n_active.load(Ordering::Relaxed) == 0
    }

    fn is_active(&self, index: usize) -> bool {
        index < self.n_active.load(Ordering::SeqCst)
    }

    /// Wakes up to `n` sleeping workers, once their work is published.
    pub(super) fn wake(&self, n: usize) {
        let active = self.sleepers.iter().take(self.n_active.load(Ordering::Relaxed));
        active.filter(|sleeper| sleeper.wake()).take(n).count();
    }

    /// Sends every worker home.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.sleepers.iter().filter(|sleeper| sleeper.wake()).count();
    }

    /// Whether there is something to do before the spinning time is over.
    fn spin(&self, index: usize) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..16 {
                if self.has_work(index) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                return false;
            }
        }
    }

    /// No wake-up is lost: this thread says that it sleeps and then looks for work, the caller publishes work and then
    /// looks for sleepers. All four steps are sequentially consistent, so at least one of the two sees the other.
    fn sleep(&self, index: usize, me: &Sleeper) {
        me.asleep.store(true, Ordering::SeqCst);
        if self.has_work(index) {
            me.asleep.store(false, Ordering::Relaxed);
            return;
        }
        while me.asleep.load(Ordering::Acquire) {
            std::thread::park();
        }
    }

    fn has_work(&self, index: usize) -> bool {
        self.is_active(index) && self.region.has_unclaimed() || self.stopped.load(Ordering::SeqCst)
    }
}

impl Sleeper {
    /// Wakes the worker if it sleeps; a worker that is awake costs one load.
    fn wake(&self) -> bool {
        let woken = self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::AcqRel);
        if woken && let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        woken
    }
}
