//! Shapes of networks that are worth measuring where their checkpoints are not at hand: `config.json` files, written from what
//! their authors published, each with a note of its origin.

use std::path::Path;
use std::time::Instant;

use sterna_formats::hf::ConfigFile;
use sterna_model::{Model, Spec};
use sterna_tensor::PackedFormat;

pub use sterna_model::synthetic::format as weight_format;

use crate::{EngineOptions, Error, Network, Size};

/// Names of the shapes that come with this library, and their configurations.
pub const SHAPES: [(&str, &str); 7] = [
    ("qwen2.5-3b", include_str!("qwen2.5-3b.json")),
    ("phi-4-mini", include_str!("phi-4-mini.json")),
    ("bitnet-3b", include_str!("bitnet-3b.json")),
    ("bamba-3b", include_str!("bamba-3b.json")),
    ("bamba-9b", include_str!("bamba-9b.json")),
    ("nemotron-h-8b", include_str!("nemotron-h-8b.json")),
    ("jamba-mini", include_str!("jamba-mini.json")),
];

/// A network that is only a shape.
#[derive(Debug, Clone)]
pub struct Shape {
    config: ConfigFile,
    context: usize,
}

impl Shape {
    /// The shape of that name, or that of the `config.json` at that path. It takes sequences of `context` tokens, whatever the
    /// file says: made-up weights were not trained for any length.
    ///
    /// # Errors
    /// A file that cannot be read or is no object.
    pub fn new(name: &str, context: usize) -> Result<Shape, Error> {
        let known = SHAPES.iter().find(|(known, _)| *known == name);
        let path = Path::new(name);
        let config = match known {
            Some((_, text)) => ConfigFile::parse(path, text.as_bytes())?,
            None => ConfigFile::open(path)?,
        };
        Ok(Shape { config, context })
    }

    /// The network.
    ///
    /// # Errors
    /// A configuration that no network can have, or of an unsupported architecture.
    pub fn spec(&self) -> Result<Spec, Error> {
        Ok(Spec { context_length: self.context, ..Spec::of_config(self.config.clone())? })
    }
}

impl Shape {
    /// Bytes of its matrices in `format`.
    ///
    /// # Errors
    /// As [`Shape::spec`].
    pub fn weight_bytes(&self, format: PackedFormat) -> Result<usize, Error> {
        Ok(sterna_model::synthetic::weight_bytes(self.config.clone(), format)?)
    }
}

impl Network {
    /// A network of this shape with made-up weights in `format`.
    ///
    /// # Errors
    /// As [`Shape::spec`].
    pub fn synthetic(shape: &Shape, format: PackedFormat, options: &EngineOptions) -> Result<Network, Error> {
        let start = Instant::now();
        let compute = options.compute()?;
        let model = Model::synthetic(shape.config.clone(), format, shape.context, &compute)?;
        let size = model.matrices().fold(Size::default(), |size, (_, matrix)| {
            let n_params = (matrix.rows() * matrix.cols()) as u64;
            size.plus(Size { n_params, n_bytes: matrix.n_bytes() as u64 })
        });
        let context = model.spec().context_length;
        let load_time = start.elapsed();
        Ok(Network { model: model.into(), compute: compute.into(), context, kv: options.kv, size, load_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_as_large_as_their_names_say() -> Result<(), Error> {
        let blocks = [36, 32, 26, 28, 32, 52, 32];
        for ((name, _), n_blocks) in SHAPES.into_iter().zip(blocks) {
            let spec = Shape::new(name, 1 << 18)?.spec()?;
            assert_eq!(spec.blocks.len(), n_blocks, "{name}");
            assert_eq!(spec.context_length, 1 << 18);
        }
        assert!(Shape::new("no-such-shape", 100).is_err());
        Ok(())
    }
}
