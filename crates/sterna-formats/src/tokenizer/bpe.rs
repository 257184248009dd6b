//! Byte-pair merging: from the characters of one word to token ids.
//!
//! A word starts as one symbol per character. Neighbours are then joined, best pair first and leftmost first
//! among equals, until no pair can be joined. What makes a pair good differs by origin: files made from Hugging
//! Face tokenizers list their merges in order ([`Merges::Listed`]), SentencePiece files give every token a score,
//! and any two neighbours whose joint text is a token may merge ([`Merges::Scored`]).
//!
//! Symbols are a linked list over one array and candidate pairs wait in a heap, so a word of n characters costs
//! O(n log n), also when the word is a whole book.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

/// What [`Merges::Listed`] holds: for each mergeable pair of ids its rank (0 is merged first) and the joint id.
pub(super) type ListedMerges = HashMap<(u32, u32), (u32, u32)>;

/// Which pairs merge, and which first.
pub(super) enum Merges {
    /// Exactly the listed pairs, in the order of the list.
    Listed(ListedMerges),
    /// Every pair whose joint text is a token; the token with the highest score first.
    Scored(Vec<f32>),
}

/// A vocabulary with its merges.
pub(super) struct Bpe {
    /// Id of every piece that merging can give; added and special tokens are not among them.
    pub(super) ids: HashMap<Arc<str>, u32>,
    pub(super) merges: Merges,
    /// Id of the token for each single byte: what a character becomes that is no piece.
    pub(super) byte_ids: Option<Box<[Option<u32>; 256]>>,
    /// Id of the token for what cannot be written otherwise.
    pub(super) unknown: Option<u32>,
    /// Whether neighbouring unknown characters become one unknown token.
    pub(super) fuse_unknown: bool,
    /// Whether a word that is a piece is taken whole, without merging (Llama 3 and others).
    pub(super) whole_words: bool,
}

/// A piece of the word on its way to be a token. `start..end` are bytes of the word.
struct Symbol {
    id: u32,
    start: u32,
    end: u32,
    previous: u32,
    next: u32,
    /// False for byte and unknown tokens, which never merge by text, and for symbols already swallowed.
    mergeable: bool,
}

/// A pair that may merge: rank, index of the left symbol, the two ids as they were, and the joint id.
type Candidate = Reverse<(u32, u32, u32, u32, u32)>;

/// No neighbour.
const NONE: u32 = u32::MAX;

impl Bpe {
    /// Appends the tokens of `word` to `out`. A word must be shorter than 4 GiB.
    pub(super) fn encode(&self, word: &str, out: &mut Vec<u32>) {
        if self.whole_words
            && let Some(&id) = self.ids.get(word)
        {
            out.push(id);
            return;
        }
        let mut symbols = self.symbols(word);
        self.merge(word, &mut symbols);
        let mut at = 0;
        while let Some(symbol) = symbols.get(at as usize) {
            out.push(symbol.id);
            at = symbol.next;
        }
    }

    /// One symbol per character; several where a character falls back to bytes.
    fn symbols(&self, word: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        let mut push = |id: u32, start: usize, end: usize, mergeable: bool| {
            let index = symbols.len() as u32;
            if !mergeable
                && self.fuse_unknown
                && Some(id) == self.unknown
                && let Some(last) = symbols.last_mut().filter(|last| !last.mergeable && last.id == id)
            {
                last.end = end as u32;
                return;
            }
            if let Some(last) = symbols.last_mut() {
                last.next = index;
            }
            let previous = index.checked_sub(1).unwrap_or(NONE);
            symbols.push(Symbol {
                id,
                start: start as u32,
                end: end as u32,
                previous,
                next: NONE,
                mergeable,
            });
        };
        for (start, character) in word.char_indices() {
            let end = start + character.len_utf8();
            let text = &word[start..end];
            if let Some(&id) = self.ids.get(text) {
                push(id, start, end, true);
            } else if let Some(bytes) = self.bytes_of(text) {
                for (offset, id) in bytes.into_iter().enumerate() {
                    // Listed merges may join byte tokens by id; scored ones go by text, which half a character
                    // does not have.
                    push(id, start + offset, start + offset + 1, matches!(self.merges, Merges::Listed(_)));
                }
            } else if let Some(unknown) = self.unknown {
                push(unknown, start, end, false);
            }
        }
        symbols
    }

    /// The byte tokens of `text`, when there is one for each of its bytes.
    fn bytes_of(&self, text: &str) -> Option<Vec<u32>> {
        let byte_ids = self.byte_ids.as_ref()?;
        text.bytes().map(|byte| byte_ids[usize::from(byte)]).collect()
    }

    fn merge(&self, word: &str, symbols: &mut [Symbol]) {
        let mut heap: BinaryHeap<Candidate> = BinaryHeap::new();
        for left in 0..symbols.len() as u32 {
            heap.extend(self.candidate(word, symbols, left));
        }
        while let Some(Reverse((_, left, left_id, right_id, joint_id))) = heap.pop() {
            let symbol = &symbols[left as usize];
            let right = symbol.next;
            // The pair may be gone: its left side swallowed, or either side grown since it was pushed.
            let stale = !symbol.mergeable
                || symbol.id != left_id
                || symbols.get(right as usize).is_none_or(|right| right.id != right_id);
            if stale {
                continue;
            }
            let (end, next) = (symbols[right as usize].end, symbols[right as usize].next);
            symbols[right as usize].mergeable = false;
            let symbol = &mut symbols[left as usize];
            (symbol.id, symbol.end, symbol.next) = (joint_id, end, next);
            let previous = symbol.previous;
            if let Some(next) = symbols.get_mut(next as usize) {
                next.previous = left;
            }
            heap.extend(self.candidate(word, symbols, previous));
            heap.extend(self.candidate(word, symbols, left));
        }
    }

