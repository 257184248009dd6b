//! `--calib self`: text that the model writes about nothing in particular, for lack of other text. (Williams, Chrysostomou
//! and Aletras, "Self-calibration for Language Model Quantization and Pruning", arXiv:2410.17170.)

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sterna::{Engine, EngineOptions, Request, Sampler, SamplingOptions};

use crate::cli::progress::StepBar;

/// A first token each, where the model knows no beginning of text: the codes of capital letters in most vocabularies.
const FIRST_TEXTS: [&str; 8] = ["The", "In", "A", "1", "import", "How", "When", "#"];

/// `most` tokens in sequences of `length`, or as many as the model writes before it ends each; `None` when interrupted.
/// The same for the same model, whatever the number of threads.
pub(super) fn sequences(
    path: &Path,
    length: usize,
    most: usize,
    n_threads: usize,
    cancel: &AtomicBool,
) -> anyhow::Result<Option<Vec<Vec<u32>>>> {
    let options = EngineOptions { threads: n_threads, ..EngineOptions::default() };
    let engine = Engine::load(path, &options)?;
    let length = length.min(engine.network().context);
    let mut bar = StepBar::new("writing calibration text", 0, most);
    let (mut sequences, mut n_tokens) = (Vec::new(), 0);
    while n_tokens < most {
        let seed = sequences.len() as u64;
        let first = FIRST_TEXTS[sequences.len() % FIRST_TEXTS.len()];
        let mut sequence = engine.text_prompt(first)?;
        let sampling = SamplingOptions {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed,
            ..SamplingOptions::default()
        };
        let max_tokens = Some(length.saturating_sub(sequence.len()));
        let request = Request { prompt: &sequence, max_tokens, stop: &[], cancel };
        let completion =
            engine.session().generate(engine.tokenizer(), &mut Sampler::new(sampling)?, request, |_| {})?;
        if cancel.load(Ordering::SeqCst) {
            return Ok(None);
        }
        sequence.extend(completion.tokens);
        n_tokens += sequence.len();
        bar.set(n_tokens.min(most));
        sequences.push(sequence);
    }
    Ok(Some(sequences))
}
