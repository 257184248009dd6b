//! A network run block by block has the residual stream of a forward pass, and shows what its layers read.

mod common;

use common::{checkpoints, expected, max_difference, open};
use sterna_model::layerwise::LayerwiseScratch;
use sterna_model::{KvType, Layerwise, LoadOptions, Logits, Model, Site, State, Workspace, forward_tapped};
use sterna_tensor::{Compute, Precision};

#[test]
fn block_by_block_is_a_forward_pass() {
    let c = Compute::new(2, Precision::Float);
    for name in checkpoints() {
        let checkpoint = open(name, "config.json");
        let tokens = expected(name).input_ids;
        let layerwise = Layerwise::open(&checkpoint).unwrap();
        let (mut stream, mut scratch) = (layerwise.embed(&tokens).unwrap(), LayerwiseScratch::default());

        let model = Model::load(&checkpoint, &LoadOptions::default(), &c).unwrap();
        let mut state = State::new(&model, KvType::F32);
        let mut inputs_seen = 0;
        let mut tap = |site: Site, values: &[f32]| {
            if let Site::Block(index) = site {
                let block = layerwise.block(index).unwrap();
                let runnable = layerwise.runnable(index, &block).unwrap();
                layerwise.run(&c, &runnable, &mut scratch, &mut stream, |layer, input| {
                    assert!(layer.ends_with(".weight") && !input.is_empty(), "{layer}");
                    inputs_seen += 1;
                });
                assert!(max_difference(&stream.x, values) < 1e-4, "{name}, block {index}");
            }
        };
        let mut workspace = Workspace::new();
        forward_tapped(&model, &c, &mut state, &mut workspace, &tokens, Logits::Last, Some(&mut tap))
            .unwrap();
        // Input and output of a mixer, input and inner width of a network; a block has at least one of the two.
        assert!(inputs_seen >= 2 * layerwise.spec().blocks.len(), "{name}: {inputs_seen}");
        assert_eq!(layerwise.head().unwrap().rows, layerwise.spec().vocab_size);
    }
}
