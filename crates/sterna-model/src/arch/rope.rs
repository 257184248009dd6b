//! Reads rotary parameters in all the forms in which checkpoints give them.

use sterna_formats::hf::ConfigView;

use super::fields::{Fields, Key, Source, keys};
use crate::error::{ModelError, Result};
use crate::rope::{RopeScaling, RopeSpec, longrope_attention_factor, yarn_mscale};

/// Whether a layer sees all positions or a window of them: some families rotate the two kinds differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Full,
    Sliding,
}

pub(super) const THETA: Key = Key { hf: "rope_theta", gguf: "rope.freq_base" };
pub(super) const LOCAL_THETA: Key = Key { hf: "rope_local_base_freq", gguf: "rope.freq_base_swa" };
const PARTIAL: Key = Key { hf: "partial_rotary_factor", gguf: "" };
pub(super) const N_DIMS: Key = Key { hf: "", gguf: "rope.dimension_count" };
pub(super) const FACTOR: Key = Key { hf: "", gguf: "rope.scaling.factor" };
const OLD_FACTOR: Key = Key { hf: "", gguf: "rope.scale_linear" };
pub(super) const SCALING_TYPE: Key = Key { hf: "", gguf: "rope.scaling.type" };
pub(super) const ORIGINAL_CONTEXT: Key =
    Key { hf: "original_max_position_embeddings", gguf: "rope.scaling.original_context_length" };
pub(super) const ATTENTION_FACTOR: Key = Key { hf: "", gguf: "rope.scaling.attn_factor" };

/// What every family rotates by unless it says otherwise.
const DEFAULT_THETA: f64 = 10_000.0;

/// The rotation of layers of kind `span`. `has_local_theta`: sliding layers have a base of their own (Gemma 3).
pub(crate) fn rope(fields: &Fields, span: Span, has_local_theta: bool, head_dim: usize) -> Result<RopeSpec> {
    let is_local = has_local_theta && span == Span::Sliding;
    let spec = match &fields.source {
        Source::Hf(view) => hf_rope(fields, view, span, is_local, head_dim)?,
        Source::Gguf(..) => gguf_rope(fields, is_local, head_dim)?,
    };
    check(fields, &spec, head_dim)?;
    Ok(spec)
}

/// Transformers 4 wrote `rope_theta` and `rope_scaling`; 5 writes `rope_parameters`, one object or one per kind of
/// layer.
fn hf_rope(
    fields: &Fields,
    root: &ConfigView,
    span: Span,
    is_local: bool,
    head_dim: usize,
) -> Result<RopeSpec> {
    let kind = match span {
        Span::Full => "full_attention",
        Span::Sliding => "sliding_attention",
    };
    let parameters = match root.opt_sub("rope_parameters")? {
        Some(all) => Some(all.opt_sub(kind).ok().flatten().unwrap_or(all)),
        None if is_local => None,
        None => root.opt_sub("rope_scaling")?,
    };
    let theta = match parameters.as_ref().map_or(Ok(None), |view| view.opt_f64("rope_theta"))? {
        Some(theta) => theta,
        None => fields.opt_f64(if is_local { LOCAL_THETA } else { THETA })?.unwrap_or(DEFAULT_THETA),
    };
    let rotated = match parameters.as_ref().map_or(Ok(None), |view| view.opt_f64("partial_rotary_factor"))? {
        Some(part) => part,
        None => fields.opt_f64(PARTIAL)?.unwrap_or(1.0),
    };
    let n_dims = (head_dim as f64 * rotated) as usize;
    let scaling = parameters.map_or(Ok(RopeScaling::None), |view| hf_scaling(fields, root, &view))?;
    Ok(RopeSpec { theta, n_dims, scaling })
}

