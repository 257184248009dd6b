//! Keys and values of one attention layer for the positions so far, or for those of them that can still be seen.

use std::ops::Range;

use sterna_tensor::{Isa, KvPage, KvType, KvView, ShapeError};

use crate::forward::MAX_CHUNK;
use crate::spec::AttentionSpec;
use crate::synthetic;

/// Tokens that a sequence can be taken back by although a window has moved on: an answer, as a rule.
const REWIND: usize = 1024;

/// Grows by whole pages as positions are written; the longest context is never reserved. A layer with a sliding window uses
/// pages again that no query to come will see.
#[derive(Debug, Clone)]
pub(crate) struct KvCache {
    n_kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    ty: KvType,
    /// Slots from the length of the sequence on may hold what was there before a rewind; attention does not read them.
    pages: Vec<KvPage>,
    /// Position of the first slot of the first page.
    start: usize,
    /// Pages that a window has left behind.
    spare: Vec<KvPage>,
}

impl KvCache {
    pub(crate) fn new(spec: &AttentionSpec, ty: KvType) -> KvCache {
        let &AttentionSpec { n_kv_heads, head_dim, window, .. } = spec;
        KvCache { n_kv_heads, head_dim, window, ty, pages: Vec::new(), start: 0, spare: Vec::new() }
    }

    /// Stores `keys` and `values` `[n, n_kv_heads * head_dim]` at the positions from `first` on, which are new.
    pub(crate) fn write(&mut self, isa: Isa, first: usize, keys: &[f32], values: &[f32]) {
        self.leave_behind(first);
        let width = self.n_kv_heads * self.head_dim;
        let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for (position, (key, value)) in (first..).zip(rows) {
            self.page(position).write(isa, position % KvPage::LEN, key, value);
        }
    }

    /// Stores keys and values that mean nothing at `positions`, which are new.
    pub(crate) fn make_up(&mut self, isa: Isa, positions: Range<usize>) {
        let mut elements = vec![0.0; 2 * self.n_kv_heads * self.head_dim];
        for position in positions {
            synthetic::fill(position as u64, &mut elements);
            let (key, value) = elements.split_at(elements.len() / 2);
            self.write(isa, position, key, value);
        }
    }

    /// Whether this is a cache of such a layer.
    pub(crate) fn fits(&self, spec: &AttentionSpec) -> bool {
        (self.n_kv_heads, self.head_dim, self.window) == (spec.n_kv_heads, spec.head_dim, spec.window)
    }

    /// How keys and values are stored.
    pub(crate) fn ty(&self) -> KvType {
        self.ty
    }

    pub(crate) fn view(&self) -> KvView<'_> {
        KvView { pages: &self.pages, start: self.start }
    }

    /// Whether all is there that the tokens after the first `length` see.
    pub(crate) fn reaches(&self, length: usize) -> bool {
        length == 0 || self.start <= first_seen(self.window, length)
    }

    /// Gives back the pages that a sequence of `length` positions does not need.
    pub(crate) fn truncate(&mut self, length: usize) {
        if length == 0 {
            self.start = 0;
            self.spare.clear();
        }
        self.pages.truncate(length.saturating_sub(self.start).div_ceil(KvPage::LEN));
    }

    /// The pages of the first `length` positions, and the position of their first slot.
    pub(crate) fn pages(&self, length: usize) -> (usize, &[KvPage]) {
        let n_pages = length.saturating_sub(self.start).div_ceil(KvPage::LEN);
        (self.start, &self.pages[..n_pages.min(self.pages.len())])
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self) -> usize {
        self.ty.page_bytes(self.n_kv_heads, self.head_dim)
    }

    /// A page of this cache with `bytes`.
    ///
    /// # Errors
    /// When there are not [`KvCache::page_bytes`].
    pub(crate) fn page_from(&self, bytes: &[u8]) -> Result<KvPage, ShapeError> {
        KvPage::from_bytes(self.n_kv_heads, self.head_dim, self.ty, bytes)
    }

    /// Takes `pages`, whose first slot is position `start`, in place of its own.
    pub(crate) fn set_pages(&mut self, start: usize, pages: Vec<KvPage>) {
        (self.start, self.pages) = (start, pages);
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.pages.iter().chain(&self.spare).map(KvPage::n_bytes).sum()
    }

    /// The page of `position`, of which there may be none yet.
    fn page(&mut self, position: usize) -> &mut KvPage {
        let index = (position - self.start) / KvPage::LEN;
        while self.pages.len() <= index {
            let new = || KvPage::new(self.n_kv_heads, self.head_dim, self.ty);
            self.pages.push(self.spare.pop().unwrap_or_else(new));
        }
        &mut self.pages[index]
    }

    /// Takes away the pages that tokens from `first - REWIND` on do not see.
    fn leave_behind(&mut self, first: usize) {
        let seen = first_seen(self.window, first.saturating_sub(REWIND));
        let n = (seen.saturating_sub(self.start) / KvPage::LEN).min(self.pages.len());
        self.start += n * KvPage::LEN;
        self.spare.extend(self.pages.drain(..n));
    }
}

