//! Which tokens end an answer.
//!
//! Files name an EOS token and seldom the one that ends a turn, though chat models give the latter. So special
//! tokens whose text is known to end a turn count as well.

use super::{AddedToken, Frame};

/// Special tokens that end a turn, by what chat templates write; the first that is present is taken as EOT.
const TURN_ENDS: [&str; 12] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|return|>",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_utterance>",
    "<|eot|>",
    "<|end_of_turn|>",
    "<EOT>",
    "[EOT]",
];

/// Special tokens that end a text or an answer otherwise.
const TEXT_ENDS: [&str; 6] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|call|>",
    "<|endofassistant|>",
    "<｜end▁of▁sentence｜>",
];

/// The token that ends a turn, and all tokens that end an answer, in ascending order.
pub(super) fn find(added: &[AddedToken], frame: &Frame, said: &[u32]) -> (Option<u32>, Vec<u32>) {
    let special =
        |text: &str| added.iter().find(|token| token.special && token.content == text).map(|token| token.id);
    // gpt-oss ends each of its messages, thoughts too, by <|end|>, and its answer by <|return|>.
    let several_messages = special("<|return|>").is_some();
    let ends_turn = |text: &&&str| !(several_messages && **text == "<|end|>");
    let turn_ends: Vec<u32> = TURN_ENDS.iter().filter(ends_turn).filter_map(|text| special(text)).collect();
    let eot = frame.eot.or_else(|| turn_ends.first().copied());
    let mut ends: Vec<u32> = TEXT_ENDS.iter().filter_map(|text| special(text)).collect();
    ends.extend(turn_ends.iter().chain(said).chain(&frame.eos).chain(&eot));
    ends.sort_unstable();
    ends.dedup();
    (eot, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(texts: &[(&str, bool)]) -> Vec<AddedToken> {
        texts
            .iter()
            .zip(0..)
            .map(|((text, special), id)| AddedToken::new(id, text.to_string(), *special))
            .collect()
    }

    #[test]
    fn known_texts_count_only_when_special() {
        let added =
            tokens(&[("<|endoftext|>", true), ("<|im_end|>", true), ("<|end|>", false), ("<b>", true)]);
        let frame = Frame { eos: Some(7), ..Frame::default() };
        assert_eq!(find(&added, &frame, &[9, 0]), (Some(1), vec![0, 1, 7, 9]));
    }

    #[test]
    fn a_message_is_not_an_answer_in_gpt_oss() {
        let added = tokens(&[("<|end|>", true), ("<|return|>", true), ("<|call|>", true)]);
        assert_eq!(find(&added, &Frame::default(), &[]), (Some(1), vec![1, 2]));
        assert_eq!(find(&added[..1], &Frame::default(), &[]), (Some(0), vec![0]));
    }
}
