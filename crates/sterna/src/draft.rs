//! A draft model beside a model: loaded for the same threads, and checked to speak the same tokens.

use std::path::Path;
use std::sync::Arc;

use sterna_formats::{Checkpoint, Tokenizer};
use sterna_model::generate::DraftModel;
use sterna_model::{LoadOptions, Model};

use crate::{Error, Network};

/// Opens the checkpoint at `path` as a draft model for `network`, whose tokenizer is `tokenizer`.
pub(crate) fn load(path: &Path, network: &Network, tokenizer: &Tokenizer) -> Result<DraftModel, Error> {
    let checkpoint = Checkpoint::open(path)?;
    let own = Tokenizer::from_checkpoint(&checkpoint)?;
    if let Some(why) = difference(tokenizer, &own) {
        return Err(Error::OtherTokenizer { draft: path.to_owned(), why });
    }
    let options = LoadOptions { context_length: Some(network.context) };
    let model = Model::load(&checkpoint, &options, &network.compute)?;
    Ok(DraftModel::new(Arc::new(model), &network.model)?)
}

/// Where two tokenizers differ in what their ids mean.
fn difference(model: &Tokenizer, draft: &Tokenizer) -> Option<String> {
    let (expected, found) = (model.vocab_size(), draft.vocab_size());
    if found != expected {
        return Some(format!("expected {expected} tokens, found {found}"));
    }
    let other = (0..expected as u32).find(|id| model.token_bytes(*id) != draft.token_bytes(*id))?;
    let spelled = |tokenizer: &Tokenizer| {
        tokenizer
            .token_bytes(other)
            .map_or("nothing".into(), |bytes| format!("{:?}", String::from_utf8_lossy(&bytes)))
    };
    Some(format!("token {other} is expected to be {}, found {}", spelled(model), spelled(draft)))
}
