//! Small integers packed into 32-bit words.
//!
//! Every format packs them in one of few ways: along the outputs of a layer or along its inputs, into a tensor that has
//! outputs first or last. [`Integers`] reads them all.

use std::ops::Range;

use bytes::Bytes;
use sterna_tensor::Pool;

use super::tables::{check_shape, check_words};
use crate::error::Result;
use crate::tensor::Tensor;

const WORD_BITS: usize = 32;

/// Words in a line of memory.
const LINE_WORDS: usize = 16;

/// Columns that are mostly read at once: whole words of any width.
pub(super) const RUN: usize = 32;

/// Along what integers are packed: a word holds those of neighbouring rows, or of neighbouring columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    Rows,
    Cols,
}

/// How the integers of a table lie in a tensor of words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) along: Along,
    /// The tensor's first dimension is the table's columns.
    pub(super) transposed: bool,
    /// The eight integers of a word are in AWQ's order.
    pub(super) interleaved: bool,
}

/// Which place in a word AWQ gives to each of eight neighbouring outputs.
const AWQ_PLACES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// A table of unsigned integers of 1 to 8 bits. Along [`Layout::along`] they are a stream of bits, beginning with the
/// lowest of the first word; where their bits do not divide 32, some lie in two words.
#[derive(Debug)]
pub(super) struct Integers {
    words: Bytes,
    bits: usize,
    layout: Layout,
    /// Words from one entry of the tensor's first dimension to the next.
    stride: usize,
}

impl Integers {
    /// The table of `rows` x `cols` in `tensor`.
    ///
    /// # Errors
    /// When the tensor is not of words, or has another shape.
    pub(super) fn new(
        tensor: &Tensor,
        rows: usize,
        cols: usize,
        bits: usize,
        layout: Layout,
    ) -> Result<Integers> {
        let n_words = |n: usize| n.saturating_mul(bits).div_ceil(WORD_BITS);
        let (rows, cols) = match layout.along {
            Along::Rows => (n_words(rows), cols),
            Along::Cols => (rows, n_words(cols)),
        };
        let shape = if layout.transposed { [cols, rows] } else { [rows, cols] };
        check_words(tensor)?;
        check_shape(tensor, &shape)?;
        Ok(Integers { words: tensor.data.clone(), bits, layout, stride: shape[1] })
    }

    /// The integer at `row` and `col`.
    pub(super) fn get(&self, row: usize, col: usize) -> u8 {
        let mut out = [0];
        self.read(row, col, &mut out);
        out[0]
    }

    /// The integers of `row` from column `first` on.
    #[inline]
    pub(super) fn read(&self, row: usize, first: usize, out: &mut [u8]) {
        match (self.layout.along, <&mut [u8; RUN]>::try_from(&mut *out)) {
            (Along::Cols, Ok(out)) if first.is_multiple_of(RUN) => match self.bits {
                2 => self.read_run::<2>(row, first, out),
                3 => self.read_run::<3>(row, first, out),
                4 => self.read_run::<4>(row, first, out),
                5 => self.read_run::<5>(row, first, out),
                6 => self.read_run::<6>(row, first, out),
                8 => self.read_run::<8>(row, first, out),
                _ => self.read_any(row, first, out),
            },
            _ => self.read_any(row, first, out),
        }
    }

    /// As [`Integers::read`], of any width and number.
    fn read_any(&self, row: usize, first: usize, out: &mut [u8]) {
        match self.layout.along {
            Along::Cols => {
                for (out, col) in out.iter_mut().zip(first..) {
                    let (word, from) = self.place(col);
                    *out = self.integer(from, |next| self.word(row, word + next));
                }
            }
            Along::Rows => {
                let (word, from) = self.place(row);
                if !self.layout.transposed && from + self.bits <= WORD_BITS {
                    let (words, _) = self.words.as_chunks();
                    for (out, word) in out.iter_mut().zip(&words[self.index(word, first)..]) {
                        *out = (u32::from_le_bytes(*word) >> from) as u8 & self.mask();
                    }
                    return;
                }
                for (out, col) in out.iter_mut().zip(first..) {
                    *out = self.integer(from, |next| self.word(word + next, col));
                }
            }
        }
    }

