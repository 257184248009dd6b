//! Linear layers: several matrices that read the same input, in one parallel region.

use std::marker::PhantomData;

use crate::packed::MOST_TILES;
use crate::simd::LANES;
use crate::{Activations, Compute, Matrix, OutputTile, Precision};

/// Weights of a chunk: small enough that threads finish together, large enough that claiming one costs nothing.
const CHUNK_BYTES: usize = 128 << 10;

/// The same for several tokens, which all have to come from further away for every chunk.
const BATCH_BYTES: usize = 512 << 10;

/// Chunks for each thread, at the least, so that one which is slowed down does not hold up the others.
const CHUNKS_PER_THREAD: usize = 8;

/// `y_i[n_tokens, rows_i] = x[n_tokens, cols] · W_iᵀ` for every output, all in one parallel region.
///
/// ```
/// use sterna_tensor::{Activations, Compute, DenseMatrix, Matrix, Precision, linear};
///
/// let c = Compute::new(1, Precision::Int8);
/// let w = Matrix::from(DenseMatrix::from_f32(2, 3, vec![1.0, 0.0, 0.0, 0.0, 2.0, 0.0])?);
/// let mut x = Activations::new();
/// x.set(&[5.0, 6.0, 7.0], 3, &c);
/// let mut y = [0.0; 2];
/// linear(&c, &x, &mut [(&w, &mut y)]);
/// assert_eq!(y, [5.0, 12.0]);
/// # Ok::<(), sterna_tensor::ShapeError>(())
/// ```
///
/// # Panics
/// When a matrix has other columns than `x`, an output is not `n_tokens * rows` long, or packed weights are wanted with
/// [`Precision::Int8`] but `x` was set with [`Precision::Float`].
pub fn linear(c: &Compute, x: &Activations, outputs: &mut [(&Matrix, &mut [f32])]) {
    let mut n_bytes = 0;
    let mut most_bytes = CHUNK_BYTES;
    for (i, (w, y)) in outputs.iter().enumerate() {
        assert_eq!(w.cols(), x.cols(), "columns of matrix {i} and of its input");
        assert_eq!(y.len(), x.n_tokens() * w.rows(), "outputs of matrix {i}");
        n_bytes += w.n_bytes();
        if x.n_tokens() > 1 {
            most_bytes = BATCH_BYTES;
        }
    }
    let chunk_bytes = (n_bytes / (c.pool.n_threads() * CHUNKS_PER_THREAD)).clamp(1, most_bytes);
    let outputs = Outputs::new(outputs);
    let n_chunks = (0..outputs.len).map(|i| Chunks::of(outputs.get(i).0, chunk_bytes).n).sum();
    c.pool.run_in_spans(n_chunks, |chunk, _| {
        let mut chunk = chunk;
        for i in 0..outputs.len {
            let (w, out) = outputs.get(i);
            let chunks = Chunks::of(w, chunk_bytes);
            if chunk < chunks.n {
                // SAFETY: each chunk of the region has its own rows, and the outputs were checked above to hold
                // every row of every token.
                return unsafe { chunks.run(c, w, x, chunk, out) };
            }
            chunk -= chunks.n;
        }
    });
}

/// How the row tiles of one matrix are cut into chunks.
struct Chunks {
    n_tiles: usize,
    tiles_per_chunk: usize,
    n: usize,
}

impl Chunks {
    fn of(w: &Matrix, chunk_bytes: usize) -> Chunks {
        let n_tiles = w.rows().div_ceil(LANES);
        let tile_bytes = (w.n_bytes() / n_tiles.max(1)).max(1);
        let tiles_per_chunk = (chunk_bytes / tile_bytes).max(1).next_multiple_of(MOST_TILES);
        Chunks { n_tiles, tiles_per_chunk, n: n_tiles.div_ceil(tiles_per_chunk) }
    }

    /// Computes chunk `chunk`.
    ///
    /// # Safety
    /// `out` must have room for all rows of `w` for every token, and nobody else may touch those of this chunk.
    unsafe fn run(&self, c: &Compute, w: &Matrix, x: &Activations, chunk: usize, out: OutputTile) {
        let first = chunk * self.tiles_per_chunk;
        let tiles = first..(first + self.tiles_per_chunk).min(self.n_tiles);
        // SAFETY: passed on from the caller.
        unsafe {
            match (w, c.precision) {
                (Matrix::Packed(w), Precision::Int8) => {
                    w.tiles_dot_int8(c.tuning.kernels(w.format(), c.isa), tiles, x, out);
                }
                (Matrix::Packed(w), Precision::Float) => w.tiles_dot_f32(c.isa, tiles, x, out),
                (Matrix::Dense(w), _) => {
                    let rows = tiles.start * LANES..(tiles.end * LANES).min(w.rows());
                    w.rows_dot(c.isa, rows, x.values(), x.n_tokens(), out);
                }
            }
        }
    }
}

/// The outputs of a region, shared by its threads.
///
/// The slices are only taken apart into pointers: chunks own interleaved parts of them.
struct Outputs<'s, 'a, 'b> {
    start: *const Output<'a, 'b>,
    len: usize,
    slots: PhantomData<&'s mut [Output<'a, 'b>]>,
}

type Output<'a, 'b> = (&'a Matrix, &'b mut [f32]);

// SAFETY: `get` reads the pointers and writes nothing; writes go through `OutputTile`, whose users vouch that no two
// threads write the same element.
unsafe impl Sync for Outputs<'_, '_, '_> {}

impl<'s, 'a, 'b> Outputs<'s, 'a, 'b> {
    fn new(outputs: &'s mut [Output<'a, 'b>]) -> Self {
        Outputs { start: outputs.as_mut_ptr(), len: outputs.len(), slots: PhantomData }
    }

    fn get(&self, i: usize) -> (&'a Matrix, OutputTile) {
        assert!(i < self.len, "output {i} of {}", self.len);
        // SAFETY: `new` was given an exclusive borrow that lasts as long as `self`, nobody writes to the slots, and a slot holding a `&mut [f32]` may be read as the raw pointer that it is, which makes no second
        // reference to the floats.
        unsafe {
            let slot = self.start.add(i);
            let w = (&raw const (*slot).0).read();
            let y = (&raw const (*slot).1).cast::<*mut [f32]>().read();
            (w, OutputTile { start: y.cast(), stride: w.rows() })
        }
    }
}
