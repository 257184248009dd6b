//! GSM8K: grade-school arithmetic in words (Cobbe et al., 2021).
//!
//! An item is `{"question": …, "answer": "… #### 18"}`. The model sees four worked examples, which were written for this
//! prompt and are in no data set, and writes its own solution; the number after its `####`, or the last one where it
//! forgets that, has to be the right one.

use serde::Deserialize;

use super::jsonl::object;
use super::{Metric, Subject, TaskOptions};
use crate::eval::progress::step;
use crate::eval::{Progress, Result};

/// Worked examples, in the form of the data set.
const EXAMPLES: &str = "\
Question: A ferry carries 12 cars on each trip and makes 5 trips a day. How many cars does it carry in 3 days?
Answer: It carries 12 * 5 = 60 cars a day. In 3 days it carries 60 * 3 = 180 cars.
#### 180

Question: Nora buys 4 notebooks for $3 each and a pen for $2. She pays with a $20 bill. How much change does she get?
Answer: The notebooks cost 4 * 3 = 12 dollars. Together with the pen that is 12 + 2 = 14 dollars. Her change is 20 - 14 = 6 \
dollars.
#### 6

Question: A tank holds 90 liters and is one third full. A pump adds 8 liters a minute for 5 minutes. How many liters are in the \
tank then?
Answer: At first there are 90 / 3 = 30 liters. The pump adds 8 * 5 = 40 liters. Then there are 30 + 40 = 70 liters.
#### 70

Question: Of 50 seedlings, 20% die, and half of the rest are given away. How many are left?
Answer: 50 * 20 / 100 = 10 seedlings die, so 50 - 10 = 40 live. Half of them, 40 / 2 = 20, are left.
#### 20

";

/// Enough for the longest solutions of the data set.
const MAX_TOKENS: usize = 320;

/// A question and the number that answers it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    question: String,
    answer: f64,
}

impl Item {
    pub(super) fn parse(line: &str) -> Result<Item, String> {
        #[derive(Deserialize)]
        struct Line {
            question: String,
            answer: String,
        }
        let Line { question, answer } = object(line)?;
        let number = answer.split_once("####").and_then(|(_, number)| numbers(number).next());
        let answer = number.ok_or("\"answer\": expected a number after ####")?;
        Ok(Item { question, answer })
    }
}

pub(super) fn run(
    items: &[Item],
    subject: &mut Subject<'_>,
    options: TaskOptions,
    progress: &mut dyn Progress,
) -> Result<Vec<Metric>> {
    let stop = ["\nQuestion:".to_owned()];
    let mut right = Vec::new();
    for (i, item) in items.iter().enumerate() {
        step(progress, i, items.len())?;
        let prompt = format!("{EXAMPLES}Question: {}\nAnswer:", item.question);
        let text = subject.complete(&prompt, options.max_tokens.unwrap_or(MAX_TOKENS), &stop)?;
        right.push(answer(&text).is_some_and(|found| found == item.answer));
    }
    step(progress, items.len(), items.len())?;
    Ok(vec![Metric::share("exact match", &right)])
}

/// The number that a solution arrives at.
fn answer(text: &str) -> Option<f64> {
    let after_mark = text.split_once("####").and_then(|(_, rest)| numbers(rest).next());
    after_mark.or_else(|| numbers(text).last())
}

/// The numbers in a text: `1,200.50`, `-3`, `$7`.
fn numbers(text: &str) -> impl Iterator<Item = f64> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | '-');
    text.split(move |c| !is_part(c)).filter_map(|part| {
        let digits: String = part.trim_end_matches(['.', ',', '-']).replace(',', "");
        // `5-3` is no number but two.
        let last = digits.rfind('-').filter(|at| *at > 0).map_or(digits.as_str(), |at| &digits[at + 1..]);
        last.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_after_the_mark() {
        let line = r#"{"question": "q", "answer": "16-3 = <<16-3=13>>13.\n#### 1,018"}"#;
        assert_eq!(Item::parse(line).unwrap().answer, 1018.0);
        assert!(Item::parse(r#"{"question": "q", "answer": "13"}"#).is_err_and(|e| e.contains("####")));
    }

    #[test]
    fn numbers_are_found_in_prose() {
        assert_eq!(answer("So 3 * 4 = 12.\n#### 12\n\n#### 13"), Some(12.0));
        assert_eq!(answer("She has $1,200.50."), Some(1200.5));
        assert_eq!(answer("between 5-3 and -7,"), Some(-7.0));
        assert_eq!(answer("the 2nd is 10%"), Some(10.0));
        assert_eq!(answer("none at all - nothing, really."), None);
        assert_eq!(answer("#### "), None);
    }

    #[test]
    fn the_examples_are_right() {
        let found: Vec<f64> = EXAMPLES.split("\n\n").filter_map(answer).collect();
        assert_eq!(found, [180.0, 6.0, 70.0, 20.0]);
    }
}
