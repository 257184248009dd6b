//! The gated delta rule (arXiv:2412.06464 §3), head by head: a state that unlearns what it holds for a key before it
//! learns the key's new value.
//!
//! ```text
//! S   = g_t S_{t-1}
//! S_t = S + k_t ⊗ l_t,  l_t = β_t (v_t - Sᵀ k_t)
//! y_t = S_tᵀ q_t = g_t S_{t-1}ᵀ q_t + (k_t · q_t) l_t
//! ```
//!
//! `S` is `[key_dim, value_dim]`, so that lanes run over values and no sum crosses them. The state is gone through twice for
//! a token: what it holds for the key and for the query is read off it as it was, then the value is learned.

use super::columns::{Columns, Rest, Whole};
use super::elementwise::dot;
use super::heads::for_heads;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Compute, Disjoint};

/// The sizes of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of queries and keys.
    pub n_key_heads: usize,
    /// Heads of values, a multiple of `n_key_heads`; neighbours share a head of keys.
    pub n_value_heads: usize,
    /// Width of a query and of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
}

/// What the rule reads; `n` is the number of tokens.
#[derive(Debug, Clone, Copy)]
pub struct DeltaInput<'a> {
    /// Queries, keys and values side by side, all heads of each,
    /// `[n, 2 * n_key_heads * key_dim + n_value_heads * value_dim]`.
    pub qkv: &'a [f32],
    /// How much of a value is learned, `β`, `[n, n_value_heads]`.
    pub beta: &'a [f32],
    /// What of the state is kept, `g`, `[n, n_value_heads]`.
    pub decay: &'a [f32],
}

impl DeltaShape {
    /// Width of all heads of keys together, and of queries.
    pub fn keys_size(&self) -> usize {
        self.n_key_heads * self.key_dim
    }

    /// Width of all heads of values together.
    pub fn values_size(&self) -> usize {
        self.n_value_heads * self.value_dim
    }

    /// Width of queries, keys and values together.
    pub fn qkv_size(&self) -> usize {
        2 * self.keys_size() + self.values_size()
    }

    /// Elements of the states of all heads.
    pub fn state_len(&self) -> usize {
        self.values_size() * self.key_dim
    }
}

/// Runs `state` `[n_value_heads, key_dim, value_dim]` over the tokens of `input`, and writes `y`
/// `[n, n_value_heads * value_dim]`.
///
/// # Panics
/// When the lengths do not go together.
pub fn gated_delta(c: &Compute, shape: DeltaShape, input: DeltaInput<'_>, state: &mut [f32], y: &mut [f32]) {
    let n = y.len() / shape.values_size().max(1);
    assert!(shape.n_key_heads > 0 && shape.n_value_heads.is_multiple_of(shape.n_key_heads), "{shape:?}");
    assert_eq!(y.len(), n * shape.values_size(), "outputs");
    assert_eq!(state.len(), shape.state_len(), "states");
    assert_eq!(input.qkv.len(), n * shape.qkv_size(), "inputs");
    assert!(input.beta.len() == n * shape.n_value_heads && input.decay.len() == input.beta.len(), "gates");
    for_heads(c, shape.n_value_heads, n, state, y, |head, state, y| {
        c.isa.run(Head { shape, input, head, state, y, n });
    });
}

/// The rule of one head of values.
struct Head<'a> {
    shape: DeltaShape,
    input: DeltaInput<'a>,
    head: usize,
    /// `[key_dim, value_dim]`.
    state: &'a mut [f32],
    /// `[n, n_value_heads * value_dim]`, of which the head writes its columns.
    y: &'a Disjoint<'a, f32>,
    n: usize,
}

impl Kernel for Head<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // Whole rows where they are usual: what comes from further away than the nearest cache comes in order.
        let first = self.columns::<S, 8>(simd, 0);
        let first = self.columns::<S, 4>(simd, first);
        let first = self.columns::<S, 1>(simd, first);
        if first < self.shape.value_dim {
            for t in 0..self.n {
                self.token::<S, 1>(simd, t, Rest(first));
            }
        }
    }
}

