//! A tokenizer as the metadata of a GGUF file: keys `tokenizer.ggml.*`.
//!
//! Such files say less than a `tokenizer.json`. How a byte-level tokenizer cuts text is a name, found by cutting a
//! text that all known families cut differently; merges of the SentencePiece kind become scores, by which any two
//! tokens merge whose joint text is a token. So what was written is read back and tried on every token before it is
//! believed. White space that added tokens take along (`lstrip`, `rstrip`) is not kept: there is no key for it.

use crate::error::{FormatError, Result};
use crate::gguf::Entries;

use super::bpe::{ListedMerges, Merges};
use super::cut::{Normalize, Prepend};
use super::{Special, Spelling, Tokenizer, families};

/// `tokenizer.ggml.token_type`.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// The score of tokens that no merge gives.
const UNMERGED: f32 = -1e6;

impl Tokenizer {
    /// Metadata that give the same ids, for a model with `n_rows` rows of the embedding: a token for each, as llama.cpp
    /// asks for.
    ///
    /// # Errors
    /// When the tokenizer cannot be expressed; the message names the step.
    pub fn to_gguf(&self, n_rows: usize) -> Result<Entries> {
        let mut entries = Entries::default();
        match self.spelling {
            Spelling::ByteLevel => self.byte_level(&mut entries)?,
            Spelling::SentencePiece => self.sentence_piece(n_rows, &mut entries)?,
        }
        let ids = 0..n_rows as u32;
        let tokens: Vec<String> = ids.clone().map(|id| self.text_or_filler(id)).collect();
        let kinds: Vec<i32> = ids.map(|id| self.kind(id)).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        entries.push("tokenizer.ggml.tokens", tokens.as_slice());
        entries.push("tokenizer.ggml.token_type", kinds.as_slice());
        self.first_and_last(n_rows, &mut entries)?;
        self.try_out(&Tokenizer::from_gguf(&entries.to_metadata(&self.file)?)?, n_rows)?;
        Ok(entries)
    }

    fn byte_level(&self, entries: &mut Entries) -> Result<()> {
        let name = families::name_of(&self.cutter, self.bpe.whole_words).ok_or_else(|| {
            self.not_in_gguf("pre_tokenizer", "a way to cut text that no GGUF name stands for")
        })?;
        entries.push("tokenizer.ggml.model", "gpt2");
        entries.push("tokenizer.ggml.pre", name);
        let adds_space = self.cutter.byte_level.as_ref().is_some_and(|step| step.add_prefix_space);
        entries.push("tokenizer.ggml.add_space_prefix", &adds_space);
        let Merges::Listed(listed) = &self.bpe.merges else {
            return Err(self.not_in_gguf("model", "byte-level merges by score"));
        };
        let merges: Vec<String> = in_order(listed)
            .into_iter()
            .map(|((left, right), _)| format!("{} {}", self.piece(left), self.piece(right)))
            .collect();
        let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
        entries.push("tokenizer.ggml.merges", merges.as_slice());
        Ok(())
    }

    fn sentence_piece(&self, n_rows: usize, entries: &mut Entries) -> Result<()> {
        let adds_space = match self.cutter.normalize.as_slice() {
            [Normalize::Replace { .. }] => false,
            [Normalize::Prepend(_), Normalize::Replace { .. }] => true,
            [Normalize::Metaspace { prepend, .. }] => *prepend != Prepend::Never,
            _ => return Err(self.not_in_gguf("normalizer", "more than what SentencePiece does with spaces")),
        };
        entries.push("tokenizer.ggml.model", "llama");
        entries.push("tokenizer.ggml.pre", "default");
        entries.push("tokenizer.ggml.add_space_prefix", &adds_space);
        let mut scores = match &self.bpe.merges {
            Merges::Scored(scores) => scores.clone(),
            Merges::Listed(listed) => scores_of(listed, n_rows),
        };
        scores.resize(n_rows, UNMERGED);
        entries.push("tokenizer.ggml.scores", scores.as_slice());
        Ok(())
    }

