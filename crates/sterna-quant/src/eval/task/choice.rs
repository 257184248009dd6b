//! Multiple choice: the answer that the model finds likeliest.
//!
//! An item is `{"question": …, "choices": [ … ], "answer": 0}` or has `"context"` in place of `"question"`. A question
//! becomes `Question: …\nAnswer:`; a context stands as it is, and a choice continues it. `answer` counts from 0. `accuracy`
//! takes the largest likelihood; `accuracy, normalized` divides its logarithm by the bytes of the choice first, as lm-eval
//! does, so that long answers are not at a disadvantage.

use serde::Deserialize;

use super::continuation::continuation;
use super::jsonl::object;
use super::{Metric, Subject};
use crate::eval::progress::step;
use crate::eval::{Progress, Result};

/// A prompt and how it may go on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    prompt: String,
    /// Each with a space or another gap at its start.
    choices: Vec<String>,
    answer: usize,
}

impl Item {
    pub(super) fn parse(line: &str) -> Result<Item, String> {
        #[derive(Deserialize)]
        struct Line {
            question: Option<String>,
            context: Option<String>,
            choices: Vec<String>,
            answer: usize,
        }
        let Line { question, context, choices, answer } = object(line)?;
        let prompt = match (question, context) {
            (Some(question), None) => format!("Question: {question}\nAnswer:"),
            (None, Some(context)) => context.trim_end().to_owned(),
            _ => return Err("expected either \"question\" or \"context\"".to_owned()),
        };
        if choices.len() < 2 || choices.iter().any(|choice| choice.trim().is_empty()) {
            return Err("\"choices\": expected at least two, none of them empty".to_owned());
        }
        if answer >= choices.len() {
            return Err(format!("\"answer\": expected 0 to {}, found {answer}", choices.len() - 1));
        }
        let spaced = |choice: String| match choice.starts_with(char::is_whitespace) {
            true => choice,
            false => format!(" {choice}"),
        };
        Ok(Item { prompt, choices: choices.into_iter().map(spaced).collect(), answer })
    }
}

pub(super) fn run(
    items: &[Item],
    subject: &mut Subject<'_>,
    progress: &mut dyn Progress,
) -> Result<Vec<Metric>> {
    let (mut right, mut right_normalized) = (Vec::new(), Vec::new());
    for (i, item) in items.iter().enumerate() {
        step(progress, i, items.len())?;
        let (mut nlls, mut normalized) = (Vec::new(), Vec::new());
        for choice in &item.choices {
            let nll = continuation(subject, &item.prompt, choice)?.nll;
            nlls.push(nll);
            normalized.push(nll / choice.trim_start().len() as f64);
        }
        right.push(least(&nlls) == item.answer);
        right_normalized.push(least(&normalized) == item.answer);
    }
    step(progress, items.len(), items.len())?;
    Ok(vec![Metric::share("accuracy, normalized", &right_normalized), Metric::share("accuracy", &right)])
}

/// The place of the smallest value, the first of several.
fn least(values: &[f64]) -> usize {
    (0..values.len()).min_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_questions_or_contexts() {
        let item = Item::parse(r#"{"question": "2+2?", "choices": ["3", "4"], "answer": 1}"#).unwrap();
        assert_eq!(item.prompt, "Question: 2+2?\nAnswer:");
        assert_eq!((item.choices, item.answer), (vec![" 3".to_owned(), " 4".to_owned()], 1));
        let item = Item::parse(r#"{"context": "It ", "choices": [" is", "was"], "answer": 0}"#).unwrap();
        assert_eq!((item.prompt.as_str(), item.choices), ("It", vec![" is".to_owned(), " was".to_owned()]));
    }

    #[test]
    fn bad_items_say_what_is_wrong() {
        for (line, expected) in [
            (r#"{"choices": ["a", "b"], "answer": 0}"#, "question"),
            (r#"{"question": "", "context": "", "choices": ["a", "b"], "answer": 0}"#, "either"),
            (r#"{"question": "q", "choices": ["a"], "answer": 0}"#, "two"),
            (r#"{"question": "q", "choices": ["a", " "], "answer": 0}"#, "empty"),
            (r#"{"question": "q", "choices": ["a", "b"], "answer": 2}"#, "found 2"),
            (r#"{"question": "q", "choices": ["a", "b"], "answer": -1}"#, "-1"),
            (r#"{"question": "q", "choices": ["a", "b"]}"#, "answer"),
            (r#"{"question": "#, "EOF"),
        ] {
            let error = Item::parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn the_first_of_equals_is_taken() {
        assert_eq!(least(&[2.0, 1.0, 1.0]), 1);
        assert_eq!(least(&[f64::NAN, 1.0]), 1);
    }
}
