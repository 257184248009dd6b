//! A state in a file and back: exactly what was computed, so that the sequence goes on as if it had never stopped.
//!
//! Sections of the file, all numbers little-endian:
//!
//! * one `Sequence`: how keys and values are stored (`u32`), the rotary regime (`u32`), the number of tokens (`u64`), the tokens
//!   (`u32` each);
//! * a `Mixer` for each block: of attention, the position of the first slot (`u64`) and the pages as they lie in memory; of a
//!   recurrence, its floats; of both, one after the other;
//! * a `Snapshot` for each length that recurrences can go back to: the length (`u64`) and the floats of all blocks.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sterna_formats::FormatError;
use sterna_formats::state_file::{SectionKind, StateFile, StateWriter};
use sterna_tensor::{Compute, KvPage, KvType};

use super::snapshots::Snapshot;
use super::{MixerState, Recurrent, State};
use crate::error::Result;
use crate::kv_cache::KvCache;
use crate::model::Model;
use crate::rope::Regime;

/// By their numbers in files.
const KV_TYPES: [KvType; 4] = [KvType::F16, KvType::F32, KvType::Int8, KvType::Int4];
const REGIMES: [Regime; 2] = [Regime::Short, Regime::Long];

impl State {
    /// Writes the state as sections of a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, writer: &mut StateWriter) -> Result<()> {
        let number = |position: Option<usize>| position.unwrap_or(usize::MAX) as u32;
        let mut sequence = Vec::with_capacity(16 + 4 * self.len());
        sequence.extend(number(KV_TYPES.iter().position(|ty| *ty == self.kv_type)).to_le_bytes());
        sequence.extend(number(REGIMES.iter().position(|regime| *regime == self.regime)).to_le_bytes());
        sequence.extend((self.len() as u64).to_le_bytes());
        sequence.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        writer.add(SectionKind::Sequence, [&sequence[..]])?;
        for mixer in &self.mixers {
            let (start, pages) = mixer.cache().map_or((0, &[][..]), |cache| cache.pages(self.len()));
            let start = (start as u64).to_le_bytes();
            let head = mixer.cache().map(|_| &start[..]);
            let floats = mixer.recurrent().map(floats).unwrap_or_default();
            let parts = head.into_iter().chain(pages.iter().map(KvPage::as_bytes)).chain([&floats[..]]);
            writer.add(SectionKind::Mixer, parts)?;
        }
        for snapshot in self.snapshots.iter() {
            let length = (snapshot.length as u64).to_le_bytes();
            let floats: Vec<u8> = snapshot.states.iter().flatten().flat_map(floats).collect();
            writer.add(SectionKind::Snapshot, [&length[..], &floats])?;
        }
        Ok(())
    }

    /// The state of `model` in `file`, which says that it is of that model. Layers are checked and copied in parallel.
    ///
    /// # Errors
    /// A section is missing, damaged, or not what this model's state has there; a sequence longer than the model's context.
    pub fn load(model: &Model, compute: &Compute, file: &StateFile) -> Result<State> {
        let mut state = sequence(model, file)?;
        let (n, length) = (state.mixers.len(), state.len());
        expect_count(file, SectionKind::Mixer, n)?;
        let slots: Vec<_> = state.mixers.iter_mut().map(|mixer| Mutex::new((mixer, Ok(())))).collect();
        compute.pool.run(n, |i, _worker| {
            let mut slot = slots[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (mixer, result) = &mut *slot;
            *result = read_mixer(file, i, length, mixer);
        });
        for slot in slots {
            slot.into_inner().unwrap_or_else(PoisonError::into_inner).1?;
        }
        if state.can_rewind() {
            expect_count(file, SectionKind::Snapshot, 0)?;
        }
        for i in 0..file.count(SectionKind::Snapshot) {
            let snapshot = read_snapshot(file, i, &state)?;
            state.snapshots.push(snapshot);
        }
        Ok(state)
    }
}

/// A state with the tokens of `file` and nothing else yet.
fn sequence(model: &Model, file: &StateFile) -> Result<State> {
    expect_count(file, SectionKind::Sequence, 1)?;
    let mut section =
        Section { bytes: file.section(SectionKind::Sequence, 0)?, file, name: "sequence".into() };
    let kv_type = pick(KV_TYPES, section.u32()?);
    let kv_type = kv_type.ok_or_else(|| section.wrong("a known type of keys and values", "another"))?;
    let regime = pick(REGIMES, section.u32()?);
    let regime = regime.ok_or_else(|| section.wrong("a known rotary regime", "another"))?;
    let n_tokens = section.u64()?;
    let spec = model.spec();
    if n_tokens > spec.context_length as u64 {
        let expected = format!("at most {} tokens, the context", spec.context_length);
        return Err(section.wrong(&expected, &n_tokens.to_string()).into());
    }
    let tokens = section.take(4 * n_tokens as usize)?;
    section.end()?;
    let mut state = State::new(model, kv_type);
    state.regime = regime;
    state.tokens = tokens.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)).collect();
    match state.tokens.iter().find(|token| **token as usize >= spec.vocab_size) {
        Some(token) => {
            Err(section.wrong(&format!("tokens below {}", spec.vocab_size), &token.to_string()).into())
        }
        None => Ok(state),
    }
}

