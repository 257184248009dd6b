//! The values that the codes of one group stand for, and the search for those that suit the group best.

use half::f16;
use sterna_tensor::{Isa, PackedFormat, Vectorized};

use super::Search;

/// Adding this to a float below 2^22 rounds it to an integer, ties to even, and leaves that in the lowest bits.
const ROUND: f32 = (1 << 23) as f32;

/// Steps of the search from the whole range of a group downwards, each this part of it.
const SHRINK_STEP: f32 = 0.05;
/// How many: the least range is half of the whole.
const N_SHRINKS: usize = 11;

/// Times that a found grid is fitted to its own codes by least squares.
const N_FITS: usize = 3;

/// A scale as stored and a zero point: code `c` is `scale * (c - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    scale: f32,
    per_unit: f32,
    zero: f32,
}

impl Grid {
    pub(super) fn new(scale: f16, zero: u8) -> Grid {
        let scale = scale.to_f32();
        Grid { scale, per_unit: 1.0 / scale, zero: f32::from(zero) }
    }

    /// The grid with the scale next to `scale` that `format` can store.
    pub(super) fn nearest(format: PackedFormat, scale: f32, zero: f32) -> Grid {
        Grid { zero, ..Grid::new(format.stored_scale(scale), 0) }
    }

    pub(super) fn scale(self) -> f16 {
        f16::from_f32(self.scale)
    }

    pub(super) fn zero(self) -> u8 {
        self.zero as u8
    }

    /// How many scales `code` stands for.
    #[inline(always)]
    pub(super) fn units(self, code: u8) -> f32 {
        f32::from(code) - self.zero
    }

    /// What `code` stands for.
    #[inline(always)]
    pub(super) fn value(self, code: u8) -> f32 {
        self.scale * self.units(code)
    }

    /// The code next to `w`.
    #[inline(always)]
    pub(super) fn code(self, w: f32, largest: f32) -> u8 {
        (self.position(w, largest) + ROUND).to_bits() as u8
    }

    /// Where `w` lies between code 0 and the largest.
    #[inline(always)]
    fn position(self, w: f32, largest: f32) -> f32 {
        (w * self.per_unit + self.zero).clamp(0.0, largest)
    }

    /// How many scales the code next to `w` stands for.
    #[inline(always)]
    fn nearest_units(self, w: f32, largest: f32) -> f32 {
        (self.position(w, largest) + ROUND) - ROUND - self.zero
    }

    /// `Σ importance (w - value of its code)²`
    fn error(self, group: &Group, largest: f32) -> f32 {
        Isa::best().vectorize(ErrorOf { grid: self, group, largest })
    }

    /// The grid that makes most of the codes of this one: least squares for the scale.
    fn fitted(self, format: PackedFormat, group: &Group) -> Grid {
        let largest = f32::from(format.largest_code());
        let units = |w| self.nearest_units(w, largest);
        let product = group.sum(|w, importance| importance * w * units(w));
        let square = group.sum(|w, importance| importance * units(w) * units(w));
        let is_sensible = square > 0.0 && product.is_finite();
        if is_sensible { Grid::nearest(format, product / square, self.zero) } else { self }
    }
}

/// Asked for every grid that is tried, which is where the time goes.
struct ErrorOf<'a> {
    grid: Grid,
    group: &'a Group<'a>,
    largest: f32,
}

impl Vectorized for ErrorOf<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let ErrorOf { grid, group, largest } = self;
        group.sum(|w, importance| {
            let error = w - grid.scale * grid.nearest_units(w, largest);
            importance * error * error
        })
    }
}

/// The weights of one group and what an error in each costs.
pub(super) struct Group<'a> {
    pub(super) weights: &'a [f32],
    pub(super) importance: &'a [f32],
}

impl Group<'_> {
    /// Sums in eight lanes, an order that does not depend on the machine.
    #[inline(always)]
    fn sum(&self, term: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0.0f32; 8];
        let (weights, rest) = self.weights.as_chunks::<8>();
        let (importance, rest_importance) = self.importance.as_chunks::<8>();
        for (w, h) in weights.iter().zip(importance) {
            for i in 0..8 {
                lanes[i] += term(w[i], h[i]);
            }
        }
        let rest: f32 = rest.iter().zip(rest_importance).map(|(&w, &h)| term(w, h)).sum();
        lanes.iter().sum::<f32>() + rest
    }

    /// The range of the weights and zero.
    fn range(&self) -> (f32, f32) {
        self.weights.iter().fold((0.0, 0.0), |(low, high), &w| (w.min(low), w.max(high)))
    }
}

