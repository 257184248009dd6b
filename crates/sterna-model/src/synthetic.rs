//! Networks of any shape with weights that nobody trained: what speed and memory are measured with where there is no
//! checkpoint. Nothing but `config.json` is read.

use std::path::Path;

use half::f16;
use sterna_formats::hf::ConfigFile;
use sterna_formats::{Checkpoint, Config, Tensor, TensorType};
use sterna_tensor::{
    Block, BlockSource, Bytes, Compute, DType, DenseMatrix, Matrix, PackedFormat, PackedMatrix, ShapeError,
};

use crate::arch;
use crate::arch::names::Names;
use crate::embedding::Embedding;
use crate::error::{ModelError, Result};
use crate::linear::Linear;
use crate::model::Model;
use crate::rope::Ropes;
use crate::spec::Spec;
use crate::weights::{self, BlockWeights, Leaves, LinearTensors, VectorForm};

/// The format of made-up weights of `bits` bits, a scale for every 32 of them; `None` for numbers of bits that there is none of.
/// With scales, 4 bits are 4.25.
pub fn format(bits: usize) -> Option<PackedFormat> {
    match bits {
        8 => PackedFormat::symmetric(8, 32),
        4..=6 => PackedFormat::symmetric(bits, 32)?.with_byte_scales(),
        2 | 3 => PackedFormat::affine(bits, 32)?.with_byte_scales(),
        _ => None,
    }
}

impl Spec {
    /// What the `config.json` `config` says about its network, of which there need not be more.
    ///
    /// # Errors
    /// Those of [`Spec::of`].
    pub fn of_config(config: ConfigFile) -> Result<Spec> {
        Spec::of(&without_tensors(config))
    }
}

impl Model {
    /// The network of the `config.json` `config` with made-up weights: those of linear layers in `format`, or ternary where the
    /// network is, and floats where rows are not whole blocks. It takes sequences of `context_length` tokens, whatever the file
    /// says: made-up weights were not trained for any length.
    ///
    /// # Errors
    /// Those of [`Spec::of`].
    pub fn synthetic(
        config: ConfigFile,
        format: PackedFormat,
        context_length: usize,
        compute: &Compute,
    ) -> Result<Model> {
        let checkpoint = without_tensors(config);
        let mut reading = arch::read(&checkpoint)?;
        // In native files no tensors are fused, and vectors are as they are computed with.
        reading.names = Names::Native;
        (reading.norms, reading.rates) = (VectorForm::Plain, VectorForm::Plain);
        reading.spec.context_length = context_length;
        let weights = weights::assemble(&checkpoint, &reading, &MadeUp { format, compute })?;
        let ropes = Ropes::new(&reading.spec);
        Ok(Model { ropes, spec: reading.spec, embedding: Some(Embedding::made_up()), weights })
    }
}

/// Bytes of the matrices of [`Model::synthetic`].
///
/// # Errors
/// Those of [`Spec::of`].
pub fn weight_bytes(config: ConfigFile, format: PackedFormat) -> Result<usize> {
    let checkpoint = without_tensors(config);
    let mut reading = arch::read(&checkpoint)?;
    reading.names = Names::Native;
    let weights = weights::assemble(&checkpoint, &reading, &Counted { format })?;
    let linears = weights.blocks.iter().flat_map(BlockWeights::linears).chain([&weights.head]);
    Ok(linears.fold(0, |sum, n_bytes| sum.saturating_add(*n_bytes)))
}

fn without_tensors(config: ConfigFile) -> Checkpoint {
    Checkpoint::of_parts(Path::new("config.json"), Config::Hf(config), Vec::new())
}

/// Leaves without a file.
struct MadeUp<'a> {
    format: PackedFormat,
    compute: &'a Compute,
}

impl MadeUp<'_> {
    fn matrix(&self, format: Option<PackedFormat>, rows: usize, cols: usize) -> Result<Matrix, ShapeError> {
        if let Some(format) = format {
            let noise = Noise { format, scale: format.stored_scale(scale(format, cols)) };
            return Ok(PackedMatrix::pack(format, rows, cols, &noise, &self.compute.pool)?.into());
        }
        let mut values = vec![0.0; rows * cols];
        fill(rows as u64, &mut values);
        let scale = (cols as f32).sqrt().recip();
        values.iter_mut().for_each(|value| *value *= scale);
        Ok(DenseMatrix::from_f32(rows, cols, values)?.into())
    }
}