    /// As [`Integers::read`], of `BITS` bits along the columns: 32 of them are whole words, and with a constant width
    /// there is nothing to decide for each.
    fn read_run<const BITS: usize>(&self, row: usize, first: usize, out: &mut [u8; RUN]) {
        let word = first / WORD_BITS * BITS;
        let words: [u32; BITS] = std::array::from_fn(|next| self.word(row, word + next));
        for (i, out) in out.iter_mut().enumerate() {
            let (word, from) = (i * BITS / WORD_BITS, i * BITS % WORD_BITS);
            let mut bits = words[word] >> from;
            if from + BITS > WORD_BITS {
                bits |= words[word + 1] << (WORD_BITS - from);
            }
            *out = bits as u8 & (u8::MAX >> (8 - BITS));
        }
    }

    /// The integer that begins at bit `from` of the word `word(0)`.
    #[inline]
    fn integer(&self, from: usize, word: impl Fn(usize) -> u32) -> u8 {
        let mut bits = word(0) >> from;
        if from + self.bits > WORD_BITS {
            bits |= word(1) << (WORD_BITS - from);
        }
        bits as u8 & self.mask()
    }

    fn mask(&self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }

    /// Whether neighbours in a row are far from each other in memory, each in a line of its own.
    pub(super) fn is_column_wise(&self) -> bool {
        self.layout.along == Along::Rows && self.layout.transposed
    }

    /// The same table with the tensor's dimensions in the other order, in memory.
    pub(super) fn turned(&self, pool: &Pool) -> Integers {
        let (words, _) = self.words.as_chunks::<4>();
        let stride = words.len() / self.stride;
        let mut turned = vec![[0; 4]; words.len()];
        pool.run_slices(&mut turned, LINE_WORDS * stride, |lines, out, _| {
            for (at, line) in words.chunks_exact(self.stride).enumerate() {
                let line = &line[lines * LINE_WORDS..];
                for (out, word) in out.chunks_exact_mut(stride).zip(line) {
                    out[at] = *word;
                }
            }
        });
        let layout = Layout { transposed: !self.layout.transposed, ..self.layout };
        Integers { words: Bytes::from_owner(Words(turned)), bits: self.bits, layout, stride }
    }

    /// The bytes of `rows`, where they are a range.
    pub(super) fn bytes_of_rows(&self, rows: Range<usize>) -> Option<Bytes> {
        let is_range = self.layout.along == Along::Cols && !self.layout.transposed;
        is_range.then(|| self.words.slice(rows.start * self.stride * 4..rows.end * self.stride * 4))
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.words
    }

    /// The word in which integer `index` of a stream begins, and at which bit.
    fn place(&self, index: usize) -> (usize, usize) {
        let index = if self.layout.interleaved { index / 8 * 8 + AWQ_PLACES[index % 8] } else { index };
        (index * self.bits / WORD_BITS, index * self.bits % WORD_BITS)
    }

    #[inline]
    fn word(&self, row: usize, col: usize) -> u32 {
        let (words, _) = self.words.as_chunks();
        u32::from_le_bytes(words[self.index(row, col)])
    }

    /// Which word is at `row` and `col` of the table of words.
    #[inline]
    fn index(&self, row: usize, col: usize) -> usize {
        let (outer, inner) = if self.layout.transposed { (col, row) } else { (row, col) };
        outer * self.stride + inner
    }
}

