//! Architectures: one table row for each family, which turns a checkpoint's configuration into a [`Spec`] and knows
//! what is peculiar about the family's files.
//!
//! To add a family, add a row to `table.rs`. If it needs a mixer that is not there yet, that is a variant of
//! `MixerSpec` and a file in `mixer/`; the loop over blocks stays as it is.

mod experts;
pub(crate) mod fields;
pub(crate) mod hf_config;
pub(crate) mod names;
mod parts;
mod recurrent;
mod rope;
mod scales;
mod table;
pub(crate) mod to_gguf;

use sterna_formats::{Checkpoint, GgmlType, Tensor, TensorType};

use self::fields::{Defaults, Fields, Key, Kind, Source, identify, keys};
use self::names::{Exceptions, Names, Role};
use self::parts::{AttentionRule, DenseRule, MAX_LAYERS, MAX_WIDTH};
use self::recurrent::{Mamba1Rule, Mamba2Rule};
use self::scales::Scales;
use self::table::TABLE;
use crate::error::{ModelError, Result};
use crate::spec::{
    AttentionSpec, BlockSpec, FeedForwardSpec, MixerSpec, NormPlacement, Projections, Spec, TernaryStorage,
};
use crate::weights::VectorForm;

/// A family of networks.
pub struct Architecture {
    /// The name of the row.
    pub name: &'static str,
    /// Values of `model_type` in `config.json`.
    pub hf: &'static [&'static str],
    /// Values of `general.architecture` in GGUF files.
    pub gguf: &'static [&'static str],
    /// What GGUF files call the family, for a network with experts and for one without.
    gguf_name: GgufName,
    /// The class in the `transformers` library; empty where there is none.
    hf_class: &'static str,
    /// What its `config.json` says beyond what all say.
    hf_fields: fn(&Spec, &AttentionSpec) -> hf_config::Config,
    /// Activations leave the range of f16, so that it is not to be computed in.
    pub(crate) exceeds_f16: bool,
    defaults: Defaults,
    /// Tensors with names of their own in Hugging Face files.
    hf_names: Exceptions,
    /// Tensors with names of their own in GGUF files.
    gguf_names: Exceptions,
    /// The head is the embedding, when `config.json` does not say.
    tied_by_default: bool,
    /// Norm weights in Hugging Face files are stored less one. (GGUF converters add it.)
    pub(crate) norms_less_one: bool,
    /// Query and key rows in GGUF files are permuted for an interleaved rotation.
    permuted_in_gguf: bool,
    /// Where constant factors of the network are in GGUF files.
    factors_in_gguf: FactorsInGguf,
    /// GGUF files have query, key and value projections in one tensor, and gate and up projections in another; and they
    /// say it where there is no window (llama.cpp would guess).
    phi3_in_gguf: bool,
    /// Hugging Face files have query, key and value projections in one tensor, and gate and up in another.
    pub(crate) fused_in_hf: bool,
    /// Trained with ternary weights, and inputs rounded per token.
    is_ternary: bool,
    /// Epsilon of the norms.
    norm_eps: Key,
    /// Constant factors of the whole network.
    scales: fn(&Fields, usize) -> Result<Scales>,
    /// Settings of the family that change the network in a way that is not done here: flag, supported value.
    refused_flags: &'static [&'static str],
    attention: AttentionRule,
    mamba1: Mamba1Rule,
    mamba2: Mamba2Rule,
    /// The mixer of a block, by the rules above.
    mixer: fn(&Fields, usize, &Architecture) -> Result<MixerSpec>,
    dense: DenseRule,
    /// The feed-forward network of a block; dense ones by `dense`.
    feed_forward: fn(&Fields, usize, &DenseRule) -> Result<FeedForwardSpec>,
    norms: NormPlacement,
}

/// What GGUF files call a family.
enum GgufName {
    /// There is no such file.
    None,
    /// Always the same.
    Always(&'static str),
    /// Something else where there are experts.
    ByExperts { without: &'static str, with: &'static str },
}

/// Where the constant factors of a network are in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FactorsInGguf {
    /// Who reads the family knows them.
    Known,
    /// In the metadata, under Granite's names.
    Said,
    /// Weights are multiplied by them.
    InWeights,
}

/// A checkpoint's network, and how to find its tensors.
pub(crate) struct Reading {
    pub(crate) spec: Spec,
    pub(crate) names: Names,
    /// How norm weights are stored.
    pub(crate) norms: VectorForm,
    /// How the rates of recurrences are stored.
    pub(crate) rates: VectorForm,
    /// Query and key rows come permuted.
    pub(crate) permuted_qk: bool,
    /// The file has blocks behind those of the network, which guess further tokens.
    pub(crate) has_guessing_blocks: bool,
    /// What the checkpoint would be in a GGUF file.
    pub(crate) gguf: GgufForm,
}

