//! Attention against the textbook in f64.

use proptest::prelude::*;

use super::*;
use crate::ops::testing::{assert_close, on_every_isa, ramp};
use crate::{Isa, KvType, Precision};

/// Keys, values and queries of a sequence, and what attention should make of them.
struct Case {
    shape: AttentionShape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    n_positions: usize,
}

impl Case {
    fn new(shape: AttentionShape, n_positions: usize) -> Case {
        let n = n_positions * shape.n_kv_heads * shape.head_dim;
        let rounded = |x: f32| half::f16::from_f32(x * 3.0).to_f32();
        let kv: Vec<f32> = ramp(2 * n).into_iter().map(rounded).collect();
        let q = ramp(n_positions * shape.n_heads * shape.head_dim);
        Case { shape, q, k: kv[..n].to_vec(), v: kv[n..].to_vec(), n_positions }
    }

    fn pages(&self, isa: Isa, ty: KvType) -> Vec<KvPage> {
        let (n, dim) = (self.shape.n_kv_heads, self.shape.head_dim);
        let mut pages = vec![KvPage::new(n, dim, ty); self.n_positions.div_ceil(KvPage::LEN)];
        for (i, (k, v)) in self.k.chunks(n * dim).zip(self.v.chunks(n * dim)).enumerate() {
            pages[i / KvPage::LEN].write(isa, i % KvPage::LEN, k, v);
        }
        pages
    }

    /// With the keys and values that pages of codes hold instead of those that were written.
    fn rounded_to(mut self, ty: KvType) -> Case {
        let (n, dim) = (self.shape.n_kv_heads, self.shape.head_dim);
        let pages = self.pages(Isa::best(), ty);
        for position in 0..self.n_positions {
            for head in 0..n {
                let [key, value] = pages[position / KvPage::LEN].decoded(head, position % KvPage::LEN);
                let at = (position * n + head) * dim;
                self.k[at..at + dim].copy_from_slice(&key);
                self.v[at..at + dim].copy_from_slice(&value);
            }
        }
        self
    }

    /// Element `[token, head, d]` computed plainly.
    fn exact(&self, token: usize, head: usize) -> Vec<f64> {
        let AttentionShape { n_heads, n_kv_heads, head_dim, scale, window, softcap } = self.shape;
        let kv = |x: &[f32], j: usize| -> Vec<f64> {
            let start = (j * n_kv_heads + head * n_kv_heads / n_heads) * head_dim;
            x[start..][..head_dim].iter().map(|&x| f64::from(x)).collect()
        };
        let q = &self.q[(token * n_heads + head) * head_dim..][..head_dim];
        let mut sum = 0.0;
        let mut out = vec![0.0; head_dim];
        for j in (0..=token).filter(|&j| window.is_none_or(|w| j + w > token)) {
            let dot: f64 = kv(&self.k, j).iter().zip(q).map(|(k, &q)| k * f64::from(q)).sum();
            let mut score = dot * f64::from(scale);
            if let Some(cap) = softcap.map(f64::from) {
                score = cap * (score / cap).tanh();
            }
            sum += score.exp();
            out.iter_mut().zip(kv(&self.v, j)).for_each(|(out, v)| *out += score.exp() * v);
        }
        out.iter().map(|x| x / sum).collect()
    }

    /// Checks the last `n_tokens` tokens of the sequence, computed in one call.
    fn check(&self, isa: Isa, ty: KvType, n_threads: usize, n_tokens: usize) -> Vec<f32> {
        let out = self.attend(&self.pages(isa, ty), isa, n_threads, n_tokens);
        self.compare(&out, n_tokens, 1e-5);
        out
    }

    /// What attention to `pages` gives for the last `n_tokens` tokens.
    fn attend(&self, pages: &[KvPage], isa: Isa, n_threads: usize, n_tokens: usize) -> Vec<f32> {
        let c = Compute { isa, ..Compute::new(n_threads, Precision::Float) };
        let first = self.n_positions - n_tokens;
        // Pages that the window has left behind may be gone.
        let gone = self.shape.seen_from(first).start / KvPage::LEN;
        let kv = KvView { pages: &pages[gone..], start: gone * KvPage::LEN };
        let token_len = self.shape.n_heads * self.shape.head_dim;
        let mut out = vec![f32::NAN; n_tokens * token_len];
        let mut scratch = AttentionScratch::default();
        attention(&c, &self.shape, &self.q[first * token_len..], kv, first, &mut scratch, &mut out);
        out
    }

    fn compare(&self, out: &[f32], n_tokens: usize, tolerance: f64) {
        let first = self.n_positions - n_tokens;
        for (row, found) in out.chunks(self.shape.head_dim).enumerate() {
            let (token, head) = (first + row / self.shape.n_heads, row % self.shape.n_heads);
            for (found, want) in found.iter().zip(self.exact(token, head)) {
                assert_close(*found, want, tolerance);
            }
        }
    }
}

