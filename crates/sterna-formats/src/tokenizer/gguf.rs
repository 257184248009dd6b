//! The tokenizer in the metadata of a GGUF file: keys `tokenizer.ggml.*`.

use std::collections::HashMap;
use std::sync::Arc;

use super::added::MAX_CONTENT;
use super::bpe::{Bpe, ListedMerges, Merges};
use super::cut::{Cutter, Normalize};
use super::{AddedToken, Frame, Parts, Spelling, Tokenizer, byte_token, families};
use crate::error::{FormatError, Result};
use crate::gguf::Metadata;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const EOM: &str = "tokenizer.ggml.eom_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";

/// `tokenizer.ggml.token_type` of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A piece that merging may give.
    Piece,
    /// The unknown token, or one that steers the model.
    Special,
    /// A text that is one token.
    UserDefined,
    /// One byte.
    Byte,
}

/// Reads the tokenizer.
pub(super) fn read(metadata: &Metadata) -> Result<Tokenizer> {
    let vocab = Vocab::read(metadata)?;
    match metadata.require::<&str>(MODEL)? {
        "gpt2" => vocab.byte_level(),
        "llama" => vocab.sentence_piece(),
        // SentencePiece spelling with listed merges; the name is that of the first family that has it.
        "gemma4" => vocab.sentence_piece_with_merges(),
        other => {
            Err(FormatError::unsupported(metadata.file(), key(MODEL), format!("the tokenizer {other:?}")))
        }
    }
}

/// A metadata key as errors name it.
fn key(key: &str) -> String {
    format!("key {key}")
}

/// The vocabulary as every kind of tokenizer has it.
struct Vocab<'a> {
    metadata: &'a Metadata,
    pieces: Vec<Arc<str>>,
    kinds: Vec<Kind>,
    /// Ids of all but special tokens, by their text.
    ids: HashMap<Arc<str>, u32>,
}

