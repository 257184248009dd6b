//! LAMBADA: the last word of a passage that only the whole passage gives away (Paperno et al., 2016).
//!
//! An item is `{"text": …}`. The word after the last space is right when each of its tokens is the likeliest one, given
//! all before; its perplexity is that of the word as a whole.

use serde::Deserialize;

use super::continuation::continuation;
use super::jsonl::object;
use super::{Metric, MetricKind, Subject};
use crate::eval::progress::step;
use crate::eval::{Progress, Result};

/// A passage, cut before the space in front of its last word.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    context: String,
    /// With the space.
    word: String,
}

impl Item {
    pub(super) fn parse(line: &str) -> Result<Item, String> {
        #[derive(Deserialize)]
        struct Line {
            text: String,
        }
        let Line { text } = object(line)?;
        let text = text.trim_end();
        let space = text.rfind(' ').filter(|at| !text[..*at].trim().is_empty());
        let space = space.ok_or("\"text\": expected several words")?;
        Ok(Item { context: text[..space].to_owned(), word: text[space..].to_owned() })
    }
}

pub(super) fn run(
    items: &[Item],
    subject: &mut Subject<'_>,
    progress: &mut dyn Progress,
) -> Result<Vec<Metric>> {
    let (mut right, mut nlls) = (Vec::new(), Vec::new());
    for (i, item) in items.iter().enumerate() {
        step(progress, i, items.len())?;
        let word = continuation(subject, &item.context, &item.word)?;
        right.push(word.is_greedy);
        nlls.push(word.nll);
    }
    step(progress, items.len(), items.len())?;
    let perplexity = Metric { name: "perplexity", kind: MetricKind::NegativeLogLikelihood, values: nlls };
    Ok(vec![Metric::share("accuracy", &right), perplexity])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_takes_its_space() {
        let item = Item::parse(r#"{"text": "I don't care about signs\n"}"#).unwrap();
        assert_eq!((item.context.as_str(), item.word.as_str()), ("I don't care about", " signs"));
        for bad in [r#"{"text": "one"}"#, r#"{"text": " one"}"#, r#"{"text": 1}"#, "{}", "[]"] {
            assert!(Item::parse(bad).is_err(), "{bad}");
        }
    }
}
