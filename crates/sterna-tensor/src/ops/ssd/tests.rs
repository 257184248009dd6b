use super::*;
use crate::ops::testing::{assert_close, ramp};
use crate::{Isa, Precision};
use proptest::prelude::*;

struct Case {
    shape: SsdShape,
    xbc: Vec<f32>,
    dt: Vec<f32>,
    decay: Vec<f32>,
    d: Vec<f32>,
    state: Vec<f32>,
}

impl Case {
    fn new(shape: SsdShape, n: usize) -> Case {
        let mut state = ramp(shape.heads_len());
        state.resize(shape.state_len(), 0.0);
        Case {
            xbc: ramp(n * shape.xbc_size()),
            dt: ramp(n * shape.n_heads).iter().map(|x| x.abs()).collect(),
            decay: ramp(n * shape.n_heads + 1)[1..].iter().map(|x| x.abs()).collect(),
            d: ramp(shape.n_heads),
            state,
            shape,
        }
    }

    fn n(&self) -> usize {
        self.dt.len() / self.shape.n_heads
    }

    /// Outputs, and what the state after them says, `chunk` tokens at a time.
    fn scan(&self, isa: Isa, chunk: usize) -> (Vec<f32>, Vec<f32>) {
        let Case { shape, xbc, dt, decay, d, .. } = self;
        let c = Compute { isa, ..Compute::new(2, Precision::Float) };
        let (mut state, mut y) = (self.state.clone(), vec![0.0; self.n() * shape.inner_size()]);
        for (i, y) in y.chunks_mut(chunk * shape.inner_size()).enumerate() {
            let (first, n) = (i * chunk, y.len() / shape.inner_size());
            let steps = first * shape.n_heads..(first + n) * shape.n_heads;
            let input = SsdInput {
                first,
                xbc: &xbc[first * shape.xbc_size()..(first + n) * shape.xbc_size()],
                dt: &dt[steps.clone()],
                decay: &decay[steps],
                d,
            };
            let mut scores = vec![f32::NAN; shape.scores_len(n)];
            ssd_scan(&c, *shape, input, &mut state, &mut scores, y);
        }
        state.truncate(shape.heads_len() + self.n() % CHUNK * shape.open_size());
        (y, state)
    }

    /// The recurrence as it is written, in f64.
    fn in_f64(&self) -> Vec<f64> {
        let SsdShape { n_heads, head_dim, n_groups, state_size } = self.shape;
        let mut state: Vec<f64> = self.state.iter().copied().map(f64::from).collect();
        let mut out = Vec::new();
        for t in 0..self.n() {
            let token = &self.xbc[t * self.shape.xbc_size()..][..self.shape.xbc_size()];
            for head in 0..n_heads {
                let group = head / (n_heads / n_groups);
                let (dt, decay) = (self.dt[t * n_heads + head], self.decay[t * n_heads + head]);
                for p in 0..head_dim {
                    let x = f64::from(token[head * head_dim + p]);
                    let mut y = f64::from(self.d[head]) * x;
                    for row in 0..state_size {
                        let at = |part: usize| {
                            let start = self.shape.inner_size() + part * n_groups * state_size;
                            f64::from(token[start + group * state_size + row])
                        };
                        let s = &mut state[(head * state_size + row) * head_dim + p];
                        *s = f64::from(decay) * *s + at(0) * f64::from(dt) * x;
                        y += at(1) * *s;
                    }
                    out.push(y);
                }
            }
        }
        out
    }
}

proptest! {
    #[test]
    fn outputs_are_those_of_f64_and_the_same_however_they_are_cut(
        (group, n_groups, head_dim) in (1usize..4, 1usize..3, 1usize..70),
        (state_size, n, chunk) in (1usize..40, 1usize..28, 1usize..28),
    ) {
        let shape = SsdShape { n_heads: group * n_groups, head_dim, n_groups, state_size };
        let case = Case::new(shape, n);
        let whole = case.scan(Isa::Scalar, n);
        for (found, want) in whole.0.iter().zip(case.in_f64()) {
            assert_close(*found, want, 1e-4);
        }
        for isa in Isa::available() {
            prop_assert!(case.scan(isa, chunk) == whole, "{isa}");
        }
    }
}

#[test]
fn all_threads_give_what_one_gives() {
    let case = Case::new(SsdShape { n_heads: 8, head_dim: 64, n_groups: 2, state_size: 128 }, 29);
    let best = case.scan(Isa::best(), 29);
    assert!(best == case.scan(Isa::Scalar, 1));
}