/// How the GGUF files of a family are.
#[derive(Debug, Clone)]
pub(crate) struct GgufForm {
    /// `general.architecture`; none where there are no such files.
    pub(crate) architecture: Option<&'static str>,
    pub(crate) names: Names,
    pub(crate) factors: FactorsInGguf,
    /// Query and key rows are permuted for an interleaved rotation.
    pub(crate) permuted_qk: bool,
    /// Query, key and value are one tensor, and so are gate and up; no window is a window of 0.
    pub(crate) is_phi3: bool,
}

/// The architectures there are.
pub fn supported() -> &'static [Architecture] {
    TABLE
}

impl Spec {
    /// What `checkpoint` says about its network.
    ///
    /// # Errors
    /// [`ModelError::NotSupported`] for a family without a table row; [`ModelError::Field`] for a configuration that
    /// no network can have.
    pub fn of(checkpoint: &Checkpoint) -> Result<Spec> {
        read(checkpoint).map(|reading| reading.spec)
    }
}

/// Reads the configuration of `checkpoint` by the row of its family.
pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Reading> {
    let (kind, found, source) = identify(checkpoint)?;
    let is_it = |row: &&Architecture| match kind {
        Kind::Hf => row.hf.contains(&found.as_str()),
        Kind::Gguf => row.gguf.contains(&found.as_str()),
    };
    let row = TABLE.iter().find(is_it).ok_or_else(|| {
        let names: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
        ModelError::NotSupported {
            file: checkpoint.path().to_path_buf(),
            found: found.chars().take(60).collect(),
            supported: names.join(", "),
        }
    })?;
    let fields = Fields { source, checkpoint, defaults: row.defaults };
    row.read(&fields, kind)
}

impl Architecture {
    /// The names of tensors in Hugging Face files of language models alone.
    pub(crate) fn hf_names(&self) -> Names {
        Names::hf(self.hf_names, |_| true)
    }

    /// The names of tensors in the file that `fields` come from.
    fn names_in(&self, fields: &Fields) -> Names {
        match &fields.source {
            _ if fields.is_native() => Names::Native,
            Source::Gguf(..) => Names::Gguf { exceptions: self.gguf_names },
            Source::Hf(_) => Names::hf(self.hf_names, |name| fields.has_tensor(name)),
        }
    }

    fn read(&self, fields: &Fields, kind: Kind) -> Result<Reading> {
        for flag in self.refused_flags {
            if fields.flag(flag, false)? {
                return Err(ModelError::field(fields.file(), *flag, "false", "true"));
            }
        }
        let is_native = fields.is_native();
        let spec = self.spec(fields, kind)?;
        Ok(Reading {
            names: self.names_in(fields),
            norms: match self.norms_less_one && kind == Kind::Hf && !is_native {
                true => VectorForm::LessOne,
                false => VectorForm::Plain,
            },
            rates: match kind == Kind::Hf && !is_native {
                true => VectorForm::LogOfNegative,
                false => VectorForm::Negative,
            },
            permuted_qk: self.permuted_in_gguf && kind == Kind::Gguf && !is_native,
            has_guessing_blocks: fields.opt_usize(N_GUESSING)?.is_some_and(|n| n > 0),
            gguf: GgufForm {
                architecture: self.gguf_name.of(&spec),
                names: Names::Gguf { exceptions: self.gguf_names },
                factors: self.factors_in_gguf,
                permuted_qk: self.permuted_in_gguf,
                is_phi3: self.phi3_in_gguf,
            },
            spec,
        })
    }

    fn spec(&self, fields: &Fields, kind: Kind) -> Result<Spec> {
        let n_layers = n_layers(fields)?;
        let hidden_size = fields.size(keys::HIDDEN_SIZE, MAX_WIDTH)?;
        let norm_eps = fields.norm_eps(self.norm_eps)?;
        let scales = (self.scales)(fields, hidden_size)?;
        Ok(Spec {
            architecture: self.name,
            vocab_size: vocab_size(fields)?,
            hidden_size,
            context_length: fields.size(keys::CONTEXT_LENGTH, 1 << 30)?,
            norm_eps,
            embedding_scale: scales.embedding,
            logit_scale: scales.logits,
            logit_softcap: fields.opt_factor(keys::LOGIT_SOFTCAP)?.map(|cap| cap as f32),
            tied_embeddings: match kind {
                _ if fields.is_native() => !fields.has_tensor("output.weight"),
                Kind::Gguf => !fields.has_tensor("output.weight"),
                Kind::Hf => self.ties(fields)? && !self.has_own_head(fields),
            },
            projections: match kind {
                Kind::Hf if !fields.is_native() => projections(fields)?,
                _ => self.projections_by_type(fields.checkpoint),
            },
            blocks: (0..n_layers)
                .map(|block| self.block(fields, block, scales.residual))
                .collect::<Result<_>>()?,
        })
    }

    /// Whether the configuration has the embedding as the head.
    fn ties(&self, fields: &Fields) -> Result<bool> {
        let usual = fields.flag("tie_word_embeddings", self.tied_by_default)?;
        // The first files of LFM2 call it so.
        fields.flag("tie_embedding", usual)
    }

