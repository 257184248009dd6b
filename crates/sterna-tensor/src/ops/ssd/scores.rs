//! How much the tokens of a chunk have to do with those before them: products that all heads of a group share.

use super::CHUNK;
use super::chunk::Tokens;
use crate::ops::elementwise::dot;
use crate::simd::{Kernel, Simd};

/// Writes `C_i · B_j` for each token `i` of the input and each token `j` of its chunk up to it.
pub(super) struct Scores<'a> {
    pub(super) tokens: Tokens<'a>,
    /// `[n, n_groups, CHUNK]`; what is not written has no meaning.
    pub(super) scores: &'a mut [f32],
}

impl Kernel for Scores<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Scores { tokens, scores } = self;
        let n_groups = tokens.shape.n_groups;
        for (t, scores) in scores.chunks_exact_mut(n_groups * CHUNK).enumerate() {
            let i = tokens.n_open() + t;
            let start = i / CHUNK * CHUNK;
            for (group, scores) in scores.chunks_exact_mut(CHUNK).enumerate() {
                let c = tokens.c(i, group);
                for (k, score) in (start..=i).zip(scores) {
                    *score = dot(simd, c, tokens.b(k, group));
                }
            }
        }
    }
}
