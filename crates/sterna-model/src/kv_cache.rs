//! Keys and values of one attention layer for the positions so far.

use sterna_tensor::{Isa, KvPage, KvType, KvView};

/// Grows by whole pages as positions are written; the longest context is never reserved.
#[derive(Debug, Clone)]
pub(crate) struct KvCache {
    n_kv_heads: usize,
    head_dim: usize,
    ty: KvType,
    /// Slots from the length of the sequence on may hold what was there before a rewind; attention does not read them.
    pages: Vec<KvPage>,
}

impl KvCache {
    pub(crate) fn new(n_kv_heads: usize, head_dim: usize, ty: KvType) -> KvCache {
        KvCache { n_kv_heads, head_dim, ty, pages: Vec::new() }
    }

    /// Stores `keys` and `values` `[n, n_kv_heads * head_dim]` at the positions from `first` on.
    pub(crate) fn write(&mut self, isa: Isa, first: usize, keys: &[f32], values: &[f32]) {
        let width = self.n_kv_heads * self.head_dim;
        let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for (position, (key, value)) in (first..).zip(rows) {
            let page = position / KvPage::LEN;
            while self.pages.len() <= page {
                self.pages.push(KvPage::new(self.n_kv_heads, self.head_dim, self.ty));
            }
            self.pages[page].write(isa, position % KvPage::LEN, key, value);
        }
    }

    pub(crate) fn fits(&self, n_kv_heads: usize, head_dim: usize) -> bool {
        (self.n_kv_heads, self.head_dim) == (n_kv_heads, head_dim)
    }

    pub(crate) fn view(&self) -> KvView<'_> {
        KvView { pages: &self.pages, start: 0 }
    }

    /// Gives back the pages that a sequence of `length` positions does not need.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.pages.truncate(length.div_ceil(KvPage::LEN));
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.pages.iter().map(KvPage::n_bytes).sum()
    }
}
