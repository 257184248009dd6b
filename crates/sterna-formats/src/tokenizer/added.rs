//! Added tokens: texts that are cut out of the input before anything else and are one token each.
//!
//! They are found leftmost first, and the longest where several begin at the same place, as Hugging Face does
//! (llama.cpp looks for the longest token of all first; the two differ only where one token's text overlaps
//! another's).

use std::collections::BTreeMap;
use std::ops::Range;

/// A text that is one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    /// The token.
    pub id: u32,
    /// The text that it stands for.
    pub content: String,
    /// Whether it steers the model, such as `<|im_end|>`, and so must not come from a user's text.
    pub special: bool,
    /// Whether it takes the white space before it along.
    pub lstrip: bool,
    /// Whether it takes the white space after it along.
    pub rstrip: bool,
    /// Whether it counts only between non-word characters.
    pub single_word: bool,
    /// Whether it is looked for in the normalized text.
    pub normalized: bool,
}

impl AddedToken {
    /// A token without the rarely used properties.
    pub(super) fn new(id: u32, content: String, special: bool) -> AddedToken {
        AddedToken {
            id,
            content,
            special,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
        }
    }
}

/// A part of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// Longest content of an added token in bytes. Bounds the work per input position; real ones have some 30.
pub(super) const MAX_CONTENT: usize = 512;

/// Finds added tokens: a trie over the bytes of their contents.
#[derive(Default)]
pub(super) struct AddedTrie {
    tokens: Vec<AddedToken>,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    children: BTreeMap<u8, u32>,
    /// Index of the token that ends here.
    token: Option<u32>,
}

impl AddedTrie {
    /// Contents must not be empty, nor longer than [`MAX_CONTENT`]. Of equal contents the first counts.
    pub(super) fn new(tokens: Vec<AddedToken>) -> AddedTrie {
        let mut nodes = vec![Node::default()];
        for (index, token) in tokens.iter().enumerate() {
            let mut at = 0;
            for byte in token.content.bytes() {
                let new = nodes.len() as u32;
                let child = *nodes[at].children.entry(byte).or_insert(new);
                if child == new {
                    nodes.push(Node::default());
                }
                at = child as usize;
            }
            nodes[at].token.get_or_insert(index as u32);
        }
        AddedTrie { tokens, nodes }
    }

    /// Cuts `text` at the added tokens that satisfy `wanted` and gives the parts to `emit`, in order.
    pub(super) fn split<'a>(
        &self,
        text: &'a str,
        wanted: impl Fn(&AddedToken) -> bool,
        mut emit: impl FnMut(Part<'a>),
    ) {
        if self.tokens.is_empty() {
            emit(Part::Text(text));
            return;
        }
        let mut done = 0;
        let mut at = 0;
        while at < text.len() {
            let Some(token) = self.longest_at(text, at) else {
                at += 1;
                continue;
            };
            let mut range = at..at + token.content.len();
            at = range.end;
            if !wanted(token) || (token.single_word && !stands_alone(text, &range)) {
                continue;
            }
            if token.lstrip {
                range.start = text[..range.start].trim_end().len();
            }
            if token.rstrip {
                range.end = text.len() - text[range.end..].trim_start().len();
            }
            let start = range.start.max(done);
            if done < start {
                emit(Part::Text(&text[done..start]));
            }
            emit(Part::Token(token.id));
            (done, at) = (range.end, range.end);
        }
        if done < text.len() {
            emit(Part::Text(&text[done..]));
        }
    }

    /// The longest token whose content begins at byte `at`.
    fn longest_at(&self, text: &str, at: usize) -> Option<&AddedToken> {
        let mut node = self.nodes.first()?;
        let mut longest = None;
        for byte in &text.as_bytes()[at..] {
            let Some(&child) = node.children.get(byte) else { break };
            node = &self.nodes[child as usize];
            longest = node.token.or(longest);
        }
        self.tokens.get(longest? as usize)
    }
}

/// Whether neither neighbour of `range` is a word character.
fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let word = |character: char| character.is_alphanumeric() || character == '_';
    !text[..range.start].ends_with(word) && !text[range.end..].starts_with(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(trie: &AddedTrie, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        trie.split(text, |_| true, |part| parts.push(part));
        parts
    }

    fn token(id: u32, content: &str) -> AddedToken {
        AddedToken::new(id, content.to_owned(), true)
    }

    #[test]
    fn leftmost_then_longest() {
        let trie = AddedTrie::new(vec![token(0, "<a>"), token(1, "<a><b>"), token(2, "b><b")]);
        use Part::{Text, Token};
        assert_eq!(parts(&trie, "x<a>é<a><b><a"), [Text("x"), Token(0), Text("é"), Token(1), Text("<a")]);
        assert_eq!(parts(&trie, "<b><b>"), [Text("<"), Token(2), Text(">")]);
        assert_eq!(parts(&trie, ""), []);
    }

    #[test]
    fn unwanted_tokens_stay_text() {
        let trie = AddedTrie::new(vec![token(0, "<a>"), AddedToken { special: false, ..token(1, "<b>") }]);
        let mut parts = Vec::new();
        trie.split("<a><b>", |token| !token.special, |part| parts.push(part));
        assert_eq!(parts, [Part::Text("<a>"), Part::Token(1)]);
    }

    #[test]
    fn white_space_goes_along_and_words_are_left_alone() {
        let strip = AddedToken { lstrip: true, rstrip: true, ..token(0, "<m>") };
        let word = AddedToken { single_word: true, ..token(1, "cat") };
        let trie = AddedTrie::new(vec![strip, word]);
        use Part::{Text, Token};
        assert_eq!(parts(&trie, "a \n<m>  b"), [Text("a"), Token(0), Text("b")]);
        assert_eq!(parts(&trie, " <m>  <m> "), [Token(0), Token(0)]);
        assert_eq!(
            parts(&trie, "cat concat cats (cat)"),
            [Token(1), Text(" concat cats ("), Token(1), Text(")")]
        );
    }
}