impl Leaves for MadeUp<'_> {
    type Linear = Linear;
    type Vector = Vec<f32>;

    fn linear(&self, tensors: LinearTensors) -> Result<Linear> {
        let LinearTensors { weight, rows, cols, .. } = &tensors;
        let rounds_per_token = tensors.rounds_per_token;
        let format = stored_as(self.format, &tensors);
        let matrix = self.matrix(format, *rows, *cols).map_err(|error| ModelError::TensorValue {
            file: weight.file.to_string().into(),
            tensor: weight.name.clone(),
            expected: "a matrix".to_owned(),
            found: error.to_string(),
        })?;
        let bias = tensors.bias.is_some().then(|| vec![0.0; *rows]);
        Ok(Linear { name: weight.name.clone(), matrix, scale: 1.0, bias, rounds_per_token })
    }

    /// Rates below zero, norms that change nothing, and small numbers.
    fn vector(&self, tensor: &Tensor, _: VectorForm) -> Result<Vec<f32>> {
        let value = match tensor.name.as_str() {
            name if name.ends_with("ssm_a") => -1.0,
            name if name.contains("norm") => 1.0,
            _ => 0.1,
        };
        Ok(vec![value; tensor.n_elements()])
    }

    fn find(&self, _: &Checkpoint, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(made_up(name, shape))
    }
}

/// Any tensor that is asked for, without its data, which is not looked at.
fn made_up(name: &str, shape: &[usize]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        ty: TensorType::Dense(DType::F16),
        data: Bytes::new(),
        file: "config.json".into(),
        quantized: None,
    }
}

/// What a layer is held in where others are in `format`; nothing if its rows are not whole blocks.
fn stored_as(format: PackedFormat, tensors: &LinearTensors) -> Option<PackedFormat> {
    match tensors.ternary {
        Some(_) => PackedFormat::ternary(tensors.cols),
        None => Some(format).filter(|format| tensors.cols.is_multiple_of(format.block_len())),
    }
}

/// Leaves that are only counted, in bytes.
struct Counted {
    format: PackedFormat,
}

impl Leaves for Counted {
    type Linear = usize;
    type Vector = ();

    fn linear(&self, tensors: LinearTensors) -> Result<usize> {
        let packed = stored_as(self.format, &tensors).and_then(|it| it.n_bytes(tensors.rows, tensors.cols));
        let LinearTensors { rows, cols, .. } = tensors;
        Ok(packed.unwrap_or(rows.saturating_mul(cols).saturating_mul(size_of::<f32>())))
    }

    fn vector(&self, _: &Tensor, _: VectorForm) -> Result<()> {
        Ok(())
    }

    fn find(&self, _: &Checkpoint, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(made_up(name, shape))
    }
}

/// Codes without rhyme or reason.
struct Noise {
    format: PackedFormat,
    scale: f16,
}

impl BlockSource for Noise {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let largest = self.format.largest_code();
        let mut random = Random((row as u64) << 32 | block as u64);
        for codes in out.codes[..self.format.block_len()].chunks_mut(8) {
            let bytes = random.next().to_le_bytes();
            codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = byte & largest);
        }
        // Two bits may be ternary, whose codes end at 2.
        if self.format.zero() == 1 {
            out.codes.iter_mut().for_each(|code| *code = (*code).min(2));
        }
        out.d = self.scale;
        out.zero = largest / 2;
    }
}

/// What keeps the outputs of a layer of `cols` inputs as large as its inputs: codes are spread evenly.
fn scale(format: PackedFormat, cols: usize) -> f32 {
    let spread = f32::from(format.largest_code()) / 12f32.sqrt();
    1.0 / (spread * (cols as f32).sqrt())
}

/// Numbers between -1 and 1 that depend on `seed` alone.
pub(crate) fn fill(seed: u64, out: &mut [f32]) {
    let mut random = Random(seed);
    out.iter_mut().for_each(|out| *out = (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0);
}

/// The generator SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
