//! Cholesky factors of large matrices: panel after panel, each from those to its left, nearly all of it in products.

use sterna_tensor::Compute;
use sterna_tensor::ops::{add_scaled, scale};

use super::product::Panel;

/// Columns of a panel.
const PANEL: usize = 256;
/// Rows that one thread works on before it looks for more.
const BAND: usize = 128;

/// Turns the lower half of a symmetric matrix `[n, n]` into `L` with `L Lᵀ` equal to it. What is above the diagonal is
/// neither read nor sensible afterwards. `false` when it is not positive definite.
pub(super) fn cholesky(matrix: &mut [f32], n: usize, c: &Compute) -> bool {
    for first in (0..n).step_by(PANEL) {
        let end = n.min(first + PANEL);
        let (done, below) = matrix.split_at_mut(end * n);
        let rows = &mut done[first * n..];
        let panel = Panel::new(c, end - first, first, |columns, out| {
            for (row, out) in rows.chunks_exact(n).zip(out.chunks_exact_mut(columns.len())) {
                out.copy_from_slice(&row[columns.clone()]);
            }
        });
        c.pool
            .run_slices(rows, BAND * n, |_, rows, _| write(rows, n, first, &rest(rows, n, first, &panel, c)));
        let Some(columns) = factor_block(rows, n, first) else { return false };
        c.pool.run_slices(below, BAND * n, |_, rows, _| {
            let mut rest = rest(rows, n, first, &panel, c);
            solve(&columns, end - first, &mut rest, c);
            write(rows, n, first, &rest);
        });
    }
    true
}

/// `[columns of the panel, rows]`: what `rows` hold in the panel from `first` on, less the products of all before it.
fn rest(rows: &[f32], n: usize, first: usize, panel: &Panel, c: &Compute) -> Vec<f32> {
    let n_rows = rows.len() / n;
    let mut rest = panel.times(c, rows, n);
    for (r, row) in rows.chunks_exact(n).enumerate() {
        for (rest, h) in rest[r..].iter_mut().step_by(n_rows).zip(&row[first..]) {
            *rest = h - *rest;
        }
    }
    rest
}

/// The reverse of reading: `values` `[columns of the panel, rows]` into `rows`.
fn write(rows: &mut [f32], n: usize, first: usize, values: &[f32]) {
    let n_rows = rows.len() / n;
    for (r, row) in rows.chunks_exact_mut(n).enumerate() {
        row[first..].iter_mut().zip(values[r..].iter().step_by(n_rows)).for_each(|(out, v)| *out = *v);
    }
}

/// Factors the block of `rows` on the diagonal, from column `first` on, in `f64`, and returns it column by column.
fn factor_block(rows: &mut [f32], n: usize, first: usize) -> Option<Vec<f32>> {
    let len = rows.len() / n;
    let mut block = vec![0.0f64; len * len];
    for i in 0..len {
        let (above, row) = block.split_at_mut(i * len);
        let source = &rows[i * n + first..][..=i];
        for j in 0..=i {
            let left = if j < i { &above[j * len..][..j] } else { &[] };
            let sum: f64 = if j < i {
                left.iter().zip(&row[..j]).map(|(a, b)| a * b).sum()
            } else {
                row[..i].iter().map(|a| a * a).sum()
            };
            let rest = f64::from(source[j]) - sum;
            row[j] = if j < i { rest / above[j * len + j] } else { rest.sqrt() };
        }
        // A pivot that was not positive has no square root, or no inverse.
        if !(row[i] > 0.0 && row[i].is_finite()) {
            return None;
        }
    }
    let mut columns = vec![0.0; len * len];
    for (i, row) in rows.chunks_exact_mut(n).enumerate() {
        for j in 0..=i {
            let value = block[i * len + j] as f32;
            row[first + j] = value;
            columns[j * len + i] = value;
        }
    }
    Some(columns)
}

/// Solves `X Lᵀ = B` for `X`, both as `[columns, rows]`, with the block `L` given column by column.
fn solve(columns: &[f32], len: usize, b: &mut [f32], c: &Compute) {
    let n_rows = b.len() / len;
    for j in 0..len {
        let column = &columns[j * len..][..len];
        let (done, later) = b.split_at_mut((j + 1) * n_rows);
        let x = &mut done[j * n_rows..];
        scale(x, 1.0 / column[j]);
        for (later, factor) in later.chunks_exact_mut(n_rows).zip(&column[j + 1..]) {
            add_scaled(c.isa, later, x, -factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_tensor::Precision;

    #[test]
    fn the_factor_multiplies_back() {
        for n in [1, 7, 256, 300, 600] {
            let value = |i: usize, j: usize| {
                let distance = i.abs_diff(j) as f32;
                (-0.1 * distance).exp() + if i == j { 0.01 } else { 0.0 }
            };
            let matrix: Vec<f32> = (0..n * n).map(|k| value(k / n, k % n)).collect();
            let mut factors = Vec::new();
            for n_threads in [1, 2] {
                let mut lower = matrix.clone();
                assert!(cholesky(&mut lower, n, &Compute::new(n_threads, Precision::Float)));
                for i in 0..n {
                    lower[i * n + i + 1..(i + 1) * n].fill(0.0);
                }
                factors.push(lower);
            }
            assert_eq!(factors[0], factors[1]);
            for i in (0..n).step_by(5) {
                for j in 0..=i {
                    let row = |i: usize| &factors[0][i * n..][..n];
                    let product: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
                    assert!((product - value(i, j)).abs() < 1e-5, "{n}: [{i}, {j}] is {product}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_factor_is_noticed() {
        let c = Compute::new(1, Precision::Float);
        for bad in
            [[1.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, f32::NAN, 1.0], [-1.0, 0.0, 0.0, 1.0]]
        {
            assert!(!cholesky(&mut bad.clone(), 2, &c));
        }
    }
}
