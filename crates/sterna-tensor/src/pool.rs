//! A persistent pool of threads for many short parallel regions. `docs/threads.md` says why it is as it is.
//!
//! The caller and `n_threads - 1` background workers claim numbered chunks from one atomic counter. Nobody waits for
//! a worker to arrive: a worker that lost its core claims nothing, and the others do its share. The caller waits only
//! for chunks that were claimed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

mod disjoint;
mod region;
mod spans;
mod worker;

pub use disjoint::Disjoint;
use region::Region;
use spans::Spans;

/// Threads that run the chunks of one parallel region at a time.
pub struct Pool {
    shared: Arc<worker::Shared>,
    spans: Spans,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose region the workers serve.
    busy: AtomicBool,
}

impl Pool {
    /// Starts `n_threads - 1` workers; the thread that calls [`Pool::run`] is the last one. Zero counts as one. Where
    /// the system refuses a thread, the pool is as large as it got.
    #[must_use]
    pub fn new(n_threads: usize) -> Pool {
        let n_workers = n_threads.max(1) - 1;
        let shared = Arc::new(worker::Shared::new(n_workers));
        let workers: Vec<JoinHandle<()>> = (0..n_workers)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let name = format!("sterna-{}", index + 1);
                std::thread::Builder::new().name(name).spawn(move || shared.serve(index)).ok()
            })
            .collect();
        let spans = Spans::new(workers.len() + 1);
        Pool { shared, spans, workers, busy: AtomicBool::new(false) }
    }

    /// Threads that may run chunks at once, the caller included.
    #[must_use]
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// From now on at most `n_threads` threads run the chunks of a region, the caller included; zero counts as one. A
    /// worker that is just looking for work may still take part in the next one.
    pub fn limit(&self, n_threads: usize) {
        self.shared.limit(n_threads.clamp(1, self.n_threads()) - 1);
    }

    /// Calls `f(chunk, worker)` once for every `chunk < n_chunks` and returns when all calls have returned. Chunks
    /// start in ascending order. `worker < n_threads` is held by one thread at a time, so it may index scratch space.
    ///
    /// A region that is opened while another is running, from inside a chunk or from another thread, runs on its own
    /// caller alone.
    ///
    /// # Panics
    /// When a chunk panics: the first panic goes on in the caller once no thread runs a chunk any more. Which other
    /// chunks have run is not specified. The pool stays usable.
    pub fn run(&self, n_chunks: usize, f: impl Fn(usize, usize) + Sync) {
        if !self.begin(n_chunks) {
            return (0..n_chunks).for_each(|chunk| f(chunk, 0));
        }
        self.run_shared(n_chunks, &f);
    }

    /// As [`Pool::run`], for chunks that read memory which lies in their order: a thread's next chunk is the one after its last, as long
    /// as there are such.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_in_spans(&self, n_chunks: usize, f: impl Fn(usize, usize) + Sync) {
        let Ok(n) = u32::try_from(n_chunks) else { return self.run(n_chunks, f) };
        if !self.begin(n_chunks) {
            return (0..n_chunks).for_each(|chunk| f(chunk, 0));
        }
        self.spans.cut(n, self.shared.n_active() + 1);
        self.run_shared(n_chunks, &|_, worker| f(self.spans.take(worker), worker));
    }

    /// As [`Pool::run`] for safe code that fills a buffer: `f(chunk, slice, worker)` gets the `chunk`-th slice of
    /// `chunk_len` elements of `data`; the last one may be shorter.
    ///
    /// # Panics
    /// When `chunk_len` is zero, and as [`Pool::run`].
    pub fn run_slices<T: Send>(
        &self,
        data: &mut [T],
        chunk_len: usize,
        f: impl Fn(usize, &mut [T], usize) + Sync,
    ) {
        let n_chunks = data.len().div_ceil(chunk_len);
        let data = Disjoint::new(data);
        self.run(n_chunks, |chunk, worker| {
            let start = chunk * chunk_len;
            let end = data.len().min(start + chunk_len);
            // SAFETY: chunk numbers are unique within a region, so these ranges never overlap.
            f(chunk, unsafe { data.slice(start..end) }, worker);
        });
    }

    /// Whether this thread may open a region of `n_chunks` that others help with, and then must.
    fn begin(&self, n_chunks: usize) -> bool {
        n_chunks > 1 && !self.shared.is_alone() && !self.busy.swap(true, Ordering::Acquire)
    }

    /// Runs the region of a thread that has begun one.
    fn run_shared(&self, n_chunks: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let region = &self.shared.region;
        // SAFETY: `busy` makes this thread the only one that opens regions, and `close` below returns only when every
        // claimed chunk of this one has finished, so `f` outlives its last use.
        unsafe { region.open(n_chunks, f) };
        self.shared.wake(n_chunks - 1);
        region.work(0);
        let panic = region.close();
        self.busy.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop();
        for worker in self.workers.drain(..) {
            // A worker catches what its chunks throw, so there is no panic to hear of.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("n_threads", &self.n_threads()).finish_non_exhaustive()
    }
}

/// Runs `f` and turns its panic into a value.
fn caught(f: impl FnOnce()) -> Option<Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f)).err()
}
