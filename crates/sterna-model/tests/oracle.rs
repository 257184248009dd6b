//! The oracle gives the logits of the reference implementation.

mod common;

use common::{CONFIGS, checkpoints, expected, max_difference, open, tolerance};
use sterna_model::Reference;

#[test]
fn oracle_equals_the_reference_implementation() {
    for name in checkpoints() {
        let expected = expected(name);
        for config in CONFIGS {
            let oracle = Reference::load(&open(name, config)).unwrap();
            let logits = oracle.forward(&expected.input_ids).unwrap();
            let difference = max_difference(&logits, &expected.logits);
            println!("{name} {config}: {difference:.1e}");
            assert!(difference <= tolerance(name), "{name}, {config}: logits differ by {difference}");
        }
    }
}