fn hf_scaling(fields: &Fields, root: &ConfigView, view: &ConfigView) -> Result<RopeScaling> {
    let name = if view.has("rope_type") { "rope_type" } else { "type" };
    let kind = view.opt_str(name)?.unwrap_or("default");
    let context = || -> Result<f64> { Ok(root.f64(keys::CONTEXT_LENGTH.hf)?) };
    // The field beside the parameters wins over the one among them, as in the reference.
    let original = || -> Result<f64> {
        match fields.opt_f64(ORIGINAL_CONTEXT)? {
            Some(original) => Ok(original),
            None => view.opt_f64(ORIGINAL_CONTEXT.hf)?.map_or_else(context, Ok),
        }
    };
    let factor_or_ratio = || -> Result<f64> {
        match view.opt_f64("factor")? {
            Some(factor) => Ok(factor),
            None => Ok(context()? / original()?),
        }
    };
    Ok(match kind {
        // Dynamic NTK changes the base only beyond `max_position_embeddings`, where our context ends.
        "default" | "dynamic" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: view.f64("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: view.f64("factor")?,
            low_freq_factor: view.f64("low_freq_factor")?,
            high_freq_factor: view.f64("high_freq_factor")?,
            original_context: original()?,
        },
        "yarn" => {
            let factor = factor_or_ratio()?;
            // Zero counts as absent in the three fields below, as in the reference.
            let given = |name| Ok::<_, ModelError>(view.opt_f64(name)?.filter(|value| *value != 0.0));
            let attention_factor =
                match (view.opt_f64("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
                    (Some(attention_factor), ..) => attention_factor,
                    (None, Some(mscale), Some(all)) => yarn_mscale(factor, mscale) / yarn_mscale(factor, all),
                    (None, ..) => yarn_mscale(factor, 1.0),
                };
            RopeScaling::Yarn {
                factor,
                beta_fast: given("beta_fast")?.unwrap_or(32.0),
                beta_slow: given("beta_slow")?.unwrap_or(1.0),
                original_context: original()?,
                truncate: view.opt_bool("truncate")?.unwrap_or(true),
                attention_factor,
            }
        }
        "longrope" | "su" => RopeScaling::LongRope {
            short: view.f32s("short_factor")?,
            long: view.f32s("long_factor")?,
            original_context: original()? as usize,
            attention_factor: match view.opt_f64("attention_factor")? {
                Some(attention_factor) => attention_factor,
                None => longrope_attention_factor(factor_or_ratio()?, original()?),
            },
        },
        _ => return Err(view.wrong(name, "default, dynamic, linear, llama3, yarn or longrope").into()),
    })
}

/// GGUF files say the simple scalings in metadata and the others as tensors of divisors.
fn gguf_rope(fields: &Fields, is_local: bool, head_dim: usize) -> Result<RopeSpec> {
    let n_dims = fields.opt_usize(N_DIMS)?.unwrap_or(head_dim);
    if is_local {
        let theta = fields.opt_f64(LOCAL_THETA)?.unwrap_or(DEFAULT_THETA);
        return Ok(RopeSpec { theta, n_dims, scaling: RopeScaling::None });
    }
    let theta = fields.opt_f64(THETA)?.unwrap_or(DEFAULT_THETA);
    Ok(RopeSpec { theta, n_dims, scaling: gguf_scaling(fields, n_dims)? })
}

fn gguf_scaling(fields: &Fields, n_dims: usize) -> Result<RopeScaling> {
    let original = || match fields.opt_size(ORIGINAL_CONTEXT, usize::MAX)? {
        Some(original) => Ok(original),
        None => fields.size(keys::CONTEXT_LENGTH, usize::MAX),
    };
    let attention_factor = fields.opt_positive(ATTENTION_FACTOR)?.unwrap_or(1.0);
    let long = divisors(fields, "rope_factors_long.weight", n_dims)?;
    let short = divisors(fields, "rope_factors_short.weight", n_dims)?;
    if let (Some(short), Some(long)) = (short, long) {
        return Ok(RopeScaling::LongRope { short, long, original_context: original()?, attention_factor });
    }
    if let Some(divisors) = divisors(fields, "rope_freqs.weight", n_dims)? {
        return Ok(RopeScaling::Divisors(divisors));
    }
    let factor = match fields.opt_positive(FACTOR)? {
        None => fields.opt_positive(OLD_FACTOR)?,
        factor => factor,
    };
    let kind = match &fields.source {
        Source::Gguf(metadata, _) => metadata.get::<&str>(&fields.name(SCALING_TYPE))?,
        Source::Hf(_) => None,
    };
    Ok(match (kind, factor) {
        (Some("none"), _) | (_, None) => RopeScaling::None,
        (Some("linear") | None, Some(factor)) => RopeScaling::Linear { factor },
        (Some("yarn"), Some(factor)) => RopeScaling::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: original()? as f64,
            truncate: true,
            attention_factor: attention_factor * yarn_mscale(factor, 1.0),
        },
        (Some(other), _) => return Err(fields.wrong(SCALING_TYPE, "none, linear or yarn", other)),
    })
}

