//! The tokenizer in a Hugging Face directory: `tokenizer.json`, and what `tokenizer_config.json` adds.
//!
//! The file is read into types of our own, not by the `tokenizers` crate's loader: that one panics on some odd
//! files (a merge longer than every token, a broken precompiled map) and takes ids as they come. What is not
//! understood is an error that names it, since a step left out would give wrong ids without a word.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::added::MAX_CONTENT;
use super::bpe::{Bpe, ListedMerges, Merges};
use super::cut::Cutter;
use super::{AddedToken, Frame, Parts, Spelling, Tokenizer, byte_token};
use crate::checkpoint::{Checkpoint, MAX_TOKENIZER_BYTES};
use crate::error::{FormatError, Result};
use crate::hf::{self, ConfigFile};

mod decoder;
mod steps;

/// What other files of the directory say.
#[derive(Default)]
pub(super) struct Hints {
    bos: Option<String>,
    eos: Option<String>,
    bos_id: Option<u32>,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
    ends: Vec<u32>,
}

impl Hints {
    fn from_config(config: &ConfigFile) -> Result<Hints> {
        let view = config.view();
        // A token is a string, or an object with the string in it.
        let token = |key: &str| match view.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => match other.get("content").and_then(Value::as_str) {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(view.wrong(key, "a token")),
            },
        };
        Ok(Hints {
            bos: token("bos_token")?,
            eos: token("eos_token")?,
            add_bos: view.opt_bool("add_bos_token")?,
            add_eos: view.opt_bool("add_eos_token")?,
            ..Hints::default()
        })
    }
}

/// The tokenizer of a Hugging Face directory.
pub(super) fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let (path, text) = checkpoint
        .tokenizer_json()?
        .ok_or_else(|| FormatError::missing(checkpoint.path().display().to_string(), "tokenizer.json"))?;
    let config = checkpoint.tokenizer_config()?;
    let generation = checkpoint.generation_config()?;
    let hints = Hints {
        ends: generation.eos_token_ids,
        bos_id: generation.bos_token_id,
        ..config.as_ref().map(Hints::from_config).transpose()?.unwrap_or_default()
    };
    parse(&path.display().to_string(), &text, &hints)
}

/// The tokenizer in the file at `path`.
pub(super) fn open(path: &Path) -> Result<Tokenizer> {
    let config = path.with_file_name("tokenizer_config.json");
    let hints = match config.is_file() {
        true => Hints::from_config(&ConfigFile::open(&config)?)?,
        false => Hints::default(),
    };
    parse(&path.display().to_string(), &hf::read_text(path, MAX_TOKENIZER_BYTES)?, &hints)
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<steps::Normalizer>,
    pre_tokenizer: Option<steps::PreTokenizer>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    /// Absent in old files, which are BPE.
    #[serde(rename = "type")]
    name: Option<String>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<Merge>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

/// Reads `text`, the content of `file`.
pub(super) fn parse(file: &str, text: &str, hints: &Hints) -> Result<Tokenizer> {
    let parsed: File = serde_json::from_str(text).map_err(|error| {
        FormatError::invalid(file, "content", "a tokenizer that is supported", error.to_string())
    })?;
    let reader = Reader { file };
    reader.model(&parsed.model)?;
    let vocab = reader.vocab(&parsed.model)?;
    let merges = reader.merges(&parsed.model.merges, &vocab)?;
    let added = reader.added(parsed.added_tokens)?;
    let pieces = reader.pieces(&vocab, &added)?;
    let decoder = decoder::read(file, parsed.decoder.as_ref())?;
    let mut cutter = Cutter::default();
    steps::read(file, parsed.normalizer, parsed.pre_tokenizer, &mut cutter)?;
    let id_of = |text: &str| {
        added
            .iter()
            .find(|token| token.content == text)
            .map(|token| token.id)
            .or_else(|| vocab.get(text).copied())
    };
    let frame = reader.frame(parsed.post_processor.as_ref(), hints, id_of, pieces.len())?;
    let unknown = match &parsed.model.unk_token {
        None => None,
        Some(text) => Some(id_of(text).ok_or_else(|| {
            FormatError::invalid(file, "model.unk_token", "a token of the vocabulary", format!("{text:?}"))
        })?),
    };
    let parts = Parts {
        file: file.to_owned(),
        spelling: decoder.spelling,
        strips_leading_space: decoder.strips_leading_space,
        bpe: Bpe {
            byte_ids: (parsed.model.byte_fallback || decoder.spelling == Spelling::SentencePiece)
                .then(|| byte_ids(&vocab)),
            ids: vocab,
            merges: Merges::Listed(merges),
            unknown,
            fuse_unknown: parsed.model.fuse_unk,
            whole_words: parsed.model.ignore_merges,
        },
        ends: hints.ends.iter().copied().filter(|id| (*id as usize) < pieces.len()).collect(),
        pieces,
        added,
        cutter,
        frame,
    };
    Ok(parts.assemble())
}

type Vocab = HashMap<Arc<str>, u32>;

struct Reader<'a> {
    file: &'a str,
}

