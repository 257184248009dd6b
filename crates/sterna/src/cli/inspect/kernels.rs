//! Which kernel would multiply with a tensor on this machine, found by packing a few of its rows.

use sterna::spec::{Projections, TernaryStorage};
use sterna::{Compute, GgmlType, Isa, Matrix, Precision, RowOrder, Spec, Tensor, TensorType};
use sterna_tensor::PackedFormat;

/// As many rows as one tile of the packed layout has.
const SAMPLE_ROWS: usize = 16;

/// How a tensor is used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Use {
    /// The kernel, or what is done instead of a multiplication.
    pub(super) kernel: String,
    /// Why that one.
    pub(super) why: &'static str,
    /// Whether there are several that give the same results.
    pub(super) is_choice: bool,
    /// Bytes in memory for each byte in the file.
    growth: f64,
}

impl Use {
    /// Bytes in memory of a tensor of `size_bytes` in the file.
    pub(super) fn memory_bytes(&self, size_bytes: u64) -> u64 {
        (size_bytes as f64 * self.growth) as u64
    }

    fn plain(kernel: &str, why: &'static str) -> Use {
        Use { kernel: kernel.to_owned(), why, is_choice: false, growth: 1.0 }
    }
}

/// How `tensor` would be used.
pub(super) fn of(tensor: &Tensor, spec: &Spec, compute: &Compute) -> Use {
    if is_vector(tensor) {
        return Use::plain("none", "norms and biases are added and multiplied as f32");
    }
    if is_embedding(tensor) && !spec.tied_embeddings {
        return Use::plain("row look-up", "an embedding of its own is never multiplied");
    }
    let rounds_per_token = is_ternary(tensor, spec);
    if rounds_per_token && !matches!(tensor.ty, TensorType::Ggml(_) | TensorType::Ternary(_)) {
        let why = "weights are -1, 0 or 1 times a scale: packed in 2 bits at load, inputs rounded per token";
        return Use {
            kernel: ternary_kernel(tensor, compute),
            why,
            is_choice: has_choice(compute),
            growth: ternary_growth(tensor),
        };
    }
    match sample(tensor, compute) {
        Some(matrix) => Use {
            kernel: matrix.kernel(compute),
            is_choice: matches!(matrix, Matrix::Packed(_)) && has_choice(compute),
            why: match rounds_per_token {
                true => "weights are -1, 0 or 1 times scales as stored, in tiles; inputs rounded per token",
                false => why(tensor, &matrix, compute),
            },
            growth: growth(tensor, &matrix),
        },
        None => Use::plain("none", "not a type of weights"),
    }
}

/// Whether there is more than one kernel for packed weights.
fn has_choice(compute: &Compute) -> bool {
    compute.precision == Precision::Int8 && Isa::available().len() > 1
}

fn is_vector(tensor: &Tensor) -> bool {
    tensor.shape.len() < 2
}

pub(super) fn is_embedding(tensor: &Tensor) -> bool {
    matches!(tensor.name.as_str(), "token_embd.weight" | "model.embed_tokens.weight")
}

/// Whether a tensor is one of the matrices whose weights are -1, 0 or 1 and whose inputs are rounded per token.
fn is_ternary(tensor: &Tensor, spec: &Spec) -> bool {
    match (spec.projections, tensor.ty) {
        (Projections::Stored, _) => false,
        (Projections::Ternary { storage: TernaryStorage::ByType }, ty) => {
            let of_blocks = matches!(ty, TensorType::Ggml(GgmlType::TQ1_0 | GgmlType::TQ2_0));
            of_blocks || matches!(ty, TensorType::I2S | TensorType::Ternary(_))
        }
        (Projections::Ternary { .. }, _) => tensor.name.ends_with("_proj.weight"),
    }
}

/// What multiplies with ternary weights, which are packed where rows are whole blocks.
fn ternary_kernel(tensor: &Tensor, compute: &Compute) -> String {
    let format = tensor.shape.last().and_then(|cols| PackedFormat::ternary(*cols));
    format.map_or_else(|| format!("F32 dot, {}", compute.isa), |format| compute.kernel(format))
}

/// The first rows as they would be held in memory.
fn sample(tensor: &Tensor, compute: &Compute) -> Option<Matrix> {
    let matrix = if tensor.shape.len() > 2 { tensor.at(0).ok()? } else { tensor.clone() };
    let n_rows = matrix.shape.first()?.min(&SAMPLE_ROWS);
    matrix.rows(0..*n_rows).ok()?.matrix(RowOrder::AsStored, &compute.pool).ok()
}

fn why(tensor: &Tensor, matrix: &Matrix, compute: &Compute) -> &'static str {
    match (matrix, tensor.ty, compute.precision) {
        (Matrix::Packed(_), TensorType::Packed(_), Precision::Int8) => {
            "multiplied where they are mapped; inputs are rounded to int8 in groups of 32"
        }
        (Matrix::Packed(_), _, Precision::Int8) => {
            "codes and scales as stored, in tiles; inputs are rounded to int8 in groups of 32"
        }
        (Matrix::Packed(_), _, Precision::Float) => {
            "codes and scales as stored, in tiles; inputs stay f32 as asked"
        }
        (Matrix::Dense(_), TensorType::Dense(_), _) => "floats are multiplied where they are mapped",
        (Matrix::Dense(_), _, _) => "this type has no packed form and is expanded to floats, exactly",
    }
}

fn growth(tensor: &Tensor, matrix: &Matrix) -> f64 {
    let n_elements = matrix.rows() * matrix.cols();
    let stored = n_elements as f64 * bits_per_weight(tensor) / 8.0;
    if stored > 0.0 { matrix.n_bytes() as f64 / stored } else { 1.0 }
}

fn ternary_growth(tensor: &Tensor) -> f64 {
    // Stored packed, four weights to a byte, or as floats.
    match tensor.ty {
        TensorType::Dense(_) => 2.0 / bits_per_weight(tensor),
        _ => 1.0,
    }
}

fn bits_per_weight(tensor: &Tensor) -> f64 {
    8.0 * tensor.n_bytes() as f64 / tensor.n_elements().max(1) as f64
}