    /// The pair that begins with symbol `left`, if it may merge.
    fn candidate(&self, word: &str, symbols: &[Symbol], left: u32) -> Option<Candidate> {
        let first = symbols.get(left as usize)?;
        let second = symbols.get(first.next as usize)?;
        if !(first.mergeable && second.mergeable) {
            return None;
        }
        let (rank, joint_id) = match &self.merges {
            Merges::Listed(pairs) => *pairs.get(&(first.id, second.id))?,
            Merges::Scored(scores) => {
                let &joint_id = self.ids.get(word.get(first.start as usize..second.end as usize)?)?;
                (descending(*scores.get(joint_id as usize)?), joint_id)
            }
        };
        Some(Reverse((rank, left, first.id, second.id, joint_id)))
    }
}

/// A rank that is lower the higher the score: the bits of a float order as an integer once negative ones are
/// flipped.
pub(super) fn descending(score: f32) -> u32 {
    let bits = score.to_bits();
    let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    !ascending
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(pieces: &[(&str, f32)]) -> Bpe {
        Bpe {
            ids: pieces.iter().zip(0..).map(|((piece, _), id)| (Arc::from(*piece), id)).collect(),
            merges: Merges::Scored(pieces.iter().map(|(_, score)| *score).collect()),
            byte_ids: None,
            unknown: None,
            fuse_unknown: false,
            whole_words: false,
        }
    }

    fn encode(bpe: &Bpe, word: &str) -> Vec<u32> {
        let mut out = Vec::new();
        bpe.encode(word, &mut out);
        out
    }

    #[test]
    fn scores_order_as_numbers() {
        let scores = [f32::INFINITY, 3.0, 0.5, 0.0, -0.25, -7.0, f32::NEG_INFINITY];
        assert!(scores.is_sorted_by_key(|score| descending(*score)));
    }

    #[test]
    fn the_best_score_merges_first_and_the_leftmost_among_equals() {
        let bpe = scored(&[("a", 0.), ("b", 0.), ("c", 0.), ("ab", -2.), ("bc", -1.), ("aa", -3.)]);
        assert_eq!(encode(&bpe, "abc"), [0, 4], "bc has the better score");
        assert_eq!(encode(&bpe, "aaa"), [5, 0]);
        assert_eq!(encode(&bpe, "abab"), [3, 3]);
    }

    #[test]
    fn listed_merges_join_only_what_is_listed() {
        let mut bpe = scored(&[("a", 0.), ("b", 0.), ("c", 0.), ("ab", 0.), ("abc", 0.)]);
        bpe.merges = Merges::Listed([((0, 1), (1, 3))].into());
        assert_eq!(encode(&bpe, "abc"), [3, 2], "abc is a piece, but nothing merges into it");
        bpe.whole_words = true;
        assert_eq!(encode(&bpe, "abc"), [4]);
    }

    #[test]
    fn characters_without_a_piece_become_bytes_or_the_unknown_token_or_nothing() {
        let mut bpe = scored(&[("a", 0.)]);
        assert_eq!(encode(&bpe, "aéé"), [0]);
        bpe.unknown = Some(9);
        assert_eq!(encode(&bpe, "aééa"), [0, 9, 9, 0]);
        bpe.fuse_unknown = true;
        assert_eq!(encode(&bpe, "aééa"), [0, 9, 0]);
        let mut bytes = Box::new([None; 256]);
        (bytes[0xC3], bytes[0xA9]) = (Some(100), Some(101));
        bpe.byte_ids = Some(bytes);
        assert_eq!(encode(&bpe, "aéü"), [0, 100, 101, 9], "ü has no token for its second byte");
    }

    /// Reference: merge the best pair of the whole word, again and again.
    fn naive(pieces: &[(&str, f32)], word: &str) -> Vec<u32> {
        let find = |text: &str| pieces.iter().position(|(piece, _)| *piece == text);
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        loop {
            let mut best: Option<(f32, usize)> = None;
            for left in 0..parts.len().saturating_sub(1) {
                if let Some(id) = find(&(parts[left].clone() + &parts[left + 1]))
                    && best.is_none_or(|(score, _)| pieces[id].1 > score)
                {
                    best = Some((pieces[id].1, left));
                }
            }
            let Some((_, left)) = best else { break };
            let right = parts.remove(left + 1);
            parts[left].push_str(&right);
        }
        parts.iter().map(|part| find(part).map_or(u32::MAX, |id| id as u32)).collect()
    }

    #[test]
    fn merging_equals_the_naive_way() {
        let pieces = [
            ("a", 0.),
            ("b", 0.),
            ("c", 0.),
            ("ab", -1.),
            ("ba", -2.),
            ("bb", -1.5),
            ("abb", -3.),
            ("aba", -2.5),
            ("cc", -1.),
            ("ccc", -0.5),
            ("bc", -4.),
            ("abab", -2.2),
            ("cab", -0.1),
        ];
        let bpe = scored(&pieces);
        let mut state = 1u32;
        for _ in 0..2000 {
            let word: String = (0..state % 17)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ['a', 'b', 'c'][(state >> 16) as usize % 3]
                })
                .collect();
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            assert_eq!(encode(&bpe, &word), naive(&pieces, &word), "{word}");
        }
    }
}
