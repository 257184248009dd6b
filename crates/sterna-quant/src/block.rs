//! Rounding one block: its inputs one after the other, the last first, each scaled before the layers that read it are rounded.

use sterna_model::layerwise::FloatBlock;
use sterna_model::spec::BlockSpec;
use sterna_tensor::Compute;

use crate::error::Result;
use crate::layer::{LayerRounding, Rounded};
use crate::observe::{Observations, observed_names};
use crate::recipe::{Method, Recipe};
use crate::rounding::Factor;
use crate::scaling::{Fold, Found, Scaling, compensated, folds};

/// How a block is rounded.
pub(crate) struct BlockRounding<'a> {
    pub(crate) recipe: &'a Recipe,
    /// AWQ's scales, for the methods that ask for them.
    pub(crate) published: &'a [Found],
    pub(crate) c: &'a Compute,
}

/// That of the input which was last looked at, and the name under which it is observed.
type LastFactor = Option<(String, Factor)>;

impl BlockRounding<'_> {
    /// Rounds the linear layers of `block`, and leaves there what they became: in their order, `None` for those that stay
    /// as they are. What was scaled for it is added to `scalings`.
    pub(crate) fn round(
        &self,
        spec: &BlockSpec,
        block: &mut FloatBlock,
        observations: &mut Observations,
        scalings: &mut Vec<Scaling>,
    ) -> Result<Vec<Option<Rounded>>> {
        if self.recipe.method == Method::Awq {
            for found in self.published {
                found.apply(block, observations);
                scalings.push(found.scaling.clone());
            }
        }
        let mut rounded: Vec<Option<Rounded>> = block.linears().iter().map(|_| None).collect();
        for stage in stages(spec, block) {
            let layers = match (self.recipe.method, &stage.fold) {
                (Method::Auto, Some(fold)) => {
                    self.scaled(fold, &stage.layers, block, observations, scalings)?
                }
                _ => self.layers(&stage.layers, block, observations, &mut None)?,
            };
            for (i, layer) in layers {
                block.linears_mut()[i].weight = layer.quantized.dequantize(&self.c.pool);
                rounded[i] = Some(layer);
            }
        }
        Ok(rounded)
    }

    /// Scales the input of `fold` as suits rounding that makes up for its errors, and rounds the `layers` that read it. Where
    /// AWQ would have lost less in one of them, they are rounded again with AWQ's scales, and so lose no more than there.
    fn scaled(
        &self,
        fold: &Fold,
        layers: &[usize],
        block: &mut FloatBlock,
        observations: &mut Observations,
        scalings: &mut Vec<Scaling>,
    ) -> Result<Vec<(usize, Rounded)>> {
        let name = &fold.readers[0];
        let factor = observations.of(name).map(|input| self.of_layers().factor(name, input)).transpose()?;
        let Some(mut factor) = factor.flatten() else {
            return self.layers(layers, block, observations, &mut None);
        };
        let readers = block.linears().into_iter().filter(|layer| fold.readers.contains(&layer.name));
        let readers: Vec<_> =
            readers.filter_map(|layer| Some((layer, self.recipe.format_of(layer)?))).collect();
        let own = compensated::search(fold, &readers, &factor, &self.c.pool);
        own.apply(block, observations);
        factor.scaled_by(&own.scales);
        let mut factor = Some((name.clone(), factor));
        let rounded = self.layers(layers, block, observations, &mut factor)?;

        let published = self.published.iter().find(|published| published.fold == *fold);
        let better = published.map(|published| published.after(&own));
        let better = match better {
            Some(published) if self.loses_to(&published.scales, &rounded, block, observations)? => published,
            _ => {
                scalings.push(own.scaling);
                return Ok(rounded);
            }
        };
        better.apply(block, observations);
        let mut factor = factor.filter(|(of, _)| of == name);
        if let Some((_, factor)) = &mut factor {
            factor.scaled_by(&better.scales);
        }
        scalings.push(better.scaling);
        self.layers(layers, block, observations, &mut factor)
    }

    /// Whether one of `rounded`, layers of `block` and their places there, lost more than rounding to nearest with columns
    /// multiplied by `scales` would have.
    fn loses_to(
        &self,
        scales: &[f32],
        rounded: &[(usize, Rounded)],
        block: &FloatBlock,
        observations: &Observations,
    ) -> Result<bool> {
        let (observed, linears) = (observed_names(block), block.linears());
        for (i, Rounded { quantized, error }) in rounded {
            let (Some(input), Some(error)) = (observations.of(&observed[*i]), error) else { continue };
            let nearest =
                self.of_layers().lost_to_nearest(linears[*i], quantized.format, &input.gram, scales)?;
            if nearest < error.lost {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rounds the layers of `block` at the places `layers`, those that have a format; leaves the factor that was used last in
    /// `factor`, and takes it from there where it fits.
    fn layers(
        &self,
        layers: &[usize],
        block: &FloatBlock,
        observations: &Observations,
        factor: &mut LastFactor,
    ) -> Result<Vec<(usize, Rounded)>> {
        let (observed, linears) = (observed_names(block), block.linears());
        let mut rounded = Vec::with_capacity(layers.len());
        for &i in layers {
            let layer = linears[i];
            let Some(format) = self.recipe.format_of(layer) else { continue };
            let input = observations.of(&observed[i]);
            let is_new = factor.as_ref().is_none_or(|(of, _)| *of != observed[i]);
            if let (Some(input), true) = (input, is_new) {
                let found = self.of_layers().factor(&observed[i], input)?;
                *factor = found.map(|factor| (observed[i].clone(), factor));
            }
            let factor = factor.as_ref().map(|(_, factor)| factor);
            rounded.push((i, self.of_layers().round(layer, format, input, factor)?));
        }
        Ok(rounded)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use sterna_formats::Checkpoint;
    use sterna_model::Layerwise;
    use sterna_model::layerwise::LayerwiseScratch;
    use sterna_tensor::Precision;

    use super::*;
    use crate::recipe::Grid;
    use crate::rounding::TokenWeight;

    /// Scales far from any power of what channels count, with which the readers of `fold` are on a grid of four bits.
    fn hide_a_grid(fold: &Fold, block: &mut FloatBlock) -> Vec<f32> {
        let mut scales = Vec::new();
        for layer in block.linears_mut().into_iter().filter(|layer| fold.readers.contains(&layer.name)) {
            scales = (0..layer.cols).map(|i| (1 + i * 7 % 5) as f32).collect();
            for (i, weight) in layer.weight.iter_mut().enumerate() {
                // Both ends of the grid are in every group.
                let code = if i % 32 < 2 { (i % 32) * 15 } else { i * i % 16 };
                *weight = (code as f32 - 7.0) / 64.0 / scales[i % layer.cols];
            }
        }
        scales
    }

    #[test]
    fn published_scales_are_taken_where_they_are_better() {
        let c = Compute::new(2, Precision::Float);
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints/llama_gqa");
        let network = Layerwise::open(&Checkpoint::open(&dir).unwrap()).unwrap();
        let spec = &network.spec().blocks[0];
        let grid = Grid::new(4, 32, false).unwrap();
        let recipe =
            Recipe { method: Method::Auto, body: grid, embedding: grid, head: grid, layers: BTreeMap::new() };
        let fold = folds(spec, &network.block(0).unwrap()).remove(0);
        let block_on_grid = || {
            let mut block = network.block(0).unwrap();
            let scales = hide_a_grid(&fold, &mut block);
            (block, scales)
        };
        let (_, scales) = block_on_grid();
        let scaling = Scaling { layer: "published".into(), power: 0.0, error_before: 0.0, error_after: 0.0 };
        let published = [Found { fold: fold.clone(), scaling, scales }];

        let errors = |published: &[Found]| {
            let (mut block, _) = block_on_grid();
            let runnable = network.runnable(0, &block).unwrap();
            let mut observations = Observations::new(TokenWeight::Plain);
            let cols: BTreeMap<_, _> =
                block.linears().iter().map(|layer| (layer.name.clone(), layer.cols)).collect();
            let mut stream = network.embed(&(0..96).collect::<Vec<u32>>()).unwrap();
            network.run(&c, &runnable, &mut LayerwiseScratch::default(), &mut stream, |layer, input| {
                observations.add(&c, layer, cols[layer], input, 0);
            });
            let rounding = BlockRounding { recipe: &recipe, published, c: &c };
            let mut scalings = Vec::new();
            let rounded = rounding.round(spec, &mut block, &mut observations, &mut scalings).unwrap();
            let errors: Vec<f64> = block
                .linears()
                .iter()
                .zip(rounded)
                .filter(|(layer, _)| fold.readers.contains(&layer.name))
                .map(|(_, rounded)| rounded.unwrap().error.unwrap().relative())
                .collect();
            (errors, scalings.iter().any(|scaling| scaling.layer == "published"))
        };
        let (own, _) = errors(&[]);
        let (better, taken) = errors(&published);
        assert!(own.len() == 3 && own.iter().all(|error| *error > 1e-4), "{own:?}");
        assert!(taken && better.iter().all(|error| *error < 1e-6), "{better:?}");
    }
}
