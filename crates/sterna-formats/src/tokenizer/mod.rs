//! Tokenizers: text to ids and back, from `tokenizer.json` or from the metadata of a GGUF file.
//!
//! Text passes through four rooms, each a file of this folder: added tokens are cut out (`added`), the rest is
//! normalized and cut into words (`cut`, with the patterns of each GGUF family in `families`), and each word is
//! merged from characters to tokens (`bpe`). `gguf` and `json` read the two kinds of file; `ends` knows which
//! tokens end an answer; `stream` gives text back token by token; `to_json` writes the second kind of file.
//!
//! Ids are those of Hugging Face's tokenizers. llama.cpp's differ in a few places: it does not normalize (Qwen
//! texts in Unicode form D come out differently), and it takes some plain tokens, such as Qwen's `</s>`, as
//! special by their look.

mod added;
mod bpe;
mod cut;
mod ends;
mod families;
mod gguf;
mod json;
mod stream;
mod to_gguf;
mod to_json;

use std::collections::HashMap;
use std::sync::Arc;

pub use added::AddedToken;
pub use stream::TokenStream;

use crate::checkpoint::{Checkpoint, Config};
use crate::error::{FormatError, Result};
use added::{AddedTrie, Part};
use bpe::Bpe;
use cut::{Cutter, char_byte};

/// What texts such as `<|im_end|>` in the input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The special token: for text that a chat template made.
    Parse,
    /// Plain text, spelled out: for text that a user or a file supplied.
    Text,
}

/// A tokenizer.
pub struct Tokenizer {
    /// Path of the file, for errors.
    file: String,
    /// Text of each token as the vocabulary spells it, by id; `None` where ids have a hole.
    pieces: Vec<Option<Arc<str>>>,
    spelling: Spelling,
    /// Whether decoding drops one space before the text, which encoding put there.
    strips_leading_space: bool,
    added: HashMap<u32, AddedToken>,
    /// Added tokens looked for in the input as it is, and in the normalized input.
    raw_trie: AddedTrie,
    normalized_trie: AddedTrie,
    cutter: Cutter,
    bpe: Bpe,
    frame: Frame,
    ends: Vec<u32>,
}

/// How a vocabulary writes the bytes of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// GPT-2: one printable character per byte.
    ByteLevel,
    /// SentencePiece: `▁` for a space, `<0x0A>` for a byte.
    SentencePiece,
}

/// The tokens that begin and end texts.
#[derive(Debug, Clone, Default)]
struct Frame {
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    /// What [`Tokenizer::encode_with_bos`] puts before and after the text.
    before: Vec<u32>,
    after: Vec<u32>,
}

/// Longest input in bytes; positions are 32-bit.
const MAX_TEXT: usize = 1 << 30;