fn read_mixer(file: &StateFile, i: usize, length: usize, mixer: &mut MixerState) -> Result<()> {
    let bytes = file.section(SectionKind::Mixer, i)?;
    let mut section = Section { bytes, file, name: format!("state of block {i}") };
    if let MixerState::Attention(cache) | MixerState::Parallel(cache, _) = mixer {
        read_cache(&mut section, cache, length)?;
    }
    if let MixerState::Recurrent(recurrent) | MixerState::Parallel(_, recurrent) = mixer {
        section.floats(recurrent)?;
    }
    Ok(section.end()?)
}

fn read_cache(section: &mut Section<'_>, cache: &mut KvCache, length: usize) -> Result<()> {
    let start = section.u64()?;
    if start > length as u64 || !start.is_multiple_of(KvPage::LEN as u64) {
        let expected = format!("positions from the beginning of a page before {length} on");
        return Err(section.wrong(&expected, &start.to_string()).into());
    }
    let start = start as usize;
    let mut pages = Vec::new();
    for _ in 0..(length - start).div_ceil(KvPage::LEN) {
        let bytes = section.take(cache.page_bytes())?;
        let page = cache.page_from(&bytes);
        pages.push(page.map_err(|error| section.wrong("a page of keys and values", &error.to_string()))?);
    }
    cache.set_pages(start, pages);
    if !cache.reaches(length) {
        return Err(section
            .wrong("all positions that tokens to come see", &format!("those from {start} on"))
            .into());
    }
    Ok(())
}

fn read_snapshot(file: &StateFile, i: usize, state: &State) -> Result<Snapshot> {
    let bytes = file.section(SectionKind::Snapshot, i)?;
    let mut section = Section { bytes, file, name: format!("snapshot {i}") };
    let length = section.u64()?;
    let least = state.snapshots.iter().last().map_or(1, |last| last.length as u64 + 1);
    if !(least..=state.len() as u64).contains(&length) {
        let expected = format!("a length from {least} to {}", state.len());
        return Err(section.wrong(&expected, &length.to_string()).into());
    }
    let mut states: Vec<_> = state.mixers.iter().map(|mixer| mixer.recurrent().cloned()).collect();
    states.iter_mut().flatten().try_for_each(|recurrent| section.floats(recurrent))?;
    section.end()?;
    Ok(Snapshot::new(length as usize, states))
}

fn floats(recurrent: &Recurrent) -> Vec<u8> {
    recurrent.buffers().into_iter().flatten().flat_map(|value| value.to_le_bytes()).collect()
}

fn expect_count(file: &StateFile, kind: SectionKind, expected: usize) -> Result<()> {
    match file.count(kind) {
        found if found == expected => Ok(()),
        found => {
            Err(file.invalid(&format!("{kind:?} sections"), expected.to_string(), found.to_string()).into())
        }
    }
}

fn pick<T: Copy, const N: usize>(of: [T; N], number: u32) -> Option<T> {
    of.get(number as usize).copied()
}

/// A section that is read from its beginning to its end.
struct Section<'a> {
    bytes: Bytes,
    file: &'a StateFile,
    name: String,
}

impl Section<'_> {
    fn take(&mut self, n: usize) -> Result<Bytes, FormatError> {
        if n > self.bytes.len() {
            return Err(self.wrong(&format!("{n} bytes more"), &self.bytes.len().to_string()));
        }
        Ok(self.bytes.split_to(n))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Fills `recurrent`.
    fn floats(&mut self, recurrent: &mut Recurrent) -> Result<(), FormatError> {
        for buffer in recurrent.buffers_mut() {
            let bytes = self.take(size_of_val(buffer))?;
            let values = bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
            buffer.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        }
        Ok(())
    }

    /// Refuses a rest.
    fn end(&self) -> Result<(), FormatError> {
        match self.bytes.len() {
            0 => Ok(()),
            rest => Err(self.wrong("no more bytes", &rest.to_string())),
        }
    }

    fn wrong(&self, expected: &str, found: &str) -> FormatError {
        self.file.invalid(&self.name, expected, found)
    }
}
