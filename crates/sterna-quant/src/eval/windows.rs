//! A text cut as llama-perplexity cuts it (`tools/perplexity` of llama.cpp, the mode without a stride).
//!
//! The whole text is tokenized once. Windows of `length` tokens follow each other without overlap, and what is left at
//! the end is not used. In each window the first token is overwritten with BOS if the model's texts begin with it. A
//! model sees the whole window, but only its second half is scored: position `i` predicts token `i + 1` for
//! `length / 2 <= i < length - 1`, so that every prediction knows at least half a window.

use sterna_formats::{Special, Tokenizer};

use super::{EvalError, Result};

/// Tokens of the shortest window: one prediction is scored.
pub(crate) const MIN_LENGTH: usize = 4;

/// A text in windows of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// `[n_windows, length]`, BOS in its place.
    tokens: Vec<u32>,
    length: usize,
}

impl Windows {
    /// The windows of `tokens`, at most `limit` of them. `bos` is put at the start of each.
    ///
    /// # Errors
    /// [`EvalError::TextTooShort`], and [`EvalError::WindowTooShort`].
    pub fn new(
        mut tokens: Vec<u32>,
        length: usize,
        bos: Option<u32>,
        limit: Option<usize>,
    ) -> Result<Windows> {
        if length < MIN_LENGTH {
            return Err(EvalError::WindowTooShort { found: length });
        }
        let n_windows = (tokens.len() / length).min(limit.unwrap_or(usize::MAX));
        if n_windows == 0 {
            return Err(EvalError::TextTooShort { window: length, found: tokens.len() });
        }
        tokens.truncate(n_windows * length);
        if let Some(bos) = bos {
            tokens.chunks_exact_mut(length).for_each(|window| window[0] = bos);
        }
        Ok(Windows { tokens, length })
    }

    /// The windows of `text`. Special tokens written out in it are plain text.
    ///
    /// # Errors
    /// As [`Windows::new`], and the tokenizer's.
    pub fn of_text(
        tokenizer: &Tokenizer,
        text: &str,
        length: usize,
        limit: Option<usize>,
    ) -> Result<Windows> {
        let bos = leading_bos(tokenizer)?;
        let mut tokens: Vec<u32> = bos.into_iter().collect();
        tokens.extend(tokenizer.encode(text, Special::Text)?);
        Windows::new(tokens, length, bos, limit)
    }

    /// Number of windows.
    pub fn n_windows(&self) -> usize {
        self.tokens.len() / self.length
    }

    /// Tokens of a window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The first position of a window that is scored.
    pub fn first_scored(&self) -> usize {
        self.length / 2
    }

    /// Scored positions of a window.
    pub fn scored_per_window(&self) -> usize {
        self.length - 1 - self.first_scored()
    }

    /// Scored positions of all windows.
    pub fn n_scored(&self) -> usize {
        self.n_windows() * self.scored_per_window()
    }

    /// The tokens of window `i`.
    pub fn tokens(&self, i: usize) -> &[u32] {
        &self.tokens[i * self.length..][..self.length]
    }

    /// The tokens of window `i` that its scored positions predict, `[scored_per_window]`.
    pub fn targets(&self, i: usize) -> &[u32] {
        &self.tokens(i)[self.first_scored() + 1..]
    }

    /// The tokens of all windows, one after the other.
    pub fn all_tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// BOS, if `tokenizer` puts it before a text.
///
/// # Errors
/// The tokenizer's.
pub fn leading_bos(tokenizer: &Tokenizer) -> Result<Option<u32>> {
    let frame = tokenizer.encode_with_bos("")?;
    Ok(tokenizer.bos().filter(|bos| frame.first() == Some(bos)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_of_512_scores_255_positions() {
        let windows = Windows::new((0..1100).collect(), 512, Some(7), None).unwrap();
        assert_eq!((windows.n_windows(), windows.first_scored(), windows.scored_per_window()), (2, 256, 255));
        assert_eq!(
            (windows.tokens(0)[..2].to_vec(), windows.tokens(1)[..2].to_vec()),
            (vec![7, 1], vec![7, 513])
        );
        assert_eq!((windows.targets(0)[0], windows.targets(0)[254]), (257, 511));
        assert_eq!((windows.targets(1)[0], windows.targets(1)[254]), (769, 1023));
    }

    #[test]
    fn too_little_is_refused() {
        assert!(matches!(
            Windows::new(vec![0; 7], 8, None, None),
            Err(EvalError::TextTooShort { window: 8, found: 7 })
        ));
        assert!(matches!(
            Windows::new(vec![0; 7], 3, None, None),
            Err(EvalError::WindowTooShort { found: 3 })
        ));
        assert!(Windows::new(vec![0; 7], 4, None, Some(0)).is_err());
    }

    proptest! {
        /// Each token is the target of at most one position, that position is the one before it, and it lies in the
        /// second half of its window.
        #[test]
        fn the_right_positions_are_scored(n in 4usize..400, length in 4usize..40, limit in 1usize..9) {
            let tokens: Vec<u32> = (0..n as u32).collect();
            match Windows::new(tokens.clone(), length, None, Some(limit)) {
                Err(_) => prop_assert!(n < length),
                Ok(windows) => {
                    prop_assert_eq!(windows.n_windows(), (n / length).min(limit));
                    for i in 0..windows.n_windows() {
                        prop_assert_eq!(windows.tokens(i), &tokens[i * length..(i + 1) * length]);
                        let expected: Vec<u32> = (length / 2..length - 1)
                            .map(|position| windows.tokens(i)[position + 1])
                            .collect();
                        prop_assert_eq!(windows.targets(i), &expected);
                        prop_assert_eq!(expected.len(), windows.scored_per_window());
                    }
                    prop_assert_eq!(windows.n_scored(), windows.n_windows() * windows.scored_per_window());
                }
            }
        }
    }
}