/// The few best grids seen so far, the best first.
struct Best<'a> {
    group: &'a Group<'a>,
    largest: f32,
    /// How many are kept.
    n: usize,
    grids: Vec<(f32, Grid)>,
}

impl<'a> Best<'a> {
    fn new(group: &'a Group, largest: f32, n: usize, grid: Grid) -> Best<'a> {
        let mut grids = Vec::with_capacity(n + 1);
        grids.push((grid.error(group, largest), grid));
        Best { group, largest, n, grids }
    }

    fn grid(&self) -> Grid {
        self.grids[0].1
    }

    /// Whether `grid` was better than all others.
    fn offer(&mut self, grid: Grid) -> bool {
        let error = grid.error(self.group, self.largest);
        let place = self.grids.partition_point(|(other, _)| *other <= error);
        if place < self.n && self.grids.iter().all(|(_, known)| *known != grid) {
            self.grids.truncate(self.n - 1);
            self.grids.insert(place, (error, grid));
        }
        place == 0
    }
}

/// The grid for a group of weights in `format`.
pub(super) fn find(format: PackedFormat, group: &Group, search: Search) -> Grid {
    match search {
        Search::MinMax => published(format, group),
        Search::Clip => best(format, group, 1)[0],
    }
}

/// The `n` grids, or fewer, of those that [`Search::Clip`] tries which leave a group of weights the smallest errors; the
/// best first.
pub(super) fn best(format: PackedFormat, group: &Group, n: usize) -> Vec<Grid> {
    let mut best = Best::new(group, f32::from(format.largest_code()), n, published(format, group));
    if format.is_affine() {
        affine(format, &mut best)
    } else {
        symmetric(format, &mut best)
    }
    best.grids.into_iter().map(|(_, grid)| grid).collect()
}

/// The grid that spans all weights and zero.
fn published(format: PackedFormat, group: &Group) -> Grid {
    let (low, high) = group.range();
    let largest = f32::from(format.largest_code());
    if format.is_affine() {
        let grid = Grid::nearest(format, (high - low) / largest, 0.0);
        Grid { zero: (-low / grid.scale).round().clamp(0.0, largest), ..grid }
    } else {
        let zero = f32::from(format.zero());
        Grid::nearest(format, high.max(-low) / (largest - zero), zero)
    }
}

fn affine(format: PackedFormat, best: &mut Best) {
    let (group, largest) = (best.group, best.largest);
    let (low, high) = group.range();
    for step in 0..N_SHRINKS {
        let scale = (high - low) / largest * (1.0 - SHRINK_STEP * step as f32);
        let grid = Grid::nearest(format, scale, 0.0);
        // The codes' range slides over that of the weights, from one end to the other.
        let first = (largest - high * grid.per_unit).floor().clamp(0.0, largest);
        let last = (-low * grid.per_unit).ceil().clamp(0.0, largest);
        let (first, last) = (first.min(last) as u8, first.max(last) as u8);
        for zero in first..=last {
            best.offer(Grid { zero: f32::from(zero), ..grid });
        }
    }
    for _ in 0..N_FITS {
        let fitted = best.grid().fitted(format, group);
        let mut better = best.offer(fitted);
        for zero in [fitted.zero - 1.0, fitted.zero + 1.0] {
            if (0.0..=largest).contains(&zero) {
                better |= best.offer(Grid { zero, ..fitted });
            }
        }
        if !better {
            break;
        }
    }
}

fn symmetric(format: PackedFormat, best: &mut Best) {
    let (largest, zero) = (best.largest, f32::from(format.zero()));
    let (low, high) = best.group.range();
    let whole = high.max(-low) / (largest - zero);
    for step in 0..N_SHRINKS {
        let scale = whole * (1.0 - SHRINK_STEP * step as f32);
        best.offer(Grid::nearest(format, scale, zero));
        if format.has_signed_scales() {
            best.offer(Grid::nearest(format, -scale, zero));
        }
    }
    for _ in 0..N_FITS {
        let fitted = best.grid().fitted(format, best.group);
        if !best.offer(fitted) {
            break;
        }
    }
}
