//! How a model likes to be sampled and which tokens end its answers: `generation_config.json`, or the like of it in
//! a GGUF file.

use super::ConfigView;
use crate::error::Result;
use crate::gguf::Metadata;

/// What a checkpoint recommends for generation; every field is optional in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end an answer (`eos_token_id`, one or many).
    pub eos_token_ids: Vec<u32>,
    /// Token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Whether to sample at all; greedy when `false`.
    pub do_sample: Option<bool>,
    /// Softmax temperature.
    pub temperature: Option<f32>,
    /// Keep the `top_k` likeliest tokens.
    pub top_k: Option<usize>,
    /// Keep the likeliest tokens up to this share of the probability.
    pub top_p: Option<f32>,
    /// Keep tokens at least this fraction as likely as the likeliest.
    pub min_p: Option<f32>,
    /// Penalty (> 1) on tokens that already occurred.
    pub repetition_penalty: Option<f32>,
}

impl GenerationConfig {
    /// Reads `view`, the root of a `generation_config.json`.
    pub fn from_hf(view: &ConfigView) -> Result<GenerationConfig> {
        Ok(GenerationConfig {
            eos_token_ids: view.opt_ids("eos_token_id")?.unwrap_or_default(),
            bos_token_id: view.opt_u32("bos_token_id")?,
            do_sample: view.opt_bool("do_sample")?,
            temperature: view.opt_f32("temperature")?,
            top_k: view.opt_usize("top_k")?,
            top_p: view.opt_f32("top_p")?,
            min_p: view.opt_f32("min_p")?,
            repetition_penalty: view.opt_f32("repetition_penalty")?,
        })
    }

    /// Takes the token ids that are not given from `config`, the root of a `config.json`, which older checkpoints
    /// have alone.
    pub fn or_ids_of(mut self, config: &ConfigView) -> Result<GenerationConfig> {
        if self.eos_token_ids.is_empty() {
            self.eos_token_ids = config.opt_ids("eos_token_id")?.unwrap_or_default();
        }
        if self.bos_token_id.is_none() {
            self.bos_token_id = config.opt_u32("bos_token_id")?;
        }
        Ok(self)
    }

    /// Reads the metadata of a GGUF file: token ids of the tokenizer, and `general.sampling.*`.
    pub fn from_gguf(metadata: &Metadata) -> Result<GenerationConfig> {
        let ends = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
        let mut eos_token_ids = Vec::new();
        for id in ends.map(|key| metadata.get::<u32>(key)) {
            eos_token_ids.extend(id?.filter(|id| !eos_token_ids.contains(id)));
        }
        Ok(GenerationConfig {
            eos_token_ids,
            bos_token_id: metadata.get::<u32>("tokenizer.ggml.bos_token_id")?,
            do_sample: None,
            temperature: metadata.get::<f32>("general.sampling.temp")?,
            top_k: metadata.get::<usize>("general.sampling.top_k")?,
            top_p: metadata.get::<f32>("general.sampling.top_p")?,
            min_p: metadata.get::<f32>("general.sampling.min_p")?,
            repetition_penalty: metadata.get::<f32>("general.sampling.penalty_repeat")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ConfigFile;
    use super::*;

    fn read(text: &str) -> Result<GenerationConfig> {
        let file = ConfigFile::parse(Path::new("generation_config.json"), text.as_bytes())?;
        GenerationConfig::from_hf(&file.view())
    }

    #[test]
    fn end_tokens_are_one_or_many() {
        assert_eq!(read(r#"{"eos_token_id": 2}"#).unwrap().eos_token_ids, [2]);
        assert_eq!(read(r#"{"eos_token_id": [1, 106]}"#).unwrap().eos_token_ids, [1, 106]);
        assert_eq!(read("{}").unwrap(), GenerationConfig::default());
        assert!(read(r#"{"eos_token_id": "</s>"}"#).unwrap_err().to_string().contains("eos_token_id"));
        assert!(read(r#"{"eos_token_id": -1}"#).is_err());
    }

    #[test]
    fn sampling_defaults_are_read() {
        let config = read(r#"{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8}"#).unwrap();
        assert_eq!((config.do_sample, config.temperature), (Some(true), Some(0.7)));
        assert_eq!((config.top_k, config.top_p, config.min_p), (Some(20), Some(0.8), None));
    }
}
