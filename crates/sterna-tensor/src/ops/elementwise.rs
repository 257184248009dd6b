//! Drivers for operations that treat every element alike, ragged ends included.

use crate::simd::{Kernel, LANES, Simd};

/// `x[i] = lanes(x[i], y[i])`, sixteen at a time.
///
/// A trait and not a closure, because only `#[inline(always)]` functions are sure to be compiled with the instruction
/// set of the kernel that they end up in.
pub(super) trait Update: Copy {
    /// The operation on one vector. Implementations are `#[inline(always)]`.
    fn lanes<S: Simd>(self, simd: S, x: S::F32, y: S::F32) -> S::F32;
}

/// `x = op(x, y)`
pub(super) struct InPlace<'a, O> {
    pub(super) op: O,
    pub(super) x: &'a mut [f32],
    pub(super) y: &'a [f32],
}

impl<O: Update> Kernel for InPlace<'_, O> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert_eq!(self.x.len(), self.y.len(), "lengths of the operands");
        let (body, tail) = self.x.as_chunks_mut::<LANES>();
        let (body_y, tail_y) = self.y.as_chunks::<LANES>();
        for (x, y) in body.iter_mut().zip(body_y) {
            simd.store(self.op.lanes(simd, simd.load(x), simd.load(y)), x);
        }
        if !tail.is_empty() {
            let (x, y) = (load_partial(simd, tail), load_partial(simd, tail_y));
            store_partial(simd, self.op.lanes(simd, x, y), tail);
        }
    }
}

/// `out = op(x, y)`
pub(super) struct Zip<'a, O> {
    pub(super) op: O,
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl<O: Update> Kernel for Zip<'_, O> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert_eq!(self.x.len(), self.y.len(), "lengths of the operands");
        assert_eq!(self.x.len(), self.out.len(), "length of the result");
        let (body_x, tail_x) = self.x.as_chunks::<LANES>();
        let (body_y, tail_y) = self.y.as_chunks::<LANES>();
        let (body, tail) = self.out.as_chunks_mut::<LANES>();
        for ((out, x), y) in body.iter_mut().zip(body_x).zip(body_y) {
            simd.store(self.op.lanes(simd, simd.load(x), simd.load(y)), out);
        }
        if !tail.is_empty() {
            let (x, y) = (load_partial(simd, tail_x), load_partial(simd, tail_y));
            store_partial(simd, self.op.lanes(simd, x, y), tail);
        }
    }
}

/// Fewer than sixteen elements, with zeros behind.
#[inline(always)]
pub(crate) fn load_partial<S: Simd>(simd: S, from: &[f32]) -> S::F32 {
    let mut lanes = [0.0; LANES];
    lanes[..from.len()].copy_from_slice(from);
    simd.load(&lanes)
}

/// At most sixteen elements, with zeros behind.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, from: &[f32]) -> S::F32 {
    match from.as_chunks() {
        ([whole], _) => simd.load(whole),
        (_, part) => load_partial(simd, part),
    }
}

/// `a · b`
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = simd.splat(0.0);
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        sum = simd.mul_add(load(simd, a), load(simd, b), sum);
    }
    simd.reduce_sum(sum)
}

/// The first lanes, as many as `to`, which is at most sixteen long, holds.
#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, v: S::F32, to: &mut [f32]) {
    match to.as_chunks_mut() {
        ([whole], _) => simd.store(v, whole),
        (_, part) => store_partial(simd, v, part),
    }
}

/// The first lanes, as many as `to` holds.
#[inline(always)]
pub(crate) fn store_partial<S: Simd>(simd: S, v: S::F32, to: &mut [f32]) {
    let mut lanes = [0.0; LANES];
    simd.store(v, &mut lanes);
    to.copy_from_slice(&lanes[..to.len()]);
}
