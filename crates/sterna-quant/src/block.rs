//! Rounding one block: its inputs one after the other, the last first, each scaled before the layers that read it are rounded.

use sterna_model::layerwise::FloatBlock;
use sterna_model::spec::BlockSpec;
use sterna_tensor::Compute;

use crate::error::Result;
use crate::layer::LayerRounding;
use crate::observe::{Observations, observed_names};
use crate::recipe::{Method, Recipe};
use crate::rounding::{Factor, Quantized};
use crate::scaling::{Fold, Scaling, compensated, folds};

/// How a block is rounded.
pub(crate) struct BlockRounding<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) c: &'a Compute,
}

/// What became of a layer.
pub(crate) struct RoundedLayer {
    pub(crate) quantized: Quantized,
    /// Of its output, relative to the output, where its input is known.
    pub(crate) error: Option<f64>,
}

impl BlockRounding<'_> {
    /// Rounds the linear layers of `block`, and leaves there what they became: in their order, `None` for those that stay
    /// as they are. What was scaled for it is added to `scalings`.
    pub(crate) fn round(
        &self,
        spec: &BlockSpec,
        block: &mut FloatBlock,
        observations: &mut Observations,
        scalings: &mut Vec<Scaling>,
    ) -> Result<Vec<Option<RoundedLayer>>> {
        let observed = observed_names(block);
        let mut rounded: Vec<Option<RoundedLayer>> = observed.iter().map(|_| None).collect();
        for stage in stages(spec, block) {
            // That of the input which was last looked at.
            let mut factor: Option<(String, Factor)> = None;
            if let (Method::Auto, Some(fold)) = (self.recipe.method, &stage.fold) {
                scalings.extend(self.scale(fold, block, observations, &mut factor)?);
            }
            for i in stage.layers {
                let layer = &mut *block.linears_mut()[i];
                let Some(format) = self.recipe.format_of(&layer.name, layer.cols) else { continue };
                let input = observations.of(&observed[i]);
                let is_new = factor.as_ref().is_none_or(|(of, _)| *of != observed[i]);
                if let (Some(input), true) = (input, is_new) {
                    let found = self.of_layers().factor(&observed[i], input)?;
                    factor = found.map(|factor| (observed[i].clone(), factor));
                }
                let factor = factor.as_ref().map(|(_, factor)| factor);
                let (quantized, error) = self.of_layers().round(layer, format, input, factor)?;
                layer.weight = quantized.dequantize(&self.c.pool);
                rounded[i] = Some(RoundedLayer { quantized, error });
            }
        }
        Ok(rounded)
    }

    /// Scales the input of `fold` as suits rounding that makes up for its errors; leaves its factor in `factor`.
    fn scale(
        &self,
        fold: &Fold,
        block: &mut FloatBlock,
        observations: &mut Observations,
        factor: &mut Option<(String, Factor)>,
    ) -> Result<Option<Scaling>> {
        let name = &fold.readers[0];
        let Some(input) = observations.of(name) else { return Ok(None) };
        let Some(mut found) = self.of_layers().factor(name, input)? else { return Ok(None) };
        let readers = block.linears().into_iter().filter(|layer| fold.readers.contains(&layer.name));
        let readers: Vec<_> = readers
            .filter_map(|layer| Some((layer, self.recipe.format_of(&layer.name, layer.cols)?)))
            .collect();
        let (scaling, scales) = compensated::search(fold, &readers, &found, &self.c.pool);
        fold.apply(block, &scales);
        observations.divide(&fold.readers, &scales);
        found.scaled_by(&scales);
        *factor = Some((name.clone(), found));
        Ok(Some(scaling))
    }

    fn of_layers(&self) -> LayerRounding<'_> {
        LayerRounding { method: self.recipe.method, c: self.c }
    }
}

/// Layers of a block that are rounded together.
struct Stage {
    /// What scales the input that they read, if it can be scaled.
    fold: Option<Fold>,
    /// Their places in the block.
    layers: Vec<usize>,
}

/// All layers of `block`, last first: an input's scales change the weights of what makes it, which must not have been
/// rounded by then.
fn stages(spec: &BlockSpec, block: &FloatBlock) -> Vec<Stage> {
    let layers = block.linears();
    let mut others: Vec<usize> = (0..layers.len()).collect();
    let mut stages = Vec::new();
    for fold in folds(spec, block).into_iter().rev() {
        let readers = others.extract_if(.., |i| fold.readers.contains(&layers[*i].name)).collect();
        stages.push(Stage { fold: Some(fold), layers: readers });
    }
    stages.push(Stage { fold: None, layers: others });
    stages
}
