//! What bounds every kernel, measured: loads from each level of memory, and multiply-adds in registers.
//!
//! These are roofs, in the instructions that the kernels themselves use: a kernel that multiplies as it reads can come near
//! the lower of two, and beyond neither.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use crate::simd::{CodeRegister, Kernel, LANES, Simd, unroll};
use crate::slab::SlabLines;
use crate::{Isa, Pool};

/// A measurement shorter than this is repeated with more work.
const LONG_ENOUGH: Duration = Duration::from_millis(20);
/// Times that what is long enough is measured; the best counts.
const REPETITIONS: usize = 4;

/// Bytes a second that the threads of `pool` together load, each over and over from `n_bytes` of its own: what the cache
/// that holds them gives, or memory. They lie as packed weights do, in huge pages where the system has some.
///
/// # Errors
/// When there is no such memory.
pub fn load_rate(isa: Isa, pool: &Pool, n_bytes: usize) -> io::Result<f64> {
    let n_lines = n_bytes.div_ceil(size_of::<CodeRegister>()).next_multiple_of(SUMS);
    let buffer = |_| -> io::Result<SlabLines> {
        let mut lines = SlabLines::zeroed(n_lines)?;
        // Not zeros: untouched zero pages are one page of memory, many times over.
        lines.lines_mut().fill([1; 64]);
        Ok(lines)
    };
    let buffers = (0..pool.n_threads()).map(buffer).collect::<io::Result<Vec<SlabLines>>>()?;
    let bytes = (n_lines * size_of::<CodeRegister>()) as f64;
    let load = |thread: usize, n_times| {
        isa.run(Load { lines: bytemuck::cast_slice(buffers[thread].lines()), n_times });
    };
    Ok(bytes * rate(pool, load))
}

/// Operations a second, two for each multiply-add, of `pool`'s int8 dot products.
pub fn dot_rate(isa: Isa, pool: &Pool) -> f64 {
    let operations = (2 * DOT_CODES * size_of::<CodeRegister>()) as f64;
    operations * rate(pool, |_, n_times| isa.run(Dot { n_times }))
}

/// Operations a second, two for each multiply-add, of `pool`'s arithmetic in `f32`.
pub fn multiply_add_rate(isa: Isa, pool: &Pool) -> f64 {
    let operations = (2 * MULTIPLY_ADDS * LANES) as f64;
    operations * rate(pool, |_, n_times| isa.run(MultiplyAdd { n_times }))
}

/// How often a second all threads together can do `work(thread, n_times)` once.
fn rate(pool: &Pool, work: impl Fn(usize, usize) + Sync) -> f64 {
    let n_threads = pool.n_threads();
    let time = |n_times| {
        let start = Instant::now();
        pool.run(n_threads, |thread, _| work(thread, n_times));
        start.elapsed()
    };
    let mut n_times = 1;
    while time(n_times) < LONG_ENOUGH {
        n_times *= 2;
    }
    let best = (0..REPETITIONS).map(|_| time(n_times)).min().unwrap_or(LONG_ENOUGH);
    (n_threads * n_times) as f64 / best.as_secs_f64()
}

/// [`unroll`] over independent sums, so many that none waits for its own last step.
macro_rules! for_sums {
    ($i:ident < $n:expr => $body:block) => {
        unroll!($i < $n, of 0 1 2 3 4 5 6 7 8 9 10 11 => $body)
    };
}

/// Sums of [`Load`], which reads so many lines at a time.
const SUMS: usize = 8;

/// What is loaded at once, and lies in one line of a cache as packed weights do.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line<T>(T);

/// Loads all lines, several times.
struct Load<'a> {
    lines: &'a [[f32; LANES]],
    n_times: usize,
}

impl Kernel for Load<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut sums = [simd.splat(0.0); SUMS];
        for _ in 0..self.n_times {
            for lines in black_box(self.lines).as_chunks::<SUMS>().0 {
                unroll!(i < SUMS, of 0 1 2 3 4 5 6 7 => { sums[i] = simd.add(sums[i], simd.load(&lines[i])) });
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum(sum)));
    }
}

/// Registers of codes that [`Dot`] goes through.
const DOT_CODES: usize = 96;

/// Multiplies codes that lie in the first-level cache, several times.
struct Dot {
    n_times: usize,
}

impl Kernel for Dot {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let codes = black_box([Line([1; 64]); DOT_CODES]);
        // Narrower registers hold fewer sums.
        if S::TOKENS >= 8 {
            dot::<S, 12>(simd, &codes, self.n_times);
        } else {
            dot::<S, 6>(simd, &codes, self.n_times);
        }
    }
}

#[inline(always)]
fn dot<S: Simd, const N: usize>(simd: S, codes: &[Line<CodeRegister>], n_times: usize) {
    let mut sums = [simd.splat_i32(0); N];
    for _ in 0..n_times {
        let x = black_box(0x0101_0101);
        for codes in codes.as_chunks::<N>().0 {
            for_sums!(i < N => { sums[i] = simd.dot_u6(sums[i], simd.load_bytes(&codes[i].0), x) });
        }
    }
    black_box(sums.map(|sum| simd.reduce_sum(simd.to_f32(sum))));
}

/// Multiply-adds of one round of [`MultiplyAdd`].
const MULTIPLY_ADDS: usize = 96;

/// Multiplies and adds in registers, several times.
struct MultiplyAdd {
    n_times: usize,
}

impl Kernel for MultiplyAdd {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::TOKENS >= 8 {
            multiply_add::<S, 12>(simd, self.n_times);
        } else {
            multiply_add::<S, 6>(simd, self.n_times);
        }
    }
}

#[inline(always)]
fn multiply_add<S: Simd, const N: usize>(simd: S, n_times: usize) {
    let (a, b) = (simd.splat(black_box(0.5)), simd.splat(black_box(1.0)));
    let mut sums = [simd.splat(0.0); N];
    for _ in 0..n_times * (MULTIPLY_ADDS / N) {
        for_sums!(i < N => { sums[i] = simd.mul_add(sums[i], a, b) });
    }
    black_box(sums.map(|sum| simd.reduce_sum(sum)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_rates() {
        let pool = Pool::new(2);
        for isa in Isa::available() {
            let rates =
                [load_rate(isa, &pool, 4096).unwrap(), dot_rate(isa, &pool), multiply_add_rate(isa, &pool)];
            assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 1e6), "{isa:?}: {rates:?}");
        }
    }
}
