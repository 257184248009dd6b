//! The tokens of a scan, in chunks.

use super::{CHUNK, SsdInput, SsdShape};

/// The tokens of the open chunk and those of the input, one after the other: token `k` is `k` behind the beginning of the open
/// chunk.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    pub(super) shape: SsdShape,
    pub(super) input: SsdInput<'a>,
    /// `[CHUNK - 1, open_size]`.
    pub(super) open: &'a [f32],
    /// Tokens of the input.
    pub(super) n: usize,
}

/// What a token brings.
struct Token<'a> {
    /// `x` of all heads and `B` of all groups.
    xb: &'a [f32],
    /// Of all heads.
    dt: &'a [f32],
    /// Of all heads.
    decay: &'a [f32],
}

/// What a head sees of a chunk.
pub(super) struct Chunk<'a> {
    /// `[head_dim]` of each token.
    pub(super) x: [&'a [f32]; CHUNK],
    /// `[state_size]` of each token.
    pub(super) b: [&'a [f32]; CHUNK],
    /// `Δ` of each token.
    pub(super) dt: [f32; CHUNK],
    /// `a(0, i)`: what decay leaves at each token of the state before the chunk.
    pub(super) of_state: [f32; CHUNK],
    /// `a(j, i)`: what it leaves at token `i` of what came with token `j`, `[i][j]`.
    pub(super) of_token: [[f32; CHUNK]; CHUNK],
}

impl<'a> Tokens<'a> {
    /// Those of the open chunk.
    #[inline(always)]
    pub(super) fn n_open(&self) -> usize {
        self.input.first % CHUNK
    }

    /// One past the last.
    #[inline(always)]
    pub(super) fn end(&self) -> usize {
        self.n_open() + self.n
    }

    /// Group of heads that `head` is in.
    #[inline(always)]
    pub(super) fn group(&self, head: usize) -> usize {
        head / (self.shape.n_heads / self.shape.n_groups)
    }

    /// `B` of a group at token `k`.
    #[inline(always)]
    pub(super) fn b(&self, k: usize, group: usize) -> &'a [f32] {
        let state_size = self.shape.state_size;
        &self.token(k).xb[self.shape.inner_size() + group * state_size..][..state_size]
    }

    /// `C` of a group at token `k`, one of the input's.
    #[inline(always)]
    pub(super) fn c(&self, k: usize, group: usize) -> &'a [f32] {
        let (shape, state_size) = (self.shape, self.shape.state_size);
        let token = &self.input.xbc[(k - self.n_open()) * shape.xbc_size()..][..shape.xbc_size()];
        &token[shape.xb_size() + group * state_size..][..state_size]
    }

    /// What `head` sees of the chunk that ends before token `end`.
    #[inline(always)]
    pub(super) fn chunk(&self, head: usize, end: usize) -> Chunk<'a> {
        let (start, head_dim) = ((end - 1) / CHUNK * CHUNK, self.shape.head_dim);
        let mut chunk = Chunk {
            x: [&[]; CHUNK],
            b: [&[]; CHUNK],
            dt: [0.0; CHUNK],
            of_state: [0.0; CHUNK],
            of_token: [[0.0; CHUNK]; CHUNK],
        };
        let (mut of_state, mut of_token) = (1.0, [0.0; CHUNK]);
        for i in 0..end - start {
            let token = self.token(start + i);
            chunk.x[i] = &token.xb[head * head_dim..][..head_dim];
            chunk.b[i] = self.b(start + i, self.group(head));
            chunk.dt[i] = token.dt[head];
            let decay = token.decay[head];
            of_state *= decay;
            of_token.iter_mut().for_each(|left| *left *= decay);
            of_token[i] = 1.0;
            chunk.of_state[i] = of_state;
            chunk.of_token[i] = of_token;
        }
        chunk
    }

    #[inline(always)]
    fn token(&self, k: usize) -> Token<'a> {
        let n_heads = self.shape.n_heads;
        match k.checked_sub(self.n_open()) {
            None => {
                let (xb, steps) = self.open[k * self.shape.open_size()..].split_at(self.shape.xb_size());
                Token { xb, dt: &steps[..n_heads], decay: &steps[n_heads..2 * n_heads] }
            }
            Some(t) => Token {
                xb: &self.input.xbc[t * self.shape.xbc_size()..][..self.shape.xb_size()],
                dt: &self.input.dt[t * n_heads..][..n_heads],
                decay: &self.input.decay[t * n_heads..][..n_heads],
            },
        }
    }
}

/// Leaves in `open` the tokens behind the last whole chunk, after `n` tokens of `input`.
pub(super) fn keep_open(shape: SsdShape, input: SsdInput<'_>, open: &mut [f32], n: usize) {
    let n_open = (input.first + n) % CHUNK;
    let n_new = n_open.min(n);
    let rows = open.chunks_exact_mut(shape.open_size()).take(n_open).skip(n_open - n_new);
    for (t, row) in (n - n_new..n).zip(rows) {
        let (xb, steps) = row.split_at_mut(shape.xb_size());
        let (dt, decay) = steps.split_at_mut(shape.n_heads);
        xb.copy_from_slice(&input.xbc[t * shape.xbc_size()..][..xb.len()]);
        dt.copy_from_slice(&input.dt[t * shape.n_heads..][..shape.n_heads]);
        decay.copy_from_slice(&input.decay[t * shape.n_heads..][..shape.n_heads]);
    }
}
