//! Numbers for Sterna: float and packed weight matrices, the kernels that multiply them on each CPU's vector
//! instructions, and the thread pool they run on. This crate knows no model and no file.
//!
//! A linear layer is [`Matrix`] (weights) times [`Activations`] (inputs, quantized once and shared), done by
//! [`linear`] for several matrices in one parallel region. [`Isa`] says which instructions are used, and
//! `docs/kernels.md` in the repository explains the layout.

mod activation;
mod compute;
mod dense;
mod dtype;
mod family;
mod fetch;
mod isa;
mod kv;
pub mod limits;
mod linear;
mod matrix;
pub mod ops;
mod packed;
mod pool;
mod processor;
mod shape;
mod simd;
mod slab;
mod tuning;

pub use activation::Activations;
pub use bytes::Bytes;
pub use compute::{Compute, Precision};
pub use dense::{DenseMatrix, OutputTile};
pub use dtype::DType;
pub use family::KernelFamily;
pub use fetch::Fetch;
pub use isa::{Isa, IsaError};
pub use kv::{KvPage, KvType, KvView};
pub use linear::linear;
pub use matrix::Matrix;
pub use packed::{Block, BlockSource, GroupedCodes, PackedFormat, PackedMatrix, UnknownFormat, UnpackedRows};
pub use pool::{Disjoint, Pool};
pub use processor::{NEVER, Processor};
pub use shape::ShapeError;
pub use simd::Vectorized;
pub use tuning::{CODE_BITS, KernelChoice, Tuning};
