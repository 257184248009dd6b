//! Whether a GGUF file will say of the network what the checkpoint says: it is read back before anything is written.
//!
//! GGUF metadata cannot express everything, and what a family's files leave out is what its reader assumes. Comparing
//! the two descriptions finds whatever is lost, without a list of what could be.

use std::path::Path;

use bytes::Bytes;
use sterna_formats::gguf::Metadata;
use sterna_formats::{Checkpoint, Config, Tensor};
use sterna_tensor::DType;

use super::plan::{Part, Planned};
use crate::error::{ModelError, Result};
use crate::native;
use crate::rope::{Regime, RopeSpec};
use crate::spec::{BlockSpec, MixerSpec, Spec};

/// What frequencies may differ by: the files hold their parameters in single precision.
const MAX_RELATIVE_DIFFERENCE: f32 = 1e-6;

/// Compares `spec`, that of a checkpoint, with what a GGUF file of `metadata` and `tensors` at `path` would say.
///
/// # Errors
/// Those of reading the file's description, and the first part of `spec` that would be lost.
pub(super) fn says_the_same(path: &Path, spec: &Spec, metadata: Metadata, tensors: &[Planned]) -> Result<()> {
    let tensors = tensors.iter().map(|tensor| sketch(tensor, metadata.file())).collect::<Result<_>>()?;
    let read = Spec::of(&Checkpoint::of_parts(path, Config::Gguf(metadata), tensors))?;
    for ((field, expected), (_, found)) in whole(spec).into_iter().zip(whole(&read)) {
        if expected != found {
            return Err(lost(path, field.to_owned(), expected, found));
        }
    }
    for (index, (expected, found)) in spec.blocks.iter().zip(&read.blocks).enumerate() {
        let (mut expected, mut found) = (expected.clone(), found.clone());
        let (rope, rope_found) = (take_rope(&mut expected), take_rope(&mut found));
        if expected != found {
            return Err(lost(path, format!("block {index}"), format!("{expected:?}"), format!("{found:?}")));
        }
        if !rotate_alike(rope.as_ref(), rope_found.as_ref()) {
            let (expected, found) = (format!("{rope:?}"), format!("{rope_found:?}"));
            return Err(lost(path, format!("rotary parameters of block {index}"), expected, found));
        }
    }
    Ok(())
}

/// What a reader of the description looks at: names and shapes, and of divisors of frequencies the values.
fn sketch(Planned { info, parts }: &Planned, file: &str) -> Result<Tensor> {
    let divisors = match parts.as_slice() {
        [Part::Values(values)] => Some(values.clone()),
        [Part::Canonical { tensor, .. }] if native::ROPE_TENSORS.contains(&&*info.name) => {
            Some(tensor.load()?)
        }
        _ => None,
    };
    let data = divisors.map_or_else(Bytes::new, |divisors| DType::F32.narrow(&divisors).into());
    let (name, shape, file) = (info.name.clone(), info.shape.clone(), file.into());
    Ok(Tensor { name, shape, ty: info.ty, data, file, quantized: None })
}

/// What is said of the network as a whole.
fn whole(spec: &Spec) -> [(&'static str, String); 9] {
    [
        ("vocabulary size", spec.vocab_size.to_string()),
        ("hidden size", spec.hidden_size.to_string()),
        ("context length", spec.context_length.to_string()),
        ("norm epsilon", spec.norm_eps.to_string()),
        ("embedding scale", spec.embedding_scale.to_string()),
        ("logit scale and soft cap", format!("{}, {:?}", spec.logit_scale, spec.logit_softcap)),
        ("tied embeddings", spec.tied_embeddings.to_string()),
        ("projections", format!("{:?}", spec.projections)),
        ("number of blocks", spec.blocks.len().to_string()),
    ]
}

/// Takes the rotation out of a block, which is compared by what it does.
fn take_rope(block: &mut BlockSpec) -> Option<RopeSpec> {
    match &mut block.mixer {
        MixerSpec::Attention(attention) => attention.rope.take(),
        MixerSpec::Parallel(spec) => spec.attention.rope.take(),
        _ => None,
    }
}

fn rotate_alike(a: Option<&RopeSpec>, b: Option<&RopeSpec>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a.is_none() && b.is_none() };
    let is_near = |a: f32, b: f32| (a - b).abs() <= MAX_RELATIVE_DIFFERENCE * a.abs();
    let turn_alike = |regime| {
        let (a, b) = (a.frequencies(regime), b.frequencies(regime));
        a.len() == b.len() && a.into_iter().zip(b).all(|(a, b)| is_near(a, b))
    };
    turn_alike(Regime::Short)
        && turn_alike(Regime::Long)
        && is_near(a.attention_factor(), b.attention_factor())
        && a.border() == b.border()
}

fn lost(path: &Path, field: String, expected: String, found: String) -> ModelError {
    let found = format!("{found}, which is what GGUF metadata of this family would say");
    ModelError::field(path, field, expected, found)
}