impl Reader<'_> {
    fn invalid(&self, field: impl Into<String>, expected: impl Into<String>, found: String) -> FormatError {
        FormatError::invalid(self.file, field, expected, found)
    }

    /// Refuses models that are not plain BPE.
    fn model(&self, model: &Model) -> Result<()> {
        let unsupported =
            |field: &str, found: &str| Err(FormatError::unsupported(self.file, field, format!("{found:?}")));
        match model.name.as_deref() {
            None | Some("BPE") => {}
            Some(other) => return unsupported("model.type", other),
        }
        match (model.continuing_subword_prefix.as_deref(), model.end_of_word_suffix.as_deref()) {
            (None | Some(""), None | Some("")) => Ok(()),
            (Some(prefix), _) if !prefix.is_empty() => unsupported("model.continuing_subword_prefix", prefix),
            (_, suffix) => unsupported("model.end_of_word_suffix", suffix.unwrap_or_default()),
        }
    }

    fn vocab(&self, model: &Model) -> Result<Vocab> {
        let Value::Object(entries) = &model.vocab else {
            let found = if model.vocab.is_null() { "nothing" } else { "something else" };
            return Err(self.invalid("model.vocab", "an object of ids by token", found.to_owned()));
        };
        let id = |(text, id): (&String, &Value)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok((Arc::from(text.as_str()), id)),
            None => Err(self.invalid(format!("model.vocab.{text}"), "an id", id.to_string())),
        };
        entries.iter().map(id).collect()
    }

    fn merges(&self, listed: &[Merge], vocab: &Vocab) -> Result<ListedMerges> {
        let mut merges = ListedMerges::with_capacity(listed.len());
        let mut joint = String::new();
        for (rank, merge) in (0..).zip(listed) {
            let invalid = |found: String| {
                let expected = "two tokens whose joint text is a token";
                self.invalid(format!("model.merges[{rank}]"), expected, found)
            };
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
                Merge::Text(text) => text.split_once(' ').ok_or_else(|| invalid(format!("{text:?}")))?,
            };
            joint.clear();
            joint.extend([left, right]);
            let id =
                |text: &str| vocab.get(text).copied().ok_or_else(|| invalid(format!("{text:?}, no token")));
            // Of equal merges the last counts, as in the tokenizers crate.
            merges.insert((id(left)?, id(right)?), (rank, id(&joint)?));
        }
        Ok(merges)
    }

    fn added(&self, added: Vec<Added>) -> Result<Vec<AddedToken>> {
        let mut tokens = Vec::with_capacity(added.len());
        for (index, token) in added.into_iter().enumerate() {
            if token.content.is_empty() {
                continue;
            }
            if token.content.len() > MAX_CONTENT {
                let found = format!("{} bytes", token.content.len());
                let field = format!("added_tokens[{index}].content");
                return Err(self.invalid(field, format!("at most {MAX_CONTENT} bytes"), found));
            }
            let Added { id, content, single_word, lstrip, rstrip, normalized, special } = token;
            tokens.push(AddedToken { id, content, special, lstrip, rstrip, single_word, normalized });
        }
        Ok(tokens)
    }

    /// All tokens by id.
    fn pieces(&self, vocab: &Vocab, added: &[AddedToken]) -> Result<Vec<Option<Arc<str>>>> {
        let ids = || vocab.values().copied().chain(added.iter().map(|token| token.id));
        let Some(largest) = ids().max() else {
            return Err(self.invalid("model.vocab", "at least one token", "none".to_owned()));
        };
        // Some vocabularies have holes, but none is mostly holes; the table must not be as long as one id says.
        let limit = (vocab.len() + added.len()).saturating_mul(4).saturating_add(1024);
        if largest as usize >= limit {
            let expected = format!("ids below {limit} for {} tokens", vocab.len() + added.len());
            return Err(self.invalid("model.vocab", expected, largest.to_string()));
        }
        let mut pieces = vec![None; largest as usize + 1];
        for (text, &id) in vocab {
            if let Some(other) = pieces[id as usize].replace(text.clone()) {
                let found = format!("{id} for both {other:?} and {text:?}");
                return Err(self.invalid("model.vocab", "one token per id", found));
            }
        }
        for token in added {
            let place = &mut pieces[token.id as usize];
            match place {
                Some(text) if **text != *token.content => {
                    let found = format!("{} for both {text:?} and {:?}", token.id, token.content);
                    return Err(self.invalid("added_tokens", "one token per id", found));
                }
                _ => *place = Some(Arc::from(token.content.as_str())),
            }
        }
        Ok(pieces)
    }

    fn frame(
        &self,
        post_processor: Option<&Value>,
        hints: &Hints,
        id_of: impl Fn(&str) -> Option<u32>,
        vocab_size: usize,
    ) -> Result<Frame> {
        let inside = |id: &u32| (*id as usize) < vocab_size;
        let (mut before, mut after) = self.template(post_processor)?;
        if let Some(id) = before.iter().chain(&after).find(|id| !inside(id)) {
            let expected = format!("ids below {vocab_size}");
            return Err(self.invalid("post_processor.special_tokens", expected, id.to_string()));
        }
        let named = |text: &Option<String>| text.as_deref().and_then(&id_of);
        let bos = named(&hints.bos).or(hints.bos_id.filter(inside)).or(before.first().copied());
        let eos = named(&hints.eos).or(after.last().copied());
        let eos = eos.or_else(|| hints.ends.first().copied().filter(inside));
        let choose = |add: Option<bool>, ids: &mut Vec<u32>, token: Option<u32>, key: &str| {
            match (add, token) {
                (Some(true), Some(token)) => *ids = vec![token],
                (Some(true), None) => return Err(FormatError::missing("tokenizer_config.json", key)),
                (Some(false), token) => ids.retain(|id| Some(*id) != token),
                (None, _) => {}
            }
            Ok(())
        };
        choose(hints.add_bos, &mut before, bos, "bos_token")?;
        choose(hints.add_eos, &mut after, eos, "eos_token")?;
        Ok(Frame { bos, eos, eot: None, before, after })
    }

    /// What the post-processor puts before and after a text.
    fn template(&self, post_processor: Option<&Value>) -> Result<(Vec<u32>, Vec<u32>)> {
        let mut frame = (Vec::new(), Vec::new());
        let Some(processor) = post_processor.filter(|value| !value.is_null()) else { return Ok(frame) };
        let one = [processor.clone()];
        let list = match processor.get("processors").and_then(Value::as_array) {
            Some(list) if kind(processor) == "Sequence" => list,
            _ => &one[..],
        };
        for processor in list {
            match kind(processor) {
                "ByteLevel" => {}
                "TemplateProcessing" => frame = self.single(processor)?,
                other => {
                    return Err(FormatError::unsupported(self.file, "post_processor", format!("{other:?}")));
                }
            }
        }
        Ok(frame)
    }

    /// The field `single` of a `TemplateProcessing`.
    fn single(&self, processor: &Value) -> Result<(Vec<u32>, Vec<u32>)> {
        let invalid = |field: &str, found: String| {
            self.invalid(format!("post_processor.{field}"), "special tokens around one sequence", found)
        };
        let items = processor.get("single").and_then(Value::as_array);
        let items = items.ok_or_else(|| invalid("single", "no list".to_owned()))?;
        let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
        for item in items {
            if item.get("Sequence").is_some() {
                seen = true;
                continue;
            }
            let name = item.pointer("/SpecialToken/id").and_then(Value::as_str);
            let name = name.ok_or_else(|| invalid("single", item.to_string()))?;
            let ids =
                processor.get("special_tokens").and_then(|tokens| tokens.get(name)?.get("ids")?.as_array());
            let ids: Option<Vec<u32>> = ids
                .and_then(|ids| ids.iter().map(|id| id.as_u64().and_then(|id| id.try_into().ok())).collect());
            let ids = ids.ok_or_else(|| invalid("special_tokens", format!("no ids for {name:?}")))?;
            if seen { &mut after } else { &mut before }.extend(ids);
        }
        Ok((before, after))
    }
}

/// The field `type` of a component.
fn kind(component: &Value) -> &str {
    component.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn byte_ids(vocab: &Vocab) -> Box<[Option<u32>; 256]> {
    let mut ids = Box::new([None; 256]);
    for byte in 0..=255u8 {
        let text = format!("<0x{byte:02X}>");
        debug_assert_eq!(byte_token(&text), Some(byte));
        ids[usize::from(byte)] = vocab.get(text.as_str()).copied();
    }
    ids
}