impl Tokenizer {
    /// The tokenizer of a checkpoint.
    ///
    /// # Errors
    /// When it has none, when its files are malformed, and when they ask for something that is not supported.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Tokenizer> {
        match checkpoint.config() {
            Config::Gguf(metadata) => gguf::read(metadata),
            Config::Hf(_) => json::of_checkpoint(checkpoint),
        }
    }

    /// The tokenizer in the file `tokenizer.json` at `path`; a `tokenizer_config.json` beside it is respected.
    ///
    /// # Errors
    /// As [`Tokenizer::from_checkpoint`].
    pub fn from_file(path: &std::path::Path) -> Result<Tokenizer> {
        json::open(path)
    }

    /// The tokenizer that `text`, the content of a `tokenizer.json`, describes; `file` is for errors.
    ///
    /// # Errors
    /// As [`Tokenizer::from_checkpoint`].
    pub fn from_json(file: &str, text: &str) -> Result<Tokenizer> {
        json::parse(file, text, &json::Hints::default())
    }

    /// The tokenizer in the metadata of a GGUF file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_checkpoint`]; the message names the key.
    pub fn from_gguf(metadata: &crate::gguf::Metadata) -> Result<Tokenizer> {
        gguf::read(metadata)
    }

    /// Ids of `text`, with nothing added. Right for text from a chat template, which writes BOS itself.
    ///
    /// # Errors
    /// When the text is longer than 1 GiB, or the file's pattern takes too many steps to cut it.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT {
            let (most, found) = (format!("at most {MAX_TEXT} bytes"), format!("{} bytes", text.len()));
            return Err(FormatError::invalid(&self.file, "text", most, found));
        }
        let wanted = |token: &AddedToken| special == Special::Parse || !token.special;
        let mut parts = Vec::new();
        self.raw_trie.split(text, wanted, |part| parts.push(part));
        let mut ids = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let text = match part {
                Part::Token(id) => {
                    ids.push(id);
                    continue;
                }
                Part::Text(text) => self.cutter.normalize(text, index == 0),
            };
            let mut words = Ok(());
            self.normalized_trie.split(&text, wanted, |part| match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) if words.is_ok() => {
                    words = self.cutter.words(text, |word| self.bpe.encode(word, &mut ids));
                }
                Part::Text(_) => {}
            });
            words.map_err(|error| {
                let expected = "a pattern that cuts this text in reasonable time";
                FormatError::invalid(&self.file, "pre_tokenizer", expected, error.to_string())
            })?;
        }
        Ok(ids)
    }

    /// Ids of `text` with special tokens parsed, and BOS and EOS where the file asks for them: for plain text
    /// that a model is to continue or to be scored on.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_bos(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text, Special::Parse)?;
        Ok([self.frame.before.as_slice(), &ids, &self.frame.after].concat())
    }

    /// The text of `ids`, special tokens included. Bytes that are not UTF-8 become U+FFFD; ids that are not in
    /// the vocabulary give nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = self.stream();
        let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        text.extend(stream.finish());
        text
    }

    /// A decoder that is fed one id at a time.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(self)
    }

    /// The bytes that token `id` stands for, maybe part of a character; `None` when there is no such token.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        if let Some(token) = self.added.get(&id) {
            return Some(token.content.clone().into_bytes());
        }
        let piece = self.pieces.get(id as usize)?.as_deref()?;
        Some(match self.spelling {
            Spelling::ByteLevel => {
                piece.chars().map(char_byte).collect::<Option<_>>().unwrap_or_else(|| piece.into())
            }
            Spelling::SentencePiece => match self.byte_of(id, piece) {
                Some(byte) => vec![byte],
                None => piece.replace('▁', " ").into_bytes(),
            },
        })
    }

    /// The text of a token as the vocabulary spells it; empty where there is none.
    fn piece(&self, id: u32) -> &str {
        self.pieces.get(id as usize).and_then(|piece| piece.as_deref()).unwrap_or_default()
    }

    /// The byte that token `id` is a fallback for.
    fn byte_of(&self, id: u32, piece: &str) -> Option<u8> {
        let byte = byte_token(piece)?;
        (self.bpe.byte_ids.as_ref()?[usize::from(byte)] == Some(id)).then_some(byte)
    }

    /// The id of the token that the vocabulary spells `piece` (`Ġthe` or `▁the`, not ` the`).
    pub fn token_id(&self, piece: &str) -> Option<u32> {
        let added = self.added.values().find(|token| token.content == piece).map(|token| token.id);
        added.or_else(|| self.bpe.ids.get(piece).copied())
    }

    /// Number of ids, holes included: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token that begins a text, if there is one. Whether it is put there is the file's choice:
    /// [`Tokenizer::encode_with_bos`].
    pub fn bos(&self) -> Option<u32> {
        self.frame.bos
    }

    /// The token that ends a text, if there is one.
    pub fn eos(&self) -> Option<u32> {
        self.frame.eos
    }

    /// The token that ends a turn of a conversation, if it is known; often the same as EOS.
    pub fn eot(&self) -> Option<u32> {
        self.frame.eot
    }

    /// Whether a model that gives token `id` has said all it wants to.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The tokens of which any ends an answer, in ascending order.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Whether `id` is a special token, which is not part of the text for a reader.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.get(&id).is_some_and(|token| token.special)
    }

    /// The special tokens, in the order of their ids.
    pub fn special_tokens(&self) -> Vec<&AddedToken> {
        let mut tokens: Vec<_> = self.added.values().filter(|token| token.special).collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("file", &self.file).field("vocab_size", &self.vocab_size()).finish()
    }
}

/// What the two readers have found.
struct Parts {
    file: String,
    pieces: Vec<Option<Arc<str>>>,
    spelling: Spelling,
    strips_leading_space: bool,
    /// With contents that are neither empty nor too long, and ids below the number of pieces.
    added: Vec<AddedToken>,
    cutter: Cutter,
    bpe: Bpe,
    frame: Frame,
    /// Tokens that the file says end an answer, besides EOS and EOT.
    ends: Vec<u32>,
}

impl Parts {
    fn assemble(mut self) -> Tokenizer {
        let (eot, ends) = ends::find(&self.added, &self.frame, &self.ends);
        self.frame.eot = eot;
        let (normalized, raw) = self.added.iter().cloned().partition(|token| token.normalized);
        Tokenizer {
            file: self.file,
            pieces: self.pieces,
            spelling: self.spelling,
            strips_leading_space: self.strips_leading_space,
            added: self.added.into_iter().map(|token| (token.id, token)).collect(),
            raw_trie: AddedTrie::new(raw),
            normalized_trie: AddedTrie::new(normalized),
            cutter: self.cutter,
            bpe: self.bpe,
            frame: self.frame,
            ends,
        }
    }
}

/// The byte that a token spelled `<0x0A>` is for.
fn byte_token(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    // from_str_radix alone would take a sign.
    let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if plain { u8::from_str_radix(digits, 16).ok() } else { None }
}
