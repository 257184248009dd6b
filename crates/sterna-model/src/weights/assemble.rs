//! From tensors to weights: a spec is walked once, every tensor found by name and its shape checked, and handed to
//! [`Leaves`], which decide what a matrix and a vector become: nothing at all (to check a checkpoint before anything is
//! allocated), packed matrices (to compute fast), or plain f32 (for the oracle).

mod feed_forward;
mod mixers;
mod unused;

use sterna_formats::{Checkpoint, GgmlType, RowOrder, Tensor, TensorType};

use super::{BlockWeights, VectorForm, Weights};
use crate::arch::Reading;
use crate::arch::names::{Names, Role};
use crate::error::{ModelError, Result};
use crate::spec::{BlockSpec, FeedForwardSpec, MixerSpec, NormPlacement, Projections, Spec, TernaryStorage};

pub(crate) use unused::check;

/// What tensors become.
pub(crate) trait Leaves {
    /// A matrix with what belongs to it.
    type Linear;
    /// A vector of floats.
    type Vector;

    /// Makes a linear layer of checked tensors.
    fn linear(&self, tensors: LinearTensors) -> Result<Self::Linear>;

    /// Makes a vector of a checked tensor.
    fn vector(&self, tensor: &Tensor, form: VectorForm) -> Result<Self::Vector>;

    /// The tensor `name`.
    ///
    /// # Errors
    /// When there is none, or it has another shape.
    fn find(&self, checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<Tensor> {
        find(checkpoint, name, shape)
    }
}

/// A linear layer as the file has it. Shapes agree.
#[derive(Debug, Clone)]
pub(crate) struct LinearTensors {
    /// `[rows, cols]`, or `[rows / 4, cols]` bytes for packed ternary weights.
    pub(crate) weight: Tensor,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Which stored row is which, of weight and bias.
    pub(crate) order: RowOrder,
    /// `[rows]`.
    pub(crate) bias: Option<Tensor>,
    /// `[1]`: a factor on the product, or for [`TernaryStorage::PackedDivide`] a divisor.
    pub(crate) scale: Option<Tensor>,
    /// Ternary weights that no block or float says.
    pub(crate) ternary: Option<TernaryStorage>,
    /// Weights are ternary in one form or another, and inputs are rounded to 8 bits with one scale for each token.
    pub(crate) rounds_per_token: bool,
}

/// The weights of `reading.spec` in `checkpoint`, made into `leaves`.
pub(crate) fn assemble<L: Leaves>(
    checkpoint: &Checkpoint,
    reading: &Reading,
    leaves: &L,
) -> Result<Weights<L::Linear, L::Vector>> {
    let spec = &reading.spec;
    let finder = Finder { checkpoint, reading, leaves, block: 0 };
    // While a matrix is packed it is in memory twice, so the largest goes first.
    let head = finder.head()?;
    let blocks = spec.blocks.iter().enumerate().map(|(block, spec)| Finder { block, ..finder }.block(spec));
    let blocks = blocks.collect::<Result<_>>()?;
    Ok(Weights { blocks, final_norm: finder.norm(Role::FinalNorm, spec.hidden_size)?, head })
}

/// The embedding of `spec`, `[vocab_size, hidden_size]`.
pub(crate) fn embedding(checkpoint: &Checkpoint, reading: &Reading) -> Result<Tensor> {
    let name = reading.names.of(Role::Embedding, 0);
    let shape = [reading.spec.vocab_size, reading.spec.hidden_size];
    find(checkpoint, &name, &shape)
}

fn find(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<Tensor> {
    let tensor = checkpoint.get(name).ok_or_else(|| ModelError::MissingTensor {
        file: checkpoint.path().to_path_buf(),
        tensor: name.to_owned(),
        expected: shape.to_vec(),
    })?;
    if tensor.shape != shape {
        return Err(ModelError::TensorShape {
            file: tensor.file.to_string().into(),
            tensor: name.to_owned(),
            expected: shape.to_vec(),
            found: tensor.shape.clone(),
        });
    }
    Ok(tensor.clone())
}

/// Finds the tensors of one block.
struct Finder<'a, L> {
    checkpoint: &'a Checkpoint,
    reading: &'a Reading,
    leaves: &'a L,
    block: usize,
}

impl<L> Clone for Finder<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Finder<'_, L> {}

type Linear<L> = <L as Leaves>::Linear;
type Vector<L> = <L as Leaves>::Vector;

impl<'a, L: Leaves> Finder<'a, L> {
    fn spec(&self) -> &Spec {
        &self.reading.spec
    }