    /// Where a file has embedding and head, and they differ, the reference ties nothing, whatever the configuration says.
    fn has_own_head(&self, fields: &Fields) -> bool {
        let names = self.names_in(fields);
        let tensor = |role| fields.checkpoint.get(&names.of(role, 0));
        match (tensor(Role::Embedding), tensor(Role::Head)) {
            (Some(embedding), Some(head)) => embedding.ty != head.ty || embedding.data != head.data,
            _ => false,
        }
    }

    /// What the types of tensors say in GGUF and native files. I2_S asks for rounded inputs whatever the family, as in
    /// bitnet.cpp, which has given it to Llamas too.
    fn projections_by_type(&self, checkpoint: &Checkpoint) -> Projections {
        let is_ternary = |tensor: &Tensor| match tensor.ty {
            TensorType::I2S | TensorType::Ternary(_) => true,
            TensorType::Ggml(GgmlType::TQ1_0 | GgmlType::TQ2_0) => self.is_ternary,
            _ => false,
        };
        match checkpoint.tensors().any(is_ternary) {
            true => Projections::Ternary { storage: TernaryStorage::ByType },
            false => Projections::Stored,
        }
    }

    fn block(&self, fields: &Fields, block: usize, residual_scale: f32) -> Result<BlockSpec> {
        Ok(BlockSpec {
            mixer: (self.mixer)(fields, block, self)?,
            feed_forward: (self.feed_forward)(fields, block, &self.dense)?,
            norms: self.norms,
            residual_scale,
        })
    }
}

impl GgufName {
    fn of(&self, spec: &Spec) -> Option<&'static str> {
        let is_moe = |block: &BlockSpec| matches!(block.feed_forward, FeedForwardSpec::Moe(_));
        match *self {
            GgufName::None => None,
            GgufName::Always(name) => Some(name),
            GgufName::ByExperts { with, .. } if spec.blocks.iter().any(is_moe) => Some(with),
            GgufName::ByExperts { without, .. } => Some(without),
        }
    }
}

/// Blocks that guess further tokens.
const N_GUESSING: Key = Key { hf: "num_nextn_predict_layers", gguf: "nextn_predict_layers" };

/// Configurations that list the kinds of blocks may leave their number to the list (Nemotron-H in transformers 5). GGUF
/// files count blocks that guess further tokens, which are left out here.
fn n_layers(fields: &Fields) -> Result<usize> {
    if fields.hf().is_none() {
        let n_layers = fields.size(keys::N_LAYERS, MAX_LAYERS)?;
        let n_guessing = fields.opt_usize(N_GUESSING)?.unwrap_or(0);
        let left = n_layers.checked_sub(n_guessing).filter(|&left| left > 0);
        return left.ok_or_else(|| fields.wrong(N_GUESSING, format!("less than {n_layers}"), n_guessing));
    }
    let kinds = fields.hf().map_or(Ok(None), |view| view.opt_strs("layers_block_type"))?;
    match (fields.opt_size(keys::N_LAYERS, MAX_LAYERS)?, kinds) {
        (None, Some(kinds)) if (1..=MAX_LAYERS).contains(&kinds.len()) => Ok(kinds.len()),
        _ => fields.size(keys::N_LAYERS, MAX_LAYERS),
    }
}

/// GGUF files may leave the number of tokens to the shape of the embedding.
fn vocab_size(fields: &Fields) -> Result<usize> {
    let embedding = fields.checkpoint.get("token_embd.weight").filter(|_| fields.hf().is_none());
    match embedding.and_then(|tensor| tensor.shape.first().copied()) {
        Some(rows) if (1..=MAX_WIDTH).contains(&rows) => Ok(rows),
        _ => fields.size(keys::VOCAB_SIZE, MAX_WIDTH),
    }
}

/// What `quantization_config` says about the projections of Hugging Face files.
fn projections(fields: &Fields) -> Result<Projections> {
    let Some(view) = fields.hf() else { return Ok(Projections::Stored) };
    let Some(config) = view.opt_sub("quantization_config")? else { return Ok(Projections::Stored) };
    // Other methods are a matter of how tensors are stored, which sterna-formats has seen to.
    if config.opt_str("quant_method")? != Some("bitnet") {
        return Ok(Projections::Stored);
    }
    let is_auto = match config.opt_str("linear_class")? {
        None | Some("bitlinear") => false,
        Some("autobitlinear") => true,
        Some(_) => return Err(config.wrong("linear_class", "bitlinear or autobitlinear").into()),
    };
    let is_online = match config.opt_str("quantization_mode")? {
        None | Some("offline") => false,
        Some("online") => true,
        Some(_) => return Err(config.wrong("quantization_mode", "offline or online").into()),
    };
    if config.opt_bool("use_rms_norm")?.unwrap_or(false) {
        return Err(config.wrong("use_rms_norm", "false").into());
    }
    let storage = match (is_auto, is_online) {
        (true, true) => TernaryStorage::Online,
        (true, false) => TernaryStorage::PackedMultiply,
        (false, _) => TernaryStorage::PackedDivide,
    };
    Ok(Projections::Ternary { storage })
}
