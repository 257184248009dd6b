//! Rounding to nearest with grids that are judged by their groups.

use proptest::prelude::*;
use sterna_quant::rounding::{Gram, GroupMoments, Search, TokenWeight, round_to_nearest};
use sterna_tensor::{Compute, PackedFormat, Precision};

use crate::data::{correlated, difference, normal};
use crate::formats;

fn gram(cols: usize, seed: u64, c: &Compute) -> Gram {
    let mut gram = Gram::new(cols, TokenWeight::Plain);
    gram.add(c, &correlated(3 * cols, cols, seed));
    gram
}

proptest! {
    #[test]
    fn no_group_loses_more_than_with_the_grid_that_is_best_input_by_input(
        format in formats(), rows in 1usize..20, seed: u64,
    ) {
        let c = Compute::new(2, Precision::Float);
        // One group, so that its moments are all there are, of one row after the other.
        let cols = format.group_size().unwrap();
        let (gram, weights) = (gram(cols, seed, &c), normal(rows * cols, seed ^ 7));
        let moments = GroupMoments::new(&gram, format, None, &c).unwrap();
        let judged = difference(&weights, &moments.round(&weights, rows, &c).unwrap(), &c);
        let importance = gram.diagonal();
        let nearest =
            round_to_nearest(&weights, rows, cols, format, Some(&importance), Search::Clip, &c.pool).unwrap();
        let nearest = difference(&weights, &nearest, &c);
        for (judged, nearest) in judged.chunks_exact(cols).zip(nearest.chunks_exact(cols)) {
            let (judged, nearest) = (gram.error(&c, judged), gram.error(&c, nearest));
            prop_assert!(judged <= nearest * (1.0 + 1e-4), "{judged} after {nearest}");
        }
    }

    #[test]
    fn moments_are_divided_as_inputs_are(format in formats(), rows in 1usize..20, seed: u64) {
        let c = Compute::new(2, Precision::Float);
        let cols = 256;
        let (mut gram, weights) = (gram(cols, seed, &c), normal(rows * cols, seed ^ 7));
        // Powers of two, so that no rounding tells one way from the other.
        let scales: Vec<f32> = (0..cols).map(|i| [0.25, 1.0, 2.0, 0.5, 4.0][i % 5]).collect();
        let divided = GroupMoments::new(&gram, format, Some(&scales), &c).unwrap();
        gram.scaled_by(&scales);
        let of_divided = GroupMoments::new(&gram, format, None, &c).unwrap();
        prop_assert!(divided.round(&weights, rows, &c).unwrap() == of_divided.round(&weights, rows, &c).unwrap());
    }
}

#[test]
fn less_is_lost_where_inputs_go_together() {
    let c = Compute::new(2, Precision::Float);
    let format = PackedFormat::affine(3, 128).unwrap();
    let (rows, cols) = (64, 512);
    let (gram, weights) = (gram(cols, 5, &c), normal(rows * cols, 6));
    let moments = GroupMoments::new(&gram, format, None, &c).unwrap();
    let judged = moments.round(&weights, rows, &c).unwrap();
    let one_thread = Compute::new(1, Precision::Float);
    assert!(judged == moments.round(&weights, rows, &one_thread).unwrap());
    let importance = gram.diagonal();
    let nearest = round_to_nearest(&weights, rows, cols, format, Some(&importance), Search::Clip, &c.pool);
    let error = |quantized| gram.error(&c, &difference(&weights, quantized, &c));
    let (judged, nearest) = (error(&judged), error(&nearest.unwrap()));
    assert!(judged < 0.96 * nearest, "{judged} after {nearest}");
}
