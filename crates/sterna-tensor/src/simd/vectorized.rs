//! Plain loops over floats, compiled for each instruction set.

use super::{Kernel, Simd};
use crate::Isa;

/// A computation in plain Rust which the compiler vectorizes, see [`Isa::vectorize`]. It gives the same bits everywhere: the
/// compiler neither reorders sums of floats nor rounds a product and a sum at once where the code does not.
///
/// Mark `run`, and every function that it calls in a loop, `#[inline(always)]`: only what is inlined is compiled for the
/// instruction set.
pub trait Vectorized {
    /// What the computation returns.
    type Output;
    /// The computation.
    fn run(self) -> Self::Output;
}

struct Plain<V>(V);

impl<V: Vectorized> Kernel for Plain<V> {
    type Output = V::Output;
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> V::Output {
        self.0.run()
    }
}

impl Isa {
    /// Runs `computation` with this instruction set, or with that of the build where the CPU lacks it.
    ///
    /// ```
    /// use sterna_tensor::{Isa, Vectorized};
    ///
    /// struct Scale<'a>(&'a mut [f32], f32);
    ///
    /// impl Vectorized for Scale<'_> {
    ///     type Output = ();
    ///     #[inline(always)]
    ///     fn run(self) {
    ///         self.0.iter_mut().for_each(|x| *x *= self.1);
    ///     }
    /// }
    ///
    /// let mut x = [1.0, 2.0, 3.0];
    /// Isa::best().vectorize(Scale(&mut x, 2.0));
    /// assert_eq!(x, [2.0, 4.0, 6.0]);
    /// ```
    pub fn vectorize<V: Vectorized>(self, computation: V) -> V::Output {
        self.run(Plain(computation))
    }
}
