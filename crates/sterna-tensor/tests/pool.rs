//! The thread pool under everything that a forward pass, and a hostile scheduler, may do to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sterna_tensor::Pool;

const THREADS: [usize; 5] = [1, 2, 3, 8, 33];

#[test]
fn every_chunk_runs_once_and_is_finished_on_return() {
    for n_threads in THREADS {
        let pool = Pool::new(n_threads);
        assert_eq!(pool.n_threads(), n_threads);
        for n_chunks in [0, 1, 2, 3, 7, 64, 1000] {
            let runs: Vec<AtomicUsize> = (0..n_chunks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(n_chunks, |chunk, worker| {
                assert!(worker < n_threads);
                runs[chunk].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn threads_beyond_the_limit_leave_regions_alone() {
    let pool = Pool::new(4);
    for limit in [4, 1, 3, 0, 2, 9, 1, 4] {
        pool.limit(limit);
        let mut strays = 0;
        for _ in 0..200 {
            let (runs, stray) = (AtomicUsize::new(0), AtomicUsize::new(0));
            pool.run(16, |_, worker| {
                std::thread::yield_now();
                stray.fetch_max(usize::from(worker >= limit.max(1)), Ordering::Relaxed);
                runs.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(runs.into_inner(), 16);
            strays += stray.into_inner();
        }
        // Each worker may have been about to claim when the limit came.
        assert!(strays <= 3, "{strays} of 200 regions at {limit}");
    }
    // All of them are there again: each waits for the others.
    let all_here = std::sync::Barrier::new(4);
    pool.run(4, |_, _| {
        all_here.wait();
    });
}

#[test]
fn slices_cover_the_buffer() {
    for n_threads in THREADS {
        let mut data = vec![0usize; 1003];
        Pool::new(n_threads).run_slices(&mut data, 10, |chunk, slice, _| {
            assert_eq!(slice.len(), if chunk == 100 { 3 } else { 10 });
            slice.iter_mut().for_each(|x| *x += chunk + 1);
        });
        assert!(data.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
    }
}

#[test]
fn a_worker_number_belongs_to_one_thread_at_a_time() {
    let pool = Pool::new(4);
    for _ in 0..200 {
        let held: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        pool.run(16, |_, worker| {
            assert_eq!(held[worker].fetch_add(1, Ordering::Relaxed), 0);
            std::hint::spin_loop();
            held[worker].fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Each region reads what the former one wrote, without any synchronisation of its own.
#[test]
fn regions_see_the_results_of_the_one_before() {
    let pool = Pool::new(3);
    let (mut from, mut to) = (vec![1u64; 60], vec![0u64; 60]);
    for round in 0..5000u64 {
        pool.run_slices(&mut to, 7, |chunk, slice, _| {
            for (i, x) in slice.iter_mut().enumerate() {
                *x = from[(chunk * 7 + i + 1) % 60] + 1;
            }
        });
        std::mem::swap(&mut from, &mut to);
        assert!(from.iter().all(|&x| x == round + 2));
    }
}

#[test]
fn a_panic_reaches_the_caller_and_spares_the_pool() {
    for n_threads in THREADS {
        let pool = Pool::new(n_threads);
        let region = || pool.run(50, |chunk, _| assert_ne!(chunk, 20, "the twentieth fails"));
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(region)).unwrap_err();
        assert!(payload.downcast_ref::<String>().is_some_and(|s| s.contains("the twentieth fails")));

        let after = AtomicUsize::new(0);
        pool.run(10, |chunk, _| {
            after.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(after.into_inner(), 45);
    }
}

#[test]
fn nested_and_concurrent_regions_run_on_their_own_caller() {
    let pool = Pool::new(3);
    let sum = AtomicUsize::new(0);
    let add = |n: usize| {
        sum.fetch_add(n, Ordering::Relaxed);
    };
    pool.run(10, |_, _| pool.run(10, |chunk, _| add(chunk)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| pool.run(10, |chunk, _| add(chunk))));
        }
    });
    assert_eq!(sum.into_inner(), 45 * (10 + 400));
}

/// Workers go to sleep and come late; whatever they then find belongs to the region that is open.
#[test]
fn sleepers_and_late_comers() {
    let pool = Pool::new(8);
    for round in 0..60 {
        let sum = AtomicUsize::new(0);
        pool.run(20, |chunk, _| {
            if (chunk + round) % 7 == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            sum.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 190);
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn dropping_an_idle_or_fresh_pool_returns() {
    for n_threads in THREADS {
        drop(Pool::new(n_threads));
        let pool = Pool::new(n_threads);
        pool.run(5, |_, _| ());
        std::thread::sleep(Duration::from_millis(2));
        drop(pool);
    }
}

/// More threads than cores, nothing to do in any chunk: a pool that waits for its workers would take minutes.
#[test]
fn a_hundred_thousand_empty_regions() {
    for n_threads in [2, 4, 16] {
        let pool = Pool::new(n_threads);
        let start = Instant::now();
        for _ in 0..100_000 {
            pool.run(n_threads, |_, _| ());
        }
        let elapsed = start.elapsed();
        println!("{n_threads} threads: {:.2} us per region", elapsed.as_secs_f64() * 10.0);
        assert!(elapsed < Duration::from_secs(20), "{elapsed:?} with {n_threads} threads");
    }
}