/// The divisors in tensor `name`, one per pair, if it is there.
fn divisors(fields: &Fields, name: &str, n_dims: usize) -> Result<Option<Vec<f32>>> {
    let Some(tensor) = fields.checkpoint.get(name) else { return Ok(None) };
    if tensor.shape != [n_dims / 2] {
        return Err(ModelError::TensorShape {
            file: fields.file(),
            tensor: name.to_owned(),
            expected: vec![n_dims / 2],
            found: tensor.shape.clone(),
        });
    }
    Ok(Some(tensor.to_f32()?))
}

/// Refuses parameters from which no frequencies can be made.
fn check(fields: &Fields, spec: &RopeSpec, head_dim: usize) -> Result<()> {
    let wrong = |what: &str, expected: &str, found: String| {
        Err(ModelError::field(fields.file(), format!("rotary parameters: {what}"), expected, found))
    };
    if !(spec.theta > 1.0 && spec.theta.is_finite()) {
        return wrong("rope_theta", "a finite number above one", spec.theta.to_string());
    }
    if spec.n_dims < 2 || spec.n_dims > head_dim || !spec.n_dims.is_multiple_of(2) {
        let what = match &fields.source {
            Source::Hf(_) => PARTIAL.hf,
            Source::Gguf(..) => N_DIMS.gguf,
        };
        let expected = format!("an even number of the {head_dim} dimensions of a head, 2 at least");
        return wrong(what, &expected, spec.n_dims.to_string());
    }
    let n_pairs = spec.n_dims / 2;
    let is_positive = |value: f64| value > 0.0 && value.is_finite();
    let all_positive = |divisors: &[f32]| {
        divisors.len() == n_pairs && divisors.iter().all(|&divisor| is_positive(f64::from(divisor)))
    };
    let (is_sound, expected) = match &spec.scaling {
        RopeScaling::None => (true, ""),
        RopeScaling::Linear { factor } => (is_positive(*factor), "a factor above zero"),
        &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => (
            [factor, low_freq_factor, original_context].into_iter().all(is_positive)
                && is_positive(high_freq_factor - low_freq_factor),
            "factors above zero, low_freq_factor below high_freq_factor",
        ),
        &RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, attention_factor, .. } => (
            [factor, beta_fast, beta_slow, original_context, attention_factor].into_iter().all(is_positive),
            "factors above zero",
        ),
        RopeScaling::LongRope { short, long, original_context, attention_factor } => (
            all_positive(short)
                && all_positive(long)
                && *original_context > 1
                && is_positive(*attention_factor),
            "one short and one long factor above zero per rotating pair, a context and an attention factor",
        ),
        RopeScaling::Divisors(divisors) => {
            (all_positive(divisors), "one divisor above zero per rotating pair")
        }
    };
    if is_sound { Ok(()) } else { wrong("scaling", expected, format!("{:?}", spec.scaling)) }
}
