//! A tokenizer as the content of a `tokenizer.json`, for runtimes that read nothing else.
//!
//! Merges by score become listed ones as in Hugging Face's own conversions (`generate_merges` in transformers'
//! `convert_slow_tokenizer.py`): every way of splitting a token into two tokens, best score first, and of one token's
//! splits the longest left part first. Where two places of a text could give the same token, a list may choose
//! another one than the scores do; that is known of no real text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::added::MAX_CONTENT;
use super::bpe::{Merges, descending};
use super::cut::{Behavior, Cut, Normalize, Pattern};
use super::families::GPT2_PATTERN;
use super::{Spelling, Tokenizer};
use crate::error::{FormatError, Result};

impl Tokenizer {
    /// The content of a `tokenizer.json` that gives the same ids. Only tokenizers of GGUF files are written: others came
    /// with such a file.
    ///
    /// # Errors
    /// When it has a step that no GGUF file asks for.
    pub fn to_json(&self) -> Result<String> {
        let content = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_json(),
            "normalizer": self.normalizer_json()?,
            "pre_tokenizer": self.pre_tokenizer_json()?,
            "post_processor": self.post_processor_json(),
            "decoder": self.decoder_json(),
            "model": self.model_json(),
        });
        Ok(content.to_string())
    }

    fn unsupported(&self, field: &str, found: &str) -> FormatError {
        FormatError::unsupported(&self.file, field, found)
    }

    fn added_json(&self) -> Value {
        let by_id: BTreeMap<u32, _> = self.added.iter().map(|(id, token)| (*id, token)).collect();
        let entry = |token: &&super::AddedToken| {
            json!({
                "id": token.id,
                "content": token.content,
                "single_word": token.single_word,
                "lstrip": token.lstrip,
                "rstrip": token.rstrip,
                "normalized": token.normalized,
                "special": token.special,
            })
        };
        by_id.values().map(entry).collect()
    }

    fn normalizer_json(&self) -> Result<Value> {
        let step = |step: &Normalize| match step {
            Normalize::Nfc => Ok(json!({"type": "NFC"})),
            Normalize::Prepend(prefix) => Ok(json!({"type": "Prepend", "prepend": prefix})),
            Normalize::Replace { from, to } => {
                Ok(json!({"type": "Replace", "pattern": {"String": from}, "content": to}))
            }
            _ => Err(self.unsupported("normalizer", "a step of tokenizer.json files")),
        };
        let steps: Vec<Value> = self.cutter.normalize.iter().map(step).collect::<Result<_>>()?;
        Ok(sequence("normalizers", steps))
    }

    fn pre_tokenizer_json(&self) -> Result<Value> {
        let regex = |cut: &Cut| match (&cut.pattern, cut.behavior, cut.invert) {
            (Pattern::Regex(regex), Behavior::Isolated, false) => Ok(regex.as_str().to_owned()),
            _ => Err(self.unsupported("pre_tokenizer", "a step of tokenizer.json files")),
        };
        let mut regexes: Vec<String> = self.cutter.cuts.iter().map(regex).collect::<Result<_>>()?;
        let byte_level = self.cutter.byte_level.as_ref().map(|byte_level| {
            // ByteLevel cuts by this pattern itself, after the prefix.
            let has_cut =
                !byte_level.add_prefix_space && regexes.pop_if(|last| last == GPT2_PATTERN).is_some();
            json!({
                "type": "ByteLevel",
                "add_prefix_space": byte_level.add_prefix_space,
                "trim_offsets": false,
                "use_regex": has_cut,
            })
        });
        let splits = regexes.into_iter().map(|regex| {
            json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
        });
        Ok(sequence("pretokenizers", splits.chain(byte_level).collect()))
    }

    /// What comes before and after a text.
    fn post_processor_json(&self) -> Value {
        let byte_level = (self.spelling == Spelling::ByteLevel).then(|| {
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false})
        });
        let (before, after) = (&self.frame.before, &self.frame.after);
        let framed = (!before.is_empty() || !after.is_empty()).then(|| {
            let special =
                |id: &u32, text: u8| json!({"SpecialToken": {"id": self.piece(*id), "type_id": text}});
            let one = |name: &str, text: u8| {
                let itself = json!({"Sequence": {"id": name, "type_id": text}});
                let before = before.iter().map(move |id| special(id, text));
                let after = after.iter().map(move |id| special(id, text));
                before.chain([itself]).chain(after).collect::<Vec<Value>>()
            };
            let pair = [one("A", 0), one("B", 1)].concat();
            let tokens = before.iter().chain(after).map(|&id| {
                let text = self.piece(id);
                (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]}))
            });
            json!({
                "type": "TemplateProcessing",
                "single": one("A", 0),
                "pair": pair,
                "special_tokens": tokens.collect::<Map<_, _>>(),
            })
        });
        sequence("processors", byte_level.into_iter().chain(framed).collect())
    }

    fn decoder_json(&self) -> Value {
        if self.spelling == Spelling::ByteLevel {
            return json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        }
        let mut steps = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.strips_leading_space {
            steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        sequence("decoders", steps)
    }

    fn model_json(&self) -> Value {
        let bpe = &self.bpe;
        let pair = |&(left, right): &(u32, u32)| json!([self.piece(left), self.piece(right)]);
        // Special and byte tokens keep their ids by being in the vocabulary as well.
        let is_written = |id: u32, piece: &str| {
            !piece.is_empty() && bpe.ids.get(piece).is_none_or(|&mergeable| mergeable == id)
        };
        let pieces =
            (0..).zip(self.pieces[..self.n_used()].iter().map(|piece| piece.as_deref().unwrap_or_default()));
        let vocab: Map<_, _> = pieces
            .filter(|&(id, piece)| is_written(id, piece))
            .map(|(id, piece)| (piece.to_owned(), id.into()))
            .collect();
        let merges: Vec<Value> = match &bpe.merges {
            Merges::Listed(listed) => {
                let mut pairs: Vec<_> = listed.iter().map(|(pair, (rank, _))| (*rank, *pair)).collect();
                pairs.sort_unstable();
                pairs.iter().map(|(_, ids)| pair(ids)).collect()
            }
            Merges::Scored(scores) => self.listed_merges(scores).iter().map(pair).collect(),
        };
        json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": bpe.unknown.map(|id| self.piece(id)),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": bpe.fuse_unknown,
            "byte_fallback": bpe.byte_ids.is_some(),
            "ignore_merges": bpe.whole_words,
            "vocab": vocab,
            "merges": merges,
        })
    }

    /// One more than the last id that a converter has not put in to fill up the embedding.
    fn n_used(&self) -> usize {
        let is_filler = |id: usize| {
            *self.piece(id as u32) == format!("[PAD{id}]") && !self.added.contains_key(&(id as u32))
        };
        (0..self.pieces.len()).rfind(|&id| !is_filler(id)).map_or(0, |last| last + 1)
    }

    /// Every pair of tokens that makes a token, in the order of the scores.
    fn listed_merges(&self, scores: &[f32]) -> Vec<(u32, u32)> {
        let ids = &self.bpe.ids;
        let score = |id: u32| scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let splits = |(piece, &id): (&Arc<str>, &u32)| {
            let piece = piece.clone();
            let places: Vec<usize> = piece.char_indices().skip(1).map(|(at, _)| at).collect();
            let pair = move |at: usize| Some((*ids.get(&piece[..at])?, *ids.get(&piece[at..])?));
            places.into_iter().rev().filter_map(pair).map(move |pair| (id, pair))
        };
        // Real tokens are not longer, and all splits of a token take the square of its length.
        let splittable = ids.iter().filter(|(piece, _)| piece.len() <= MAX_CONTENT);
        let mut merges: Vec<(u32, (u32, u32))> = splittable.flat_map(splits).collect();
        let n_chars = |id: u32| self.piece(id).chars().count();
        merges.sort_by_cached_key(|&(id, (left, right))| {
            (descending(score(id)), usize::MAX - n_chars(left), usize::MAX - n_chars(right), id)
        });
        merges.into_iter().map(|(_, pair)| pair).collect()
    }
}

/// No step, the step, or all of them.
fn sequence(name: &str, mut steps: Vec<Value>) -> Value {
    match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => json!({"type": "Sequence", name: steps}),
    }
}
