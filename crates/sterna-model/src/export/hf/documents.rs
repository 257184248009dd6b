//! The files beside the tensors: the origin's own, where it came from such a folder, and made from its metadata where it
//! was a GGUF file.

use serde_json::{Map, Value, json};
use sterna_formats::gguf::Metadata;
use sterna_formats::hf::{ConfigView, json as hf_json};
use sterna_formats::native::{Document, Documents};
use sterna_formats::{Checkpoint, Config, Tokenizer};
use sterna_tensor::DType;

use crate::arch::{Reading, hf_config};
use crate::error::{ModelError, Result};

const CONFIG: &str = "config.json";

/// Fields that say how the origin's weights were stored.
const QUANTIZATION: [&str; 3] = ["quantization_config", "quantization", "compression_config"];

/// The documents of a folder that is to be computed with in `dtype`, and whose matrices are as `quantization`, a field
/// of `config.json`, says.
pub(super) fn documents(
    checkpoint: &Checkpoint,
    reading: &Reading,
    dtype: DType,
    quantization: Option<(&str, Value)>,
) -> Result<Vec<Document>> {
    match checkpoint.config() {
        Config::Hf(config) => from_folder(checkpoint, &config.view(), reading, dtype, quantization),
        Config::Gguf(metadata) => from_gguf(checkpoint, metadata, reading, dtype, quantization),
    }
}

/// All files as they are, but for what `config.json` says about the weights. Of a model of several parts only the
/// language model is exported, which has a configuration of its own.
fn from_folder(
    checkpoint: &Checkpoint,
    view: &ConfigView,
    reading: &Reading,
    dtype: DType,
    quantization: Option<(&str, Value)>,
) -> Result<Vec<Document>> {
    let mut documents = Documents::of(checkpoint)?.list;
    let is_part = view.has("text_config");
    documents.retain(|document| !(is_part && document.name == "preprocessor_config.json"));
    for document in documents.iter_mut().filter(|document| document.name == CONFIG) {
        let mut config = match is_part {
            true => language_model(checkpoint, reading)?,
            false => parse(checkpoint, &document.bytes)?,
        };
        let field = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        let is_right = config.get(field).and_then(Value::as_str) == Some(dtype_name(dtype));
        if is_right && quantization.is_none() && !QUANTIZATION.iter().any(|field| config.contains_key(*field))
        {
            break;
        }
        QUANTIZATION.iter().for_each(|field| drop(config.shift_remove(*field)));
        config.insert(field.to_owned(), json!(dtype_name(dtype)));
        config.extend(quantization.clone().map(|(field, value)| (field.to_owned(), value)));
        document.bytes = pretty(config).into();
    }
    Ok(documents)
}

fn parse(checkpoint: &Checkpoint, bytes: &[u8]) -> Result<Map<String, Value>> {
    let invalid = |error: String| ModelError::field(checkpoint.path(), CONFIG, "a JSON object", error);
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    match hf_json::parse(text).map_err(|error| invalid(error.to_string()))? {
        Value::Object(config) => Ok(config),
        other => Err(invalid(other.to_string())),
    }
}

/// The configuration of the language model in a larger one.
fn language_model(checkpoint: &Checkpoint, reading: &Reading) -> Result<Map<String, Value>> {
    let mut config = hf_config::hf_config(checkpoint, reading)?;
    let generation = checkpoint.generation_config()?;
    config.insert("bos_token_id".to_owned(), json!(generation.bos_token_id));
    config.insert("eos_token_id".to_owned(), json!(generation.eos_token_ids));
    Ok(config)
}

fn from_gguf(
    checkpoint: &Checkpoint,
    metadata: &Metadata,
    reading: &Reading,
    dtype: DType,
    quantization: Option<(&str, Value)>,
) -> Result<Vec<Document>> {
    let mut config = hf_config::hf_config(checkpoint, reading)?;
    config.insert("torch_dtype".to_owned(), json!(dtype_name(dtype)));
    config.extend(quantization.map(|(field, value)| (field.to_owned(), value)));
    // Said even where there is none: some classes have a default that is beyond the vocabulary.
    config.extend(["bos_token_id", "eos_token_id", "pad_token_id"].map(|id| (id.to_owned(), Value::Null)));
    let document = |name: &str, bytes: Vec<u8>| Document { name: name.to_owned(), bytes: bytes.into() };
    // A file of weights alone is a model too.
    if matches!(metadata.get::<&str>("tokenizer.ggml.model")?, None | Some("no_vocab")) {
        return Ok(vec![document(CONFIG, pretty(config))]);
    }
    let tokenizer = Tokenizer::from_gguf(metadata)?;
    let padding = metadata.get::<u32>("tokenizer.ggml.padding_token_id")?;
    config.insert("bos_token_id".to_owned(), json!(tokenizer.bos()));
    config.insert("eos_token_id".to_owned(), json!(tokenizer.eos()));
    config.insert("pad_token_id".to_owned(), json!(padding));
    let generation = generation_config(checkpoint, &tokenizer, padding)?;
    let of_tokenizer = tokenizer_config(checkpoint, &tokenizer, padding, reading.spec.context_length)?;
    Ok(vec![
        document(CONFIG, pretty(config)),
        document("generation_config.json", pretty(generation)),
        document("tokenizer.json", tokenizer.to_json()?.into_bytes()),
        document("tokenizer_config.json", pretty(of_tokenizer)),
    ])
}

/// `generation_config.json`: how the model likes to be sampled, and the tokens that end an answer.
fn generation_config(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    padding: Option<u32>,
) -> Result<Map<String, Value>> {
    let said = checkpoint.generation_config()?;
    let samples = said.temperature.is_some() || said.top_k.is_some() || said.top_p.is_some();
    let decimal = |value: Option<f32>| value.and_then(|value| value.to_string().parse::<f64>().ok());
    let fields = [
        ("bos_token_id", json!(tokenizer.bos())),
        ("eos_token_id", json!(tokenizer.ends())),
        ("pad_token_id", json!(padding)),
        ("do_sample", json!(samples.then_some(true))),
        ("temperature", json!(decimal(said.temperature))),
        ("top_k", json!(said.top_k)),
        ("top_p", json!(decimal(said.top_p))),
        ("min_p", json!(decimal(said.min_p))),
        ("repetition_penalty", json!(decimal(said.repetition_penalty))),
    ];
    Ok(present(fields))
}

/// `tokenizer_config.json`: special tokens, chat template.
fn tokenizer_config(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    padding: Option<u32>,
    context: usize,
) -> Result<Map<String, Value>> {
    let text = |id: Option<u32>| {
        let bytes = id.and_then(|id| tokenizer.token_bytes(id));
        json!(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let framed = tokenizer.encode_with_bos("")?;
    let adds = |id: Option<u32>| json!(id.is_some_and(|id| framed.contains(&id)));
    let fields = [
        ("tokenizer_class", json!("PreTrainedTokenizerFast")),
        ("add_bos_token", adds(tokenizer.bos())),
        ("add_eos_token", adds(tokenizer.eos())),
        ("bos_token", text(tokenizer.bos())),
        ("eos_token", text(tokenizer.eos())),
        ("pad_token", text(padding)),
        ("clean_up_tokenization_spaces", json!(false)),
        ("model_max_length", json!(context)),
        ("chat_template", json!(checkpoint.chat_template()?)),
    ];
    Ok(present(fields))
}

/// The fields that are not null.
fn present<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// As `transformers` calls it.
fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
    }
}

fn pretty(object: Map<String, Value>) -> Vec<u8> {
    format!("{:#}\n", Value::Object(object)).into_bytes()
}