impl Head<'_> {
    /// Takes all tokens past the columns from `first` on, `W` vectors of them at a time; returns where fewer are left.
    #[inline(always)]
    fn columns<S: Simd, const W: usize>(&mut self, simd: S, mut first: usize) -> usize {
        while first + W * LANES <= self.shape.value_dim {
            for t in 0..self.n {
                self.token::<S, W>(simd, t, Whole(first));
            }
            first += W * LANES;
        }
        first
    }

    /// Takes token `t` past `columns` of the state.
    #[inline(always)]
    fn token<S: Simd, const W: usize>(&mut self, simd: S, t: usize, columns: impl Columns<W>) {
        let DeltaShape { n_key_heads, n_value_heads, key_dim, value_dim } = self.shape;
        let (keys_size, qkv_size) = (self.shape.keys_size(), self.shape.qkv_size());
        let token = &self.input.qkv[t * qkv_size..][..qkv_size];
        let key_head = self.head / (n_value_heads / n_key_heads);
        let q = &token[key_head * key_dim..][..key_dim];
        let k = &token[keys_size + key_head * key_dim..][..key_dim];
        let gate = t * n_value_heads + self.head;
        let (beta, decay) = (simd.splat(self.input.beta[gate]), simd.splat(self.input.decay[gate]));
        let k_q = simd.splat(dot(simd, k, q));

        let mut known = [simd.splat(0.0); W];
        let mut asked = [simd.splat(0.0); W];
        for ((state, &k), &q) in self.state.chunks_exact(value_dim).zip(k).zip(q) {
            let s = columns.load(simd, state);
            let (k, q) = (simd.splat(k), simd.splat(q));
            for w in 0..W {
                known[w] = simd.mul_add(s[w], k, known[w]);
                asked[w] = simd.mul_add(s[w], q, asked[w]);
            }
        }
        let mut learned = columns.load(simd, &token[2 * keys_size + self.head * value_dim..][..value_dim]);
        let mut y = [simd.splat(0.0); W];
        for w in 0..W {
            let new = simd.sub(learned[w], simd.mul(known[w], decay));
            learned[w] = simd.mul(new, beta);
            y[w] = simd.mul_add(learned[w], k_q, simd.mul(asked[w], decay));
        }
        for (state, &k) in self.state.chunks_exact_mut(value_dim).zip(k) {
            let mut s = columns.load(simd, state);
            let k = simd.splat(k);
            for w in 0..W {
                s[w] = simd.mul_add(learned[w], k, simd.mul(s[w], decay));
            }
            columns.store(simd, s, state);
        }
        let start = t * self.shape.values_size() + self.head * value_dim;
        // SAFETY: these columns are this head's alone, and it is run by one thread.
        columns.store(simd, y, unsafe { self.y.slice(start..start + value_dim) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, ramp};
    use crate::{Isa, Precision};
    use proptest::prelude::*;

    /// The rule as it is written, in f64.
    fn in_f64(shape: DeltaShape, input: DeltaInput<'_>, before: &[f32]) -> Vec<f64> {
        let DeltaShape { n_key_heads, n_value_heads, key_dim, value_dim } = shape;
        let mut state: Vec<f64> = before.iter().copied().map(f64::from).collect();
        let mut out = Vec::new();
        for (t, token) in input.qkv.chunks(shape.qkv_size()).enumerate() {
            for head in 0..n_value_heads {
                let state = &mut state[head * key_dim * value_dim..][..key_dim * value_dim];
                let key_head = head / (n_value_heads / n_key_heads);
                let q = &token[key_head * key_dim..][..key_dim];
                let k = &token[shape.keys_size() + key_head * key_dim..][..key_dim];
                let v = &token[2 * shape.keys_size() + head * value_dim..][..value_dim];
                let gate = t * n_value_heads + head;
                state.iter_mut().for_each(|s| *s *= f64::from(input.decay[gate]));
                for (column, &v) in v.iter().enumerate() {
                    let at = |row: usize| row * value_dim + column;
                    let known: f64 = (0..key_dim).map(|row| state[at(row)] * f64::from(k[row])).sum();
                    let learned = f64::from(input.beta[gate]) * (f64::from(v) - known);
                    (0..key_dim).for_each(|row| state[at(row)] += f64::from(k[row]) * learned);
                    out.push((0..key_dim).map(|row| state[at(row)] * f64::from(q[row])).sum());
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn outputs_are_those_of_f64_and_the_same_however_they_are_cut(
            (group, n_key_heads, key_dim) in (1usize..4, 1usize..3, 1usize..20),
            (value_dim, n, chunk) in (1usize..150, 1usize..12, 1usize..12),
        ) {
            let shape = DeltaShape { n_key_heads, n_value_heads: group * n_key_heads, key_dim, value_dim };
            let gates = |n: usize| ramp(n).iter().map(|x| x.abs()).collect::<Vec<f32>>();
            let qkv: Vec<f32> = ramp(n * shape.qkv_size()).iter().map(|x| 0.4 * x).collect();
            let beta = gates(n * shape.n_value_heads);
            let decay = gates(n * shape.n_value_heads + 1).split_off(1);
            let before = ramp(shape.state_len());
            let input = DeltaInput { qkv: &qkv, beta: &beta, decay: &decay };
            let run = |isa, chunk: usize| {
                let c = Compute { isa, ..Compute::new(2, Precision::Float) };
                let (mut state, mut y) = (before.clone(), vec![0.0; n * shape.values_size()]);
                for (i, y) in y.chunks_mut(chunk * shape.values_size()).enumerate() {
                    let tokens = i * chunk..i * chunk + y.len() / shape.values_size();
                    let of = |width: usize| tokens.start * width..tokens.end * width;
                    let input = DeltaInput {
                        qkv: &qkv[of(shape.qkv_size())],
                        beta: &beta[of(shape.n_value_heads)],
                        decay: &decay[of(shape.n_value_heads)],
                    };
                    gated_delta(&c, shape, input, &mut state, y);
                }
                (y, state)
            };
            let whole = run(Isa::Scalar, n);
            for (found, want) in whole.0.iter().zip(in_f64(shape, input, &before)) {
                assert_close(*found, want, 1e-4 * want.abs().max(1.0));
            }
            for isa in Isa::available() {
                prop_assert!(run(isa, chunk) == whole, "{isa}");
            }
        }
    }
}
