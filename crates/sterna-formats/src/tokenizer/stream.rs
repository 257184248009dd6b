//! Text from ids, one at a time.

use super::Tokenizer;

/// Decodes ids as they come and holds back the bytes of characters that are not complete yet.
///
/// What all calls give, put together, is what [`Tokenizer::decode`] gives for the same ids, unless a builder
/// method said otherwise.
#[derive(Debug)]
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Begins of a character that following tokens may complete.
    pending: Vec<u8>,
    strip_space: bool,
    skip_special: bool,
}

impl<'a> TokenStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> TokenStream<'a> {
        let strip_space = tokenizer.strips_leading_space;
        TokenStream { tokenizer, pending: Vec::new(), strip_space, skip_special: false }
    }

    /// Leaves special tokens out: the text as a reader wants it.
    pub fn skip_special(mut self) -> TokenStream<'a> {
        self.skip_special = true;
        self
    }

    /// Keeps a space before the first word, for text that goes on where other text ended.
    pub fn continuing(mut self) -> TokenStream<'a> {
        self.strip_space = false;
        self
    }

    /// The text that `id` completes, if it completes any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.skip_special && self.tokenizer.is_special(id) {
            return None;
        }
        let bytes = self.tokenizer.token_bytes(id)?;
        let bytes = match bytes.strip_prefix(b" ") {
            Some(rest) if self.strip_space => rest,
            _ => &bytes,
        };
        self.strip_space = false;
        self.pending.extend_from_slice(bytes);
        let text = take_complete(&mut self.pending);
        (!text.is_empty()).then_some(text)
    }

    /// What was held back, as U+FFFD, when the ids stopped in the middle of a character.
    pub fn finish(self) -> Option<String> {
        (!self.pending.is_empty()).then(|| String::from_utf8_lossy(&self.pending).into_owned())
    }
}

/// Takes everything off `bytes` but an incomplete character at the end. What can never become a character is
/// U+FFFD at once.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut held = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        held = chunk.invalid().len();
        if held > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    // A chunk's invalid part is unfinished, rather than wrong, when one more byte could follow it.
    let tail = &bytes[bytes.len() - held..];
    let unfinished = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
    if unfinished {
        text.pop();
        bytes.drain(..bytes.len() - held);
    } else {
        bytes.clear();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unfinished_end_is_held_back() {
        let cases: [(&[u8], &str, &[u8]); 6] = [
            (b"abc", "abc", b""),
            ("é".as_bytes(), "é", b""),
            (b"a\xC3", "a", b"\xC3"),
            (b"\xF0\x9F\x98", "", b"\xF0\x9F\x98"),
            (b"\xFFa\xF0\x9F", "\u{FFFD}a", b"\xF0\x9F"),
            (b"\xC3\xC3", "\u{FFFD}", b"\xC3"),
        ];
        for (bytes, text, held) in cases {
            let mut bytes = bytes.to_vec();
            assert_eq!((take_complete(&mut bytes).as_str(), bytes.as_slice()), (text, held));
        }
        let mut wrong = b"a\xFF".to_vec();
        assert_eq!((take_complete(&mut wrong).as_str(), wrong.as_slice()), ("a\u{FFFD}", &b""[..]));
    }

    #[test]
    fn byte_by_byte_equals_all_at_once() {
        let bytes = b"a\xE2\x82\xAC\xF0\x9F\x98\x80\xF0\x9F\xE2\x82\xC0\x80z\xED\xA0\x80\xE2".to_vec();
        let (mut pending, mut text) = (Vec::new(), String::new());
        for byte in &bytes {
            pending.push(*byte);
            text += &take_complete(&mut pending);
        }
        text += &String::from_utf8_lossy(&pending);
        assert_eq!(text, String::from_utf8_lossy(&bytes));
    }
}