    fn block(&self, spec: &BlockSpec) -> Result<BlockWeights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        let has_feed_forward = spec.feed_forward != FeedForwardSpec::None;
        let is_sandwich = spec.norms == NormPlacement::Sandwich;
        Ok(BlockWeights {
            mixer_norm: self.norm_if(spec.mixer != MixerSpec::None, Role::MixerNorm, hidden_size)?,
            mixer: self.mixer(&spec.mixer)?,
            mixer_post_norm: self.norm_if(is_sandwich, Role::MixerPostNorm, hidden_size)?,
            feed_forward_norm: self.norm_if(has_feed_forward, Role::FeedForwardNorm, hidden_size)?,
            feed_forward: self.feed_forward(&spec.feed_forward)?,
            feed_forward_post_norm: self.norm_if(
                is_sandwich && has_feed_forward,
                Role::FeedForwardPostNorm,
                hidden_size,
            )?,
        })
    }

    fn head(&self) -> Result<Linear<L>> {
        let role = if self.spec().tied_embeddings { Role::Embedding } else { Role::Head };
        self.float(self.name(role), self.spec().vocab_size, self.spec().hidden_size)
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.leaves.find(self.checkpoint, name, shape)
    }

    /// Whether the checkpoint has a tensor for `role`, and not one that native files call so.
    fn has(&self, role: Role) -> bool {
        self.reading.names.has(role) && self.checkpoint.get(&self.name(role)).is_some()
    }

    fn name(&self, role: Role) -> String {
        let name = self.reading.names.of(role, self.block);
        match &self.reading.spec.blocks[self.block].mixer {
            MixerSpec::Shared(spec) => {
                let name = name.replace("{mamba}", "mamba_decoder.");
                let name = name.replace("{owner}", &spec.owner.to_string());
                name.replace("{use}", &self.n_shared_before().to_string())
            }
            _ => name.replace("{mamba}", ""),
        }
    }

    /// Blocks before this one that have a transformer that is shared.
    fn n_shared_before(&self) -> usize {
        let blocks = &self.spec().blocks[..self.block];
        blocks.iter().filter(|block| matches!(block.mixer, MixerSpec::Shared(_))).count()
    }

    fn norm(&self, role: Role, len: usize) -> Result<Vector<L>> {
        self.vector(role, len, self.reading.norms)
    }

    fn norm_if(&self, is_there: bool, role: Role, len: usize) -> Result<Option<Vector<L>>> {
        if is_there { self.norm(role, len).map(Some) } else { Ok(None) }
    }

    /// As many numbers as `len`; some files give vectors more dimensions than one.
    fn vector(&self, role: Role, len: usize, form: VectorForm) -> Result<Vector<L>> {
        let name = self.name(role);
        let found = self.checkpoint.get(&name).filter(|tensor| tensor.shape.iter().product::<usize>() == len);
        let tensor = match found {
            Some(tensor) => Tensor { shape: vec![len], ..tensor.clone() },
            None => self.find(&name, &[len])?,
        };
        self.leaves.vector(&tensor, form)
    }

    fn vector_if(&self, is_there: bool, role: Role, len: usize) -> Result<Option<Vector<L>>> {
        if is_there { self.vector(role, len, VectorForm::Plain).map(Some) } else { Ok(None) }
    }

    /// The taps of a convolution, `[kernel, channels]`; only native files have them like that.
    fn taps(&self, role: Role, channels: usize, kernel: usize) -> Result<Vector<L>> {
        self.matrix_as_vector(role, channels, kernel, self.transposed(channels))
    }

    /// A matrix that becomes a vector. Files other than native ones may give it dimensions of 1 besides.
    fn matrix_as_vector(&self, role: Role, rows: usize, cols: usize, form: VectorForm) -> Result<Vector<L>> {
        let name = self.name(role);
        let squeezed = |shape: &[usize]| shape.iter().copied().filter(|len| *len != 1).collect::<Vec<_>>();
        match (&self.reading.names, self.checkpoint.get(&name)) {
            (Names::Native, _) | (_, None) => {}
            (_, Some(tensor)) if squeezed(&tensor.shape) == squeezed(&[rows, cols]) => {}
            _ => {
                self.find(&name, &[rows, cols])?;
            }
        }
        self.vector(role, rows * cols, form)
    }

    /// How other files than native ones have vectors that are matrices of so many rows.
    fn transposed(&self, rows: usize) -> VectorForm {
        match self.reading.names {
            Names::Native => VectorForm::Plain,
            _ => VectorForm::Transposed { rows },
        }
    }

    fn linear(&self, role: Role, rows: usize, cols: usize, has_bias: bool) -> Result<Linear<L>> {
        self.leaves.linear(self.projection(role, rows, cols, has_bias)?)
    }

    /// A matrix that is never ternary: head and routers.
    fn float(&self, name: String, rows: usize, cols: usize) -> Result<Linear<L>> {
        // GGUF files have a matrix of one row as a vector.
        let found = self.checkpoint.get(&name).filter(|tensor| rows == 1 && tensor.shape == [cols]);
        let weight = match found {
            Some(vector) => Tensor { shape: vec![1, cols], ..vector.clone() },
            None => self.find(&name, &[rows, cols])?,
        };
        self.leaves.linear(LinearTensors {
            weight,
            rows,
            cols,
            order: RowOrder::AsStored,
            bias: None,
            scale: None,
            ternary: None,
            rounds_per_token: false,
        })
    }

