//! The model that others are compared with: its predictions, from a cache file or computed when they are asked for.

use super::cache::{Cache, CacheKey, Reader, Writer};
use super::perplexity::{check, score_window};
use super::record::Record;
use super::{EvalError, LogitSource, Progress, Result, Windows};

/// Loads the reference when there is no way around it.
pub type LoadReference<'a> = dyn FnMut() -> Result<Box<dyn LogitSource>> + 'a;

/// The predictions of the reference over one text.
///
/// A cache file that holds them all makes loading needless. Otherwise the model is loaded and computes each window when it
/// is first asked for; once all have come by, in order, they are in the cache. With and without a cache the numbers are
/// the same, because both pass through the same few bytes.
pub struct Reference<'a> {
    windows: &'a Windows,
    vocab_size: usize,
    load: Box<LoadReference<'a>>,
    live: Option<Box<dyn LogitSource>>,
    cache: Option<(Cache, CacheKey)>,
    reader: Option<Reader>,
    writer: Option<Writer>,
    records: Vec<Record>,
}

impl<'a> Reference<'a> {
    /// The predictions of the model with `vocab_size` tokens that `load` brings, over `windows`. In `cache` they are
    /// looked for and kept under the key.
    pub fn new(
        windows: &'a Windows,
        vocab_size: usize,
        cache: Option<(Cache, CacheKey)>,
        load: Box<LoadReference<'a>>,
    ) -> Reference<'a> {
        let (live, reader, writer) = (None, None, None);
        Reference { windows, vocab_size, load, live, cache, reader, writer, records: Vec::new() }
    }

    /// The text.
    pub fn windows(&self) -> &'a Windows {
        self.windows
    }

    /// Tokens of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether the model had to be loaded and is still here.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The predictions at the scored positions of window `i`. The first is where the cache is looked at.
    pub(crate) fn window(&mut self, i: usize, progress: &mut dyn Progress) -> Result<&[Record]> {
        if i == 0 && self.live.is_none() {
            self.open_cache(progress);
        }
        if let Some(reader) = &mut self.reader {
            match reader.window(i) {
                Ok(records) => {
                    self.records = records;
                    return Ok(&self.records);
                }
                Err(damage) => {
                    progress.note(&format!("{damage}: computing the reference again"));
                    self.forget_cache();
                }
            }
        }
        self.compute(i, progress)?;
        Ok(&self.records)
    }

    /// After the last window: puts the cache file in its place.
    pub(crate) fn finish(&mut self, progress: &mut dyn Progress) {
        if let Some(writer) = self.writer.take() {
            match writer.finish() {
                // From now on the file serves, and the model's memory is free for the next one.
                Ok(()) => self.live = None,
                Err(error) => progress.note(&format!("the reference's logits are not kept: {error}")),
            }
        }
    }

    fn open_cache(&mut self, progress: &mut dyn Progress) {
        let Some((cache, key)) = &self.cache else { return };
        match cache.open(key, self.windows, self.vocab_size) {
            Ok(reader) => self.reader = reader,
            Err(damage) => {
                progress.note(&format!("{damage}: computing the reference again"));
                self.forget_cache();
            }
        }
        if self.reader.is_none() {
            self.create_cache(progress);
        }
    }

    fn create_cache(&mut self, progress: &mut dyn Progress) {
        let Some((cache, key)) = &self.cache else { return };
        match cache.create(key, self.windows, self.vocab_size) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => progress.note(&format!("the reference's logits are not kept: {error}")),
        }
    }

    fn forget_cache(&mut self) {
        self.reader = None;
        if let Some((cache, key)) = &self.cache {
            cache.remove(key);
        }
    }

    fn compute(&mut self, i: usize, progress: &mut dyn Progress) -> Result<()> {
        let live = match &mut self.live {
            Some(live) => live,
            None => {
                let live = self.live.insert((self.load)()?);
                let (expected, found) = (self.vocab_size, live.vocab_size());
                if expected != found {
                    return Err(EvalError::Vocabulary { expected, found });
                }
                check(live.as_ref(), self.windows)?;
                live
            }
        };
        self.records = score_window(live.as_mut(), self.windows, i, &|score| Record::of(&score))?;
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.window(i, &self.records)
        {
            progress.note(&format!("the reference's logits are not kept: {error}"));
            self.writer = None;
        }
        Ok(())
    }
}