impl<'a> Vocab<'a> {
    fn read(metadata: &'a Metadata) -> Result<Vocab<'a>> {
        let invalid = |field, expected: &str, found: String| {
            FormatError::invalid(metadata.file(), field, expected, found)
        };
        let pieces: Vec<Arc<str>> =
            metadata.require::<Vec<&str>>(TOKENS)?.into_iter().map(Arc::from).collect();
        if pieces.is_empty() || pieces.len() > u32::MAX as usize {
            return Err(invalid(key(TOKENS), "at least one token", format!("{} tokens", pieces.len())));
        }
        let kinds: Vec<Kind> = match metadata.get::<Vec<i32>>(TYPES)? {
            Some(types) if types.len() != pieces.len() => {
                let expected = format!("{} types, as there are tokens", pieces.len());
                return Err(invalid(key(TYPES), &expected, format!("{} types", types.len())));
            }
            Some(types) => types.into_iter().map(kind).collect(),
            None => pieces.iter().map(|piece| guess_kind(piece)).collect(),
        };
        let mut ids = HashMap::with_capacity(pieces.len());
        for (id, (piece, kind)) in (0..).zip(pieces.iter().zip(&kinds)) {
            if *kind == Kind::Byte && byte_token(piece).is_none() {
                let field = format!("{} element {id}", key(TOKENS));
                return Err(invalid(field, "a byte token like <0x0A>", format!("{piece:?}")));
            }
            // Merges may pass through user-defined tokens, never through special ones.
            let first = match kind {
                Kind::Special => continue,
                Kind::UserDefined if ids.contains_key(piece) => continue,
                _ => ids.insert(piece.clone(), id),
            };
            if let Some(first) = first.filter(|first| kinds[*first as usize] != Kind::UserDefined) {
                let field = format!("{} element {id}", key(TOKENS));
                let found = format!("{}, which is also element {first}", excerpt(piece));
                return Err(invalid(field, "a token that is not there yet", found));
            }
        }
        Ok(Vocab { metadata, pieces, kinds, ids })
    }

    /// Byte-level BPE: cut as the family in `tokenizer.ggml.pre` does, merges listed.
    fn byte_level(self) -> Result<Tokenizer> {
        let name = self.metadata.get::<&str>(PRE)?.unwrap_or("default");
        let family = families::family(name).ok_or_else(|| {
            FormatError::unsupported(self.metadata.file(), key(PRE), format!("the pre-tokenizer {name:?}"))
        })?;
        let add_prefix_space = self.metadata.get::<bool>(ADD_SPACE)?.unwrap_or(false);
        let cutter = family.cutter(add_prefix_space).map_err(|error| {
            FormatError::unsupported(self.metadata.file(), key(PRE), format!("{name:?}: {error}"))
        })?;
        let merges = Merges::Listed(self.listed_merges()?);
        self.finish(Spelling::ByteLevel, cutter, merges, family.whole_words, family.add_bos)
    }

    /// SentencePiece BPE: not cut at all, merges by score.
    fn sentence_piece(self) -> Result<Tokenizer> {
        let scores = self.metadata.require::<Vec<f32>>(SCORES)?;
        if scores.len() != self.pieces.len() {
            let expected = format!("{} scores, as there are tokens", self.pieces.len());
            let found = format!("{} scores", scores.len());
            return Err(FormatError::invalid(self.metadata.file(), key(SCORES), expected, found));
        }
        let add_space = self.metadata.get::<bool>(ADD_SPACE)?.unwrap_or(true);
        self.finish(Spelling::SentencePiece, marking_spaces(add_space), Merges::Scored(scores), false, true)
    }

    fn sentence_piece_with_merges(self) -> Result<Tokenizer> {
        let add_space = self.metadata.get::<bool>(ADD_SPACE)?.unwrap_or(false);
        let merges = Merges::Listed(self.listed_merges()?);
        self.finish(Spelling::SentencePiece, marking_spaces(add_space), merges, false, true)
    }

    /// `tokenizer.ggml.merges`: strings of two pieces with a space between.
    fn listed_merges(&self) -> Result<ListedMerges> {
        let texts = self.metadata.require::<Vec<&str>>(MERGES)?;
        let mut merges = ListedMerges::with_capacity(texts.len());
        let mut joint = String::new();
        for (rank, text) in (0..).zip(texts) {
            let invalid = |found: String| {
                let field = format!("{} element {rank}", key(MERGES));
                FormatError::invalid(
                    self.metadata.file(),
                    field,
                    "two tokens whose joint text is a token",
                    found,
                )
            };
            // A piece may itself hold a space, though not begin with it.
            let (left, right) = text
                .char_indices()
                .skip(1)
                .find(|(_, character)| *character == ' ')
                .map(|(at, _)| (&text[..at], &text[at + 1..]))
                .ok_or_else(|| invalid(excerpt(text)))?;
            joint.clear();
            joint.extend([left, right]);
            let id = |piece: &str| {
                self.ids.get(piece).copied().ok_or_else(|| invalid(format!("{}, no token", excerpt(piece))))
            };
            // The first of equal merges counts.
            merges.entry((id(left)?, id(right)?)).or_insert((rank, id(&joint)?));
        }
        Ok(merges)
    }

    fn finish(
        self,
        spelling: Spelling,
        cutter: Cutter,
        merges: Merges,
        whole_words: bool,
        add_bos: bool,
    ) -> Result<Tokenizer> {
        let frame = self.frame(spelling, add_bos)?;
        let ends = self.token(EOM)?.into_iter().collect();
        let strips_leading_space = cutter.normalize.iter().any(|step| matches!(step, Normalize::Prepend(_)));
        let unknown = match spelling {
            Spelling::ByteLevel => None,
            Spelling::SentencePiece => self.token(UNKNOWN)?.or_else(|| self.special_with_id(0)),
        };
        let mut byte_ids = Box::new([None; 256]);
        let mut added = Vec::new();
        for (id, (piece, kind)) in (0..).zip(self.pieces.iter().zip(&self.kinds)) {
            match kind {
                Kind::Piece => {}
                Kind::Byte => {
                    if let Some(byte) = byte_token(piece) {
                        byte_ids[usize::from(byte)] = Some(id);
                    }
                }
                // Nothing can be looked for; the id stays decodable, to nothing.
                Kind::Special | Kind::UserDefined if piece.is_empty() => {}
                Kind::Special | Kind::UserDefined if piece.len() > MAX_CONTENT => {
                    let field = format!("{} element {id}", key(TOKENS));
                    let expected = format!("a special token of at most {MAX_CONTENT} bytes");
                    let found = format!("{} bytes", piece.len());
                    return Err(FormatError::invalid(self.metadata.file(), field, expected, found));
                }
                Kind::Special | Kind::UserDefined => {
                    added.push(AddedToken::new(id, piece.to_string(), *kind == Kind::Special));
                }
            }
        }
        let mut ids = self.ids;
        if spelling == Spelling::SentencePiece {
            // The text "<0x0A>" is not a line break.
            ids.retain(|_, id| self.kinds[*id as usize] != Kind::Byte);
        }
        let parts = Parts {
            file: self.metadata.file().to_owned(),
            pieces: self.pieces.into_iter().map(Some).collect(),
            spelling,
            strips_leading_space,
            added,
            cutter,
            bpe: Bpe {
                ids,
                merges,
                byte_ids: (spelling == Spelling::SentencePiece).then_some(byte_ids),
                unknown,
                fuse_unknown: true,
                whole_words,
            },
            frame,
            ends,
        };
        Ok(parts.assemble())
    }

    /// BOS, EOS and EOT, and whether a text gets them.
    fn frame(&self, spelling: Spelling, add_bos: bool) -> Result<Frame> {
        // The first SentencePiece files did not give ids; llama.cpp assumes those of Llama 2.
        let assumed = |id| (spelling == Spelling::SentencePiece).then(|| self.special_with_id(id)).flatten();
        let bos = self.token(BOS)?.or_else(|| assumed(1));
        let eos = self.token(EOS)?.or_else(|| assumed(2));
        let wanted = |add: &str, id_key: &str, id: Option<u32>, by_default: bool| match (
            self.metadata.get::<bool>(add)?,
            id,
        ) {
            (Some(true), None) => Err(FormatError::missing(self.metadata.file(), key(id_key))),
            (said, id) => Ok(id.filter(|_| said.unwrap_or(by_default))),
        };
        Ok(Frame {
            bos,
            eos,
            eot: self.token(EOT)?,
            before: wanted(ADD_BOS, BOS, bos, add_bos)?.into_iter().collect(),
            after: wanted(ADD_EOS, EOS, eos, false)?.into_iter().collect(),
        })
    }

    /// The token id at `name`, which must be in the vocabulary.
    fn token(&self, name: &str) -> Result<Option<u32>> {
        let id = self.metadata.get::<u32>(name)?;
        match id {
            Some(id) if id as usize >= self.pieces.len() => {
                let expected = format!("an id below {}, the number of tokens", self.pieces.len());
                Err(FormatError::invalid(self.metadata.file(), key(name), expected, id.to_string()))
            }
            _ => Ok(id),
        }
    }

    fn special_with_id(&self, id: u32) -> Option<u32> {
        (*self.kinds.get(id as usize)? == Kind::Special).then_some(id)
    }
}

fn kind(number: i32) -> Kind {
    match number {
        2 | 3 => Kind::Special,
        4 => Kind::UserDefined,
        6 => Kind::Byte,
        // 1 normal, 5 unused (a piece like any other in SentencePiece), 0 and the rest undefined.
        _ => Kind::Piece,
    }
}

/// The kind of a token in a file that does not give kinds.
fn guess_kind(piece: &str) -> Kind {
    match piece {
        "<unk>" | "<s>" | "</s>" => Kind::Special,
        _ if byte_token(piece).is_some() => Kind::Byte,
        _ => Kind::Piece,
    }
}

/// SentencePiece's treatment of spaces.
fn marking_spaces(add_space: bool) -> Cutter {
    let replace = Normalize::Replace { from: " ".to_owned(), to: "▁".to_owned() };
    let prepend = add_space.then(|| Normalize::Prepend("▁".to_owned()));
    Cutter { normalize: prepend.into_iter().chain([replace]).collect(), ..Cutter::default() }
}

/// `text`, quoted and not too long for a message.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