    /// Ids of the tokens that begin and end texts, and whether they are put there.
    fn first_and_last(&self, n_rows: usize, entries: &mut Entries) -> Result<()> {
        let named = [
            ("bos_token_id", self.frame.bos),
            ("eos_token_id", self.frame.eos),
            ("eot_token_id", self.frame.eot.filter(|eot| Some(*eot) != self.frame.eos)),
            ("unknown_token_id", self.bpe.unknown),
        ];
        for (key, id) in named {
            if let Some(id) = id.filter(|&id| (id as usize) < n_rows) {
                entries.push(&format!("tokenizer.ggml.{key}"), &id);
            }
        }
        let added = [
            ("add_bos_token", &self.frame.before, self.frame.bos),
            ("add_eos_token", &self.frame.after, self.frame.eos),
        ];
        for (key, ids, token) in added {
            if !ids.is_empty() && ids.as_slice() != token.as_slice() {
                return Err(self.not_in_gguf("post_processor", "other tokens around a text than BOS and EOS"));
            }
            entries.push(&format!("tokenizer.ggml.{key}"), &!ids.is_empty());
        }
        Ok(())
    }

    /// Text of a token, or what converters write for a row that has none.
    fn text_or_filler(&self, id: u32) -> String {
        match self.piece(id) {
            "" => format!("[PAD{id}]"),
            piece => piece.to_owned(),
        }
    }

    fn kind(&self, id: u32) -> i32 {
        let piece = self.piece(id);
        match self.added.get(&id) {
            _ if self.spelling == Spelling::SentencePiece && self.bpe.unknown == Some(id) => kind::UNKNOWN,
            Some(token) if token.special => kind::CONTROL,
            Some(_) => kind::USER_DEFINED,
            None if piece.is_empty() => kind::UNUSED,
            None if self.spelling == Spelling::SentencePiece && self.byte_of(id, piece).is_some() => {
                kind::BYTE
            }
            None => kind::NORMAL,
        }
    }

    /// Compares the ids that `written` gives with our own, on every token and on a text of many scripts.
    fn try_out(&self, written: &Tokenizer, n_rows: usize) -> Result<()> {
        let texts = (0..n_rows as u32).filter_map(|id| String::from_utf8(self.token_bytes(id)?).ok());
        for text in texts.chain([families::PROBE.to_owned()]) {
            let (ours, theirs) =
                (self.encode(&text, Special::Parse)?, written.encode(&text, Special::Parse)?);
            if ours != theirs {
                let (expected, found) = (format!("{ours:?} for {text:?}"), format!("{theirs:?}"));
                return Err(FormatError::invalid(&self.file, "tokenizer in GGUF metadata", expected, found));
            }
        }
        Ok(())
    }

    fn not_in_gguf(&self, field: &str, what: &str) -> FormatError {
        let found = format!("{what}, which GGUF metadata cannot express,");
        FormatError::unsupported(&self.file, field, found)
    }
}

/// The merges, first to last: the pair and the joint token.
fn in_order(listed: &ListedMerges) -> Vec<((u32, u32), u32)> {
    let mut merges: Vec<_> = listed.iter().map(|(pair, &(rank, joint))| (rank, *pair, joint)).collect();
    merges.sort_unstable();
    merges.into_iter().map(|(_, pair, joint)| (pair, joint)).collect()
}

/// A score for every token: the earlier the first merge that gives it, the higher.
fn scores_of(listed: &ListedMerges, n_tokens: usize) -> Vec<f32> {
    let mut scores = vec![UNMERGED; n_tokens];
    let mut next = 0.0;
    for (_, joint) in in_order(listed) {
        if let Some(score) = scores.get_mut(joint as usize).filter(|score| **score == UNMERGED) {
            *score = next;
            next -= 1.0;
        }
    }
    scores
}
