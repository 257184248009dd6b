//! What the tests of the operations share.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::Isa;

/// Runs a test with every instruction set of this machine.
pub(crate) fn on_every_isa(test: impl Fn(Isa)) {
    Isa::available().into_iter().for_each(test);
}

/// `n` vectors of one ragged length, small and large values mixed.
pub(crate) fn floats(n: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value = prop_oneof![8 => -12.0f32..12.0, 1 => Just(0.0), 1 => -80.0f32..80.0];
    (0usize..70).prop_flat_map(move |len| vec(vec(value.clone(), len), n))
}

/// `n` different values in -1..1.
pub(crate) fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 12.9898).sin()).collect()
}

pub(crate) fn assert_close(found: f32, want: f64, tolerance: f64) {
    assert!(
        (f64::from(found) - want).abs() <= tolerance,
        "found {found:e}, want {want:e} within {tolerance:e}"
    );
}