fn shape(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> AttentionShape {
    let scale = (head_dim as f32).powf(-0.5);
    AttentionShape { n_heads, n_kv_heads, head_dim, scale, window: None, softcap: None }
}

#[test]
fn decode_deep_in_a_context() {
    for (n_heads, n_kv_heads, head_dim) in [(9, 3, 64), (7, 1, 80), (2, 2, 20)] {
        for n_positions in [1, 15, 64, 65, 256, 257, 700] {
            let case = Case::new(shape(n_heads, n_kv_heads, head_dim), n_positions);
            on_every_isa(|isa| {
                case.check(isa, KvType::F16, 1, 1);
                case.check(isa, KvType::F32, 1, 1);
            });
        }
    }
}

#[test]
fn prefill_with_and_without_a_past() {
    let case = Case::new(shape(6, 2, 48), 300);
    on_every_isa(|isa| {
        for n_tokens in [300, 100, 11, 3] {
            case.check(isa, KvType::F16, 1, n_tokens);
        }
    });
}

/// What is rounded on the way, queries and weights, to 15 bits, leaves next to no trace; and all instruction sets agree.
#[test]
fn codes_in_decode_and_prefill() {
    for (shape, n_positions) in [(shape(9, 3, 64), 700), (shape(7, 1, 80), 257), (shape(2, 2, 20), 90)] {
        for ty in [KvType::Int8, KvType::Int4] {
            let written = Case::new(AttentionShape { window: Some(300), ..shape }, n_positions);
            let pages = written.pages(Isa::best(), ty);
            let case = written.rounded_to(ty);
            for n_tokens in [1, 2, 40] {
                let portable = case.attend(&pages, Isa::Scalar, 1, n_tokens);
                case.compare(&portable, n_tokens, 1e-3);
                on_every_isa(|isa| assert_eq!(case.attend(&pages, isa, 2, n_tokens), portable));
            }
        }
    }
}

#[test]
fn windows_and_caps() {
    for (window, softcap) in
        [(Some(1), None), (Some(16), Some(5.0)), (Some(100), None), (Some(1000), Some(0.5))]
    {
        let case = Case::new(AttentionShape { window, softcap, ..shape(4, 1, 32) }, 530);
        for n_tokens in [1, 40] {
            case.check(Isa::best(), KvType::F16, 1, n_tokens);
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let case = Case::new(shape(8, 4, 16), 600);
    for n_tokens in [1, 90] {
        let alone = case.check(Isa::best(), KvType::F16, 1, n_tokens);
        assert_eq!(alone, case.check(Isa::best(), KvType::F16, 3, n_tokens));
    }
}

/// Across the border of a page and of a window.
#[test]
fn a_few_tokens_together_get_the_bits_of_single_ones() {
    for (window, shape) in
        [(None, shape(12, 2, 32)), (Some(20), shape(9, 3, 16)), (Some(250), shape(8, 8, 20))]
    {
        let case = Case::new(AttentionShape { window, ..shape }, 3 * KvPage::LEN);
        let token_len = shape.n_heads * shape.head_dim;
        on_every_isa(|isa| {
            let c = Compute { isa, ..Compute::new(1, Precision::Float) };
            for ty in [KvType::F16, KvType::Int8] {
                let pages = case.pages(isa, ty);
                let run = |first: usize, n_tokens: usize| {
                    let (mut out, mut scratch) =
                        (vec![0.0; n_tokens * token_len], AttentionScratch::default());
                    let q = &case.q[first * token_len..][..n_tokens * token_len];
                    let kv = KvView { pages: &pages, start: 0 };
                    attention(&c, &case.shape, q, kv, first, &mut scratch, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                };
                let first = 2 * KvPage::LEN - FEW_TOKENS / 2;
                let singly: Vec<u32> = (first..first + FEW_TOKENS).flat_map(|token| run(token, 1)).collect();
                assert_eq!(run(first, FEW_TOKENS), singly, "{window:?}, {ty}");
            }
        });
    }
}

/// Keys and values of later tokens may be there already, or of a text that was taken back.
#[test]
fn what_comes_after_leaves_no_trace() {
    let shape = shape(6, 2, 32);
    let mut case = Case::new(shape, 140);
    // Largest at the end, so that their scales would be the largest of a strip.
    let width = shape.n_kv_heads * shape.head_dim;
    for (position, values) in case.v.chunks_mut(width).enumerate() {
        values.iter_mut().for_each(|v| *v *= 1.0 + position as f32);
    }
    let token_len = shape.n_heads * shape.head_dim;
    on_every_isa(|isa| {
        let c = Compute { isa, ..Compute::new(1, Precision::Float) };
        for ty in KvType::ALL {
            for position in [20, 63, 64, 100] {
                let seen = (position + 1) * width;
                let (k, v) = (case.k[..seen].to_vec(), case.v[..seen].to_vec());
                let before = Case { shape, q: Vec::new(), k, v, n_positions: position + 1 };
                let [alone, among] = [before.pages(isa, ty), case.pages(isa, ty)].map(|pages| {
                    let (mut out, mut scratch) = (vec![0.0; token_len], AttentionScratch::default());
                    let q = &case.q[position * token_len..][..token_len];
                    attention(
                        &c,
                        &shape,
                        q,
                        KvView { pages: &pages, start: 0 },
                        position,
                        &mut scratch,
                        &mut out,
                    );
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                });
                assert_eq!(alone, among, "{position}, {ty}");
            }
        }
    });
}

#[test]
fn scores_beyond_the_range_of_exp() {
    let case = Case::new(AttentionShape { scale: 40.0, ..shape(2, 1, 16) }, 90);
    on_every_isa(|isa| {
        let c = Compute { isa, ..Compute::new(1, Precision::Float) };
        let pages = case.pages(isa, KvType::F32);
        let mut out = vec![f32::NAN; case.q.len()];
        let kv = KvView { pages: &pages, start: 0 };
        attention(&c, &case.shape, &case.q, kv, 0, &mut AttentionScratch::default(), &mut out);
        assert!(out.iter().all(|x| x.abs() <= 3.0), "outputs are averages of values");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape(
        (n_kv_heads, group, head_dim) in (1usize..4, 1usize..10, 1usize..70),
        n_positions in 1usize..200,
        n_tokens in 1usize..60,
        window in prop::option::of(1usize..150),
    ) {
        let shape = AttentionShape { window, ..shape(n_kv_heads * group, n_kv_heads, head_dim) };
        let case = Case::new(shape, n_positions);
        case.check(Isa::best(), KvType::F16, 2, n_tokens.min(n_positions));
    }
}