/// Lets `Bytes` own words.
struct Words(Vec<[u8; 4]>);

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        self.0.as_flattened()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{OtherType, TensorType};

    fn words(shape: [usize; 2], words: &[u32]) -> Tensor {
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let ty = TensorType::Other(OtherType::I32);
        Tensor::new("file", "x.qweight", shape.to_vec(), ty, data.into()).unwrap()
    }

    /// Packs `rows` x `cols` in the most literal way: bit by bit.
    fn packed(
        rows: usize,
        cols: usize,
        bits: usize,
        layout: Layout,
        value: impl Fn(usize, usize) -> u8,
    ) -> Tensor {
        let n_words = |n: usize| (n * bits).div_ceil(32);
        let (word_rows, word_cols) = match layout.along {
            Along::Rows => (n_words(rows), cols),
            Along::Cols => (rows, n_words(cols)),
        };
        let shape = if layout.transposed { [word_cols, word_rows] } else { [word_rows, word_cols] };
        let mut out = vec![0u32; shape[0] * shape[1]];
        for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
            for bit in 0..bits {
                let at = |n: usize| (n * bits + bit) / 32;
                let (index, word) = match layout.along {
                    Along::Rows => (row, (at(row), col)),
                    Along::Cols => (col, (row, at(col))),
                };
                let word =
                    if layout.transposed { word.1 * shape[1] + word.0 } else { word.0 * shape[1] + word.1 };
                out[word] |= u32::from(value(row, col) >> bit & 1) << ((index * bits + bit) % 32);
            }
        }
        words(shape, &out)
    }

    #[test]
    fn every_width_comes_back_from_every_layout() {
        for bits in 1..=8 {
            let value = |row: usize, col: usize| ((row * 37 + col * 11) % (1 << bits)) as u8;
            for along in [Along::Rows, Along::Cols] {
                for transposed in [false, true] {
                    let layout = Layout { along, transposed, interleaved: false };
                    let (rows, cols) = (40, 70);
                    let tensor = packed(rows, cols, bits, layout, value);
                    let table = Integers::new(&tensor, rows, cols, bits, layout).unwrap();
                    for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                        assert_eq!(table.get(row, col), value(row, col), "{bits} {layout:?} {row} {col}");
                    }
                    let mut run = [0; 33];
                    table.read(3, 37, &mut run);
                    assert_eq!(run, std::array::from_fn(|i| value(3, 37 + i)));
                }
            }
        }
    }

    #[test]
    fn turned_tables_hold_the_same() {
        let layout = Layout { along: Along::Rows, transposed: true, interleaved: true };
        let tensor = packed(200, 37, 4, layout, |row, col| ((row * 5 + col * 3) % 16) as u8);
        let table = Integers::new(&tensor, 200, 37, 4, layout).unwrap();
        let turned = table.turned(&Pool::new(2));
        assert!(table.is_column_wise() && !turned.is_column_wise());
        for (row, col) in (0..200).flat_map(|row| (0..37).map(move |col| (row, col))) {
            assert_eq!(turned.get(row, col), table.get(row, col));
        }
    }

    #[test]
    fn awq_interleaves_outputs() {
        let layout = Layout { along: Along::Rows, transposed: true, interleaved: true };
        // Nibble i holds output [0, 2, 4, 6, 1, 3, 5, 7][i].
        let table = Integers::new(&words([1, 1], &[0x7531_6420]), 8, 1, 4, layout).unwrap();
        assert_eq!(std::array::from_fn(|row| table.get(row, 0)), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn errors_name_the_tensor_and_its_shape() {
        let layout = Layout { along: Along::Cols, transposed: false, interleaved: false };
        let message = |rows, cols| {
            Integers::new(&words([2, 3], &[0; 6]), rows, cols, 4, layout).unwrap_err().to_string()
        };
        assert_eq!(message(2, 32), "file: tensor x.qweight: expected shape [2, 4], found [2, 3]");
        assert!(message(usize::MAX, usize::MAX).contains("found [2, 3]"));
        let floats = Tensor { ty: TensorType::Dense(sterna_tensor::DType::F32), ..words([2, 3], &[0; 6]) };
        let error = Integers::new(&floats, 2, 24, 4, layout).unwrap_err().to_string();
        assert_eq!(error, "file: tensor x.qweight: expected I32 or U32, packed integers, found F32");
    }
}
