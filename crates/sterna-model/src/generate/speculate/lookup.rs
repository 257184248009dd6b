//! Prompt lookup: where the last tokens have occurred before, what came after them is likely to come again.
//!
//! The index is that of LZ77 compressors: for each pair of neighbouring tokens, a chain of the places where it ended, newest
//! first. A place whose pair only shares the hash is found out when its tokens are compared.

/// Places that are looked at for one position.
const MAX_CANDIDATES: usize = 16;
/// Longer matches are not told apart.
pub(super) const MAX_MATCH: usize = 32;
/// No place.
const NONE: u32 = u32::MAX;

/// The tokens of a sequence, and where its end has occurred before.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    tokens: Vec<u32>,
    /// By hash: the newest place whose pair has it, a power of two of them.
    heads: Vec<u32>,
    /// For each token: the place before it in the chain of its pair.
    before: Vec<u32>,
    best: Option<Match>,
}

/// An earlier place where the sequence was as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// How many of the last tokens are the same there, 2 to [`MAX_MATCH`].
    pub(super) len: usize,
    /// The index of the token that followed.
    pub(super) next: usize,
}

impl Lookup {
    /// Makes `tokens` the sequence; what it shares with the one before is not indexed again.
    pub(super) fn set(&mut self, tokens: &[u32]) {
        let shared = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        while self.tokens.len() > shared {
            self.remove_last();
        }
        self.best = None;
        tokens[shared..].iter().for_each(|token| self.insert(*token));
        self.best = self.find(None);
    }

    /// Adds a token to the end.
    pub(super) fn push(&mut self, token: u32) {
        let came_true = self.best.filter(|best| self.tokens[best.next] == token);
        self.insert(token);
        self.best = self.find(came_true.map(|best| best.next + 1));
    }

    /// The longest match of the end, the newest among equals.
    pub(super) fn best(&self) -> Option<Match> {
        self.best
    }

    /// The token that is expected `ahead` tokens after the end, as what follows `found` says. A match that overlaps the end
    /// repeats itself.
    pub(super) fn expected(&self, found: Match, ahead: usize) -> u32 {
        let period = self.tokens.len() - found.next;
        self.tokens[found.next + ahead % period]
    }

    fn insert(&mut self, token: u32) {
        self.tokens.push(token);
        self.before.push(NONE);
        if self.tokens.len() > self.heads.len() {
            self.heads.clear();
            self.heads.resize(2 * self.tokens.len().next_power_of_two().max(512), NONE);
            (1..self.tokens.len()).for_each(|place| self.link(place));
        } else if self.tokens.len() > 1 {
            self.link(self.tokens.len() - 1);
        }
    }

    /// Puts `place` at the head of the chain of the pair that ends there.
    fn link(&mut self, place: usize) {
        let slot = self.slot(place);
        self.before[place] = self.heads[slot];
        self.heads[slot] = place as u32;
    }

    fn remove_last(&mut self) {
        if self.tokens.len() > 1 {
            let slot = self.slot(self.tokens.len() - 1);
            self.heads[slot] = self.before[self.tokens.len() - 1];
        }
        self.tokens.pop();
        self.before.pop();
    }

    /// Where the chain of the pair that ends at `place` begins.
    fn slot(&self, place: usize) -> usize {
        let pair = u64::from(self.tokens[place - 1]) << 32 | u64::from(self.tokens[place]);
        // The upper bits of the product depend on all bits of the pair (Fibonacci hashing).
        let hash = pair.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 32) as usize & (self.heads.len() - 1)
    }

    /// The longest match among the newest places and `continued`, the place after one that has just come true.
    fn find(&self, continued: Option<usize>) -> Option<Match> {
        let end = self.tokens.len();
        if end < 3 {
            return None;
        }
        let chain = std::iter::successors(Some(self.before[end - 1]), |place| {
            self.before.get(*place as usize).copied()
        });
        let places = chain.take_while(|place| *place != NONE).map(|place| place as usize + 1);
        let mut best: Option<Match> = None;
        for next in places.take(MAX_CANDIDATES).chain(continued.filter(|next| *next < end)) {
            let len = self.common_end(next);
            if len >= 2 && best.is_none_or(|best| len > best.len) {
                best = Some(Match { len, next });
            }
            if len == MAX_MATCH {
                break;
            }
        }
        best
    }

    /// How many tokens before `next` are those at the end.
    fn common_end(&self, next: usize) -> usize {
        let pairs = self.tokens[..next].iter().rev().zip(self.tokens.iter().rev());
        pairs.take(MAX_MATCH).take_while(|(a, b)| a == b).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(tokens: &[u32]) -> Lookup {
        let mut lookup = Lookup::default();
        lookup.set(tokens);
        lookup
    }

    #[test]
    fn the_longest_match_wins_and_the_newest_of_equals() {
        let found = |tokens: &[u32]| lookup(tokens).best().map(|best| (best.len, best.next));
        assert_eq!(found(&[1, 2, 3, 9, 8, 2, 3, 7, 1, 2, 3]), Some((3, 3)));
        assert_eq!(found(&[9, 2, 3, 4, 8, 2, 3, 7, 1, 2, 3]), Some((2, 7)));
        assert_eq!(found(&[1, 2, 3, 4, 5]), None);
        assert_eq!(found(&[5, 4, 5]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_match_that_overlaps_the_end_repeats_itself() {
        let lookup = lookup(&[7, 1, 2, 3, 1, 2, 3]);
        let best = lookup.best().unwrap();
        let ahead: Vec<u32> = (0..7).map(|ahead| lookup.expected(best, ahead)).collect();
        assert_eq!(ahead, [1, 2, 3, 1, 2, 3, 1]);
    }

    proptest! {
        /// However the sequence came about, the index is that of the sequence.
        #[test]
        fn growing_and_cutting_leave_no_trace(
            first in prop::collection::vec(0u32..4, 0..700), kept in 0usize..700,
            second in prop::collection::vec(0u32..4, 0..700), n_pushed in 0usize..40,
        ) {
            let mut tokens = first.clone();
            tokens.truncate(kept);
            tokens.extend(second);
            let set = tokens.len().saturating_sub(n_pushed);
            let mut grown = lookup(&first);
            grown.set(&tokens[..set]);
            tokens[set..].iter().for_each(|token| grown.push(*token));
            let fresh = lookup(&tokens);
            let len = |lookup: &Lookup| lookup.best().map_or(0, |best| best.len);
            // A match that came true is kept when its place is no longer among the newest.
            prop_assert!(len(&grown) >= len(&fresh));
            for found in [grown.best(), fresh.best()].into_iter().flatten() {
                prop_assert_eq!(&tokens[found.next - found.len..found.next], &tokens[tokens.len() - found.len..]);
            }
            prop_assert_eq!(&grown.tokens, &tokens);
            let chain = |lookup: &Lookup| lookup.before.clone();
            prop_assert!(grown.heads.len() != fresh.heads.len() || chain(&grown) == chain(&fresh));
        }
    }
}
