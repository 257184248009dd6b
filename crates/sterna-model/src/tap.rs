//! A small tap: an observer of the values that flow between the parts of a network.

use std::fmt;

/// A place in a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Site {
    /// The scaled embedding: `embed.out`.
    Embedding,
    /// The residual stream after a block: `layer.3.out`.
    Block(usize),
    /// After the last norm, before the head: `final_norm.out`.
    FinalNorm,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Embedding => f.write_str("embed.out"),
            Site::Block(block) => write!(f, "layer.{block}.out"),
            Site::FinalNorm => f.write_str("final_norm.out"),
        }
    }
}

/// An observer of a forward pass.
pub trait Tap {
    /// The values `[n_tokens, hidden_size]` at `site`; once for every chunk of tokens, chunks in order.
    fn observe(&mut self, site: Site, values: &[f32]);
}

impl<F: FnMut(Site, &[f32])> Tap for F {
    fn observe(&mut self, site: Site, values: &[f32]) {
        self(site, values);
    }
}