impl AttentionSpec {
    /// Bytes that the keys and values of `length` positions take at most, stored as `ty`.
    pub(crate) fn kv_bytes(&self, ty: KvType, length: usize) -> usize {
        let kept = self.window.map_or(length, |window| length.min(window + REWIND + MAX_CHUNK + KvPage::LEN));
        kept.div_ceil(KvPage::LEN) * ty.page_bytes(self.n_kv_heads, self.head_dim)
    }
}

/// The first position that a token at `position` sees.
fn first_seen(window: Option<usize>, position: usize) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 8;

    fn write(cache: &mut KvCache, first: usize, n: usize) {
        cache.write(Isa::best(), first, &vec![1.0; n * WIDTH], &vec![2.0; n * WIDTH]);
    }

    fn spec(window: Option<usize>) -> AttentionSpec {
        AttentionSpec {
            n_heads: 1,
            n_kv_heads: 1,
            head_dim: WIDTH,
            scale: 1.0,
            window,
            softcap: None,
            rope: None,
            qkv_bias: false,
            o_bias: false,
            qk_norm: false,
            sub_norm: false,
            output_gate: false,
        }
    }

    #[test]
    fn a_window_bounds_the_memory() {
        let [all, windowed] = [None, Some(300)].map(spec);
        let [mut grows, mut stays] = [&all, &windowed].map(|spec| KvCache::new(spec, KvType::F16));
        let (mut first, mut most) = (0, 0);
        for n in std::iter::repeat_n(MAX_CHUNK, 20).chain(std::iter::repeat_n(1, 3000)) {
            for cache in [&mut grows, &mut stays] {
                write(cache, first, n);
            }
            assert!(stays.view().start <= (first + 1).saturating_sub(300), "what the first of them sees");
            first += n;
            most = most.max(stays.n_bytes());
        }
        assert_eq!(grows.n_bytes(), all.kv_bytes(KvType::F16, first));
        assert!(most <= windowed.kv_bytes(KvType::F16, first));
        assert!(windowed.kv_bytes(KvType::F16, first) < grows.n_bytes() / 5);
    }

    #[test]
    fn what_a_window_left_behind_is_not_gone_back_to() {
        let mut cache = KvCache::new(&spec(Some(300)), KvType::F16);
        for first in 0..5000 {
            write(&mut cache, first, 1);
        }
        assert!(cache.reaches(0) && cache.reaches(5000 - REWIND) && !cache.reaches(3000));
        cache.truncate(5000 - REWIND);
        write(&mut cache, 5000 - REWIND, 700);
        assert!(cache.view().start <= 5000 - REWIND - 299);
        cache.truncate(0);
        assert_eq!((cache.n_bytes(), cache.view().start), (0, 0));
        write(&mut cache, 0, 2);
        assert!(cache.reaches(1));
    }
}