    fn projection(&self, role: Role, rows: usize, cols: usize, has_bias: bool) -> Result<LinearTensors> {
        let name = self.name(role);
        let bias = if has_bias { Some(self.find(&bias_of(&name), &[rows])?) } else { None };
        Ok(self.stored(self.weight(&name, rows, cols)?, rows, cols, bias, self.scale(&name)?))
    }

    /// Matrices that read the same input and that a file may hold as the rows of one tensor `fused`, `rows` in all:
    /// it does if there is no tensor for `first`.
    fn parts(
        &self,
        first: Role,
        fused: Role,
        rows: usize,
        cols: usize,
        has_bias: bool,
    ) -> Result<Parts<'a, L>> {
        let fused_name = self.name(fused);
        let has = |name: &str| self.checkpoint.get(name).is_some();
        let is_fused = !self.reading.names.has(first) || (!has(&self.name(first)) && has(&fused_name));
        let fused = if is_fused { Some(self.projection(fused, rows, cols, has_bias)?) } else { None };
        if fused.as_ref().is_some_and(|fused| fused.ternary.is_some()) {
            return Err(ModelError::TensorValue {
                file: self.checkpoint.path().to_path_buf(),
                tensor: fused_name,
                expected: "one tensor for each ternary projection".to_owned(),
                found: "several in one".to_owned(),
            });
        }
        Ok(Parts { finder: *self, fused, next_row: 0, cols, has_bias })
    }

    /// The weight `name`, packed where ternary weights are.
    fn weight(&self, name: &str, rows: usize, cols: usize) -> Result<Tensor> {
        let rows = match self.spec().projections {
            Projections::Ternary {
                storage: TernaryStorage::PackedMultiply | TernaryStorage::PackedDivide,
            } => rows.div_ceil(4),
            _ => rows,
        };
        self.find(name, &[rows, cols])
    }

    /// The scalar that belongs to the weight `name`, if there is one.
    fn scale(&self, name: &str) -> Result<Option<Tensor>> {
        match self.spec().projections {
            Projections::Ternary { storage: TernaryStorage::Online } => Ok(None),
            // GGUF files of ternary models may have one, and native files.
            Projections::Stored | Projections::Ternary { storage: TernaryStorage::ByType } => {
                match scale_of(name) {
                    name if self.checkpoint.get(&name).is_some() => self.find(&name, &[1]).map(Some),
                    _ => Ok(None),
                }
            }
            Projections::Ternary { .. } => self.find(&format!("{name}_scale"), &[1]).map(Some),
        }
    }

    fn stored(
        &self,
        weight: Tensor,
        rows: usize,
        cols: usize,
        bias: Option<Tensor>,
        scale: Option<Tensor>,
    ) -> LinearTensors {
        let (ternary, rounds_per_token) = match (self.spec().projections, weight.ty) {
            (Projections::Stored, _) => (None, false),
            (Projections::Ternary { storage: TernaryStorage::ByType }, ty) => match ty {
                TensorType::I2S => (Some(TernaryStorage::ByType), true),
                TensorType::Ternary(_) | TensorType::Ggml(GgmlType::TQ1_0 | GgmlType::TQ2_0) => (None, true),
                _ => (None, false),
            },
            (Projections::Ternary { storage }, _) => (Some(storage), true),
        };
        let order = RowOrder::AsStored;
        LinearTensors { weight, rows, cols, order, bias, scale, ternary, rounds_per_token }
    }
}

/// Hands out matrices one after the other, from tensors of their own or from the rows of a fused one.
struct Parts<'a, L> {
    finder: Finder<'a, L>,
    fused: Option<LinearTensors>,
    /// First row of the fused tensor that nobody has taken.
    next_row: usize,
    cols: usize,
    has_bias: bool,
}

impl<L: Leaves> Parts<'_, L> {
    fn take(&mut self, role: Role, rows: usize) -> Result<LinearTensors> {
        let Some(fused) = &self.fused else {
            return self.finder.projection(role, rows, self.cols, self.has_bias);
        };
        let range = self.next_row..self.next_row + rows;
        self.next_row = range.end;
        let bias = fused.bias.as_ref().map(|bias| bias.rows(range.clone())).transpose()?;
        Ok(LinearTensors { weight: fused.weight.rows(range)?, rows, bias, ..fused.clone() })
    }
}

/// The name of the bias that belongs to `weight`.
pub(crate) fn bias_of(weight: &str) -> String {
    format!("{}bias", weight.strip_suffix("weight").unwrap_or(weight))
}

/// The name of the factor that belongs to `weight` in GGUF and native files.
pub(crate) fn scale_of(weight: &str) -> String {
    format!("{}scale", weight.strip_suffix("weight").unwrap_or(weight))
}

/// The value of a tensor of shape `[1]`.
pub(crate) fn single(tensor: &Tensor) -> Result<f32> {
    Ok(super::finite(tensor)?.first().copied().unwrap_or(1.0))
}
