//! A session computes no token twice that it need not: in the next turn, for another answer, after an edit.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{expected, open};
use sterna_formats::Tokenizer;
use sterna_model::generate::{Completion, Request, Session, SessionOptions};
use sterna_model::sampling::{Sampler, SamplingOptions};
use sterna_model::{LoadOptions, Model};
use sterna_tensor::{Compute, Precision};

/// Attention, a recurrence with attention, and both side by side.
const NETWORKS: [&str; 4] = ["llama_gqa", "bamba", "falcon_h1", "qwen3_next"];

struct Chat {
    session: Session,
    tokenizer: Tokenizer,
}

impl Chat {
    fn new(name: &str) -> Chat {
        let compute = Arc::new(Compute::new(2, Precision::Float));
        let model =
            Arc::new(Model::load(&open(name, "config.json"), &LoadOptions::default(), &compute).unwrap());
        let digits =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/digits.json");
        Chat {
            session: Session::new(&model, &compute, SessionOptions::with_context(200)),
            tokenizer: Tokenizer::from_file(&digits).unwrap(),
        }
    }

    fn answer(&mut self, prompt: &[u32]) -> Completion {
        let mut sampler = Sampler::new(SamplingOptions::greedy()).unwrap();
        let cancel = AtomicBool::new(false);
        let request = Request { prompt, max_tokens: Some(6), stop: &[], cancel: &cancel };
        self.session.generate(&self.tokenizer, &mut sampler, request, |_| {}).unwrap()
    }
}

#[test]
fn what_was_computed_is_not_computed_again() {
    for name in NETWORKS {
        let ids = expected(name).input_ids;
        let mut chat = Chat::new(name);
        let first = chat.answer(&ids[..16]);
        assert_eq!(first.cached_tokens, 0);

        let again = chat.answer(&ids[..16]);
        assert_eq!(again.cached_tokens, 15, "{name}: another answer computes one token");
        assert_eq!(again.tokens, first.tokens);

        // All tokens that were answered but the last are in the state.
        let held = chat.session.tokens().to_vec();
        let next: Vec<u32> = held.iter().chain(&ids[16..30]).copied().collect();
        let second = chat.answer(&next);
        assert_eq!(second.cached_tokens, held.len(), "{name}: the next turn computes what is new");
        assert_eq!(second.tokens, Chat::new(name).answer(&next).tokens, "{name}");

        let edited: Vec<u32> = held.iter().chain(&ids[30..40]).copied().collect();
        let third = chat.answer(&edited);
        assert_eq!(third.cached_tokens, held.len(), "{name}: an edited turn computes what is new");
        assert_eq!(third.tokens, Chat::new(name).answer(&edited).tokens, "{name}");
    }
}
