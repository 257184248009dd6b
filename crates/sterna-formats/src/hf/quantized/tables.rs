//! Tables as quantized layers hold them: small integers packed into 32-bit words, and floats.
//!
//! Every format packs integers in one of few ways: along the outputs of a layer or along its inputs, into a tensor that
//! has outputs first or last. [`Integers`] reads them all. A *row* of a table is an output of the layer; its *columns* are
//! inputs, or groups of inputs.

use std::ops::Range;

use bytes::Bytes;
use sterna_tensor::DType;

use super::matrix::Groups;
use crate::error::{FormatError, Result};
use crate::tensor::{OtherType, Tensor, TensorType};

const WORD_BITS: usize = 32;

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
        let mask = u8::MAX >> (8 - self.bits);
        match self.layout.along {
            Along::Cols => {
                let (mut word, from) = self.place(first);
                let mut stream = u64::from(self.word(row, word)) >> from;
                let mut left = WORD_BITS - from;
                for out in out {
                    if left < self.bits {
                        word += 1;
                        stream |= u64::from(self.word(row, word)) << left;
                        left += WORD_BITS;
                    }
                    *out = stream as u8 & mask;
                    stream >>= self.bits;
                    left -= self.bits;
                }
            }
            Along::Rows => {
                let (word, from) = self.place(row);
                for (out, col) in out.iter_mut().zip(first..) {
                    let mut bits = self.word(word, col) >> from;
                    if from + self.bits > WORD_BITS {
                        bits |= self.word(word + 1, col) << (WORD_BITS - from);
                    }
                    *out = bits as u8 & mask;
                }
            }
        }
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
        let (outer, inner) = if self.layout.transposed { (col, row) } else { (row, col) };
        let (words, _) = self.words.as_chunks();
        u32::from_le_bytes(words[outer * self.stride + inner])
    }
}

/// A table of floats.
#[derive(Debug)]
pub(super) struct Floats {
    data: Bytes,
    dtype: DType,
    transposed: bool,
    /// Elements from one entry of the tensor's first dimension to the next.
    stride: usize,
}

impl Floats {
    /// The table of `rows` x `cols` in `tensor`, of which `[cols, rows]` is the shape where it is `transposed`.
    ///
    /// # Errors
    /// When the tensor is not of floats, or has another shape.
    pub(super) fn new(tensor: &Tensor, rows: usize, cols: usize, transposed: bool) -> Result<Floats> {
        let TensorType::Dense(dtype) = tensor.ty else {
            return Err(wrong(tensor, "floats", tensor.ty.to_string()));
        };
        let shape = if transposed { [cols, rows] } else { [rows, cols] };
        check_shape(tensor, &shape)?;
        Ok(Floats { data: tensor.data.clone(), dtype, transposed, stride: shape[1] })
    }

    /// The float at `row` and `col`.
    #[inline]
    pub(super) fn get(&self, row: usize, col: usize) -> f32 {
        let (outer, inner) = if self.transposed { (col, row) } else { (row, col) };
        let size = self.dtype.size_of();
        let mut out = [0.0];
        self.dtype.widen(&self.data[(outer * self.stride + inner) * size..][..size], &mut out);
        out[0]
    }

    /// Bytes of all floats.
    pub(super) fn n_bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }
}

/// Refuses a tensor that is not of 32-bit words.
pub(super) fn check_words(tensor: &Tensor) -> Result<()> {
    match tensor.ty {
        TensorType::Other(OtherType::I32 | OtherType::U32) => Ok(()),
        _ => Err(wrong(tensor, "I32 or U32, packed integers", tensor.ty.to_string())),
    }
}

/// Refuses a tensor of another shape.
pub(super) fn check_shape(tensor: &Tensor, expected: &[usize]) -> Result<()> {
    match tensor.shape == expected {
        true => Ok(()),
        false => Err(wrong(tensor, format!("shape {expected:?}"), format!("{:?}", tensor.shape))),
    }
}

/// The two dimensions of a tensor.
pub(super) fn two_dimensions(tensor: &Tensor) -> Result<[usize; 2]> {
    let shape = tensor.shape.as_slice().try_into();
    shape.map_err(|_| wrong(tensor, "two dimensions", format!("shape {:?}", tensor.shape)))
}

/// The integers of a small tensor, such as a list of groups.
pub(super) fn list(tensor: &Tensor) -> Result<Vec<i64>> {
    let data = &tensor.data;
    match tensor.ty {
        TensorType::Other(OtherType::I32) => {
            Ok(data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect())
        }
        TensorType::Other(OtherType::I64) => {
            Ok(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
        }
        _ => Err(wrong(tensor, "I32 or I64", tensor.ty.to_string())),
    }
}

/// Which of `n_groups` groups each of `n_inputs` inputs is in, as `g_idx` lists them.
///
/// # Errors
/// When there is no such group, or a number of inputs that is not this.
pub(super) fn listed_groups(g_idx: &Tensor, n_inputs: usize, n_groups: usize) -> Result<Groups> {
    check_shape(g_idx, &[n_inputs])?;
    let mut groups = Vec::with_capacity(n_inputs);
    for group in list(g_idx)? {
        match u32::try_from(group) {
            Ok(group) if (group as usize) < n_groups => groups.push(group),
            _ => return Err(wrong(g_idx, format!("groups from 0 to {}", n_groups - 1), group.to_string())),
        }
    }
    // As long as the first run, if all are in order.
    let size = groups.iter().take_while(|&&group| group == 0).count();
    let is_ordered =
        size > 0 && groups.iter().enumerate().all(|(input, &group)| group as usize == input / size);
    Ok(if is_ordered { Groups::Of(size) } else { Groups::Listed(groups) })
}

/// The error that says: `tensor` should be `expected`, and is what it is.
pub(super) fn wrong(tensor: &Tensor, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
    FormatError::invalid(&*tensor.file, format!("tensor {}", tensor.name), expected, found)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let floats = Floats::new(&words([2, 3], &[0; 6]), 2, 3, false).unwrap_err().to_string();
        assert_eq!(floats, "file: tensor x.qweight: expected floats, found I32");
    }
}
