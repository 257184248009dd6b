//! From input text to words: normalization, then cutting at patterns.
//!
//! Merging never crosses a cut, so ids come out right only if text is cut exactly as in training. The steps here
//! are those of Hugging Face's `normalizer` and `pre_tokenizer`, over plain string slices.

use std::ops::Range;

use fancy_regex::Regex;
use unicode_normalization::UnicodeNormalization;

/// One step that rewrites text.
pub(super) enum Normalize {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    Strip {
        left: bool,
        right: bool,
    },
    Replace {
        from: String,
        to: String,
    },
    Prepend(String),
    /// Spaces to `mark`, with one `mark` before the text unless it has one: before every text between added
    /// tokens, only before one at the very start, or never.
    Metaspace {
        mark: String,
        prepend: Prepend,
    },
}

/// Where [`Normalize::Metaspace`] puts a mark in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Prepend {
    Always,
    First,
    Never,
}

impl Normalize {
    /// The text after this step. `first` says whether the input begins with it.
    fn apply(&self, text: String, first: bool) -> String {
        match self {
            // ASCII is its own normal form, and most text is ASCII.
            Normalize::Nfc | Normalize::Nfd | Normalize::Nfkc | Normalize::Nfkd if text.is_ascii() => text,
            Normalize::Nfc => text.nfc().collect(),
            Normalize::Nfd => text.nfd().collect(),
            Normalize::Nfkc => text.nfkc().collect(),
            Normalize::Nfkd => text.nfkd().collect(),
            Normalize::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Normalize::Strip { left, right } => {
                let kept = if *left { text.trim_start() } else { &text };
                (if *right { kept.trim_end() } else { kept }).to_owned()
            }
            Normalize::Replace { from, to } => text.replace(from.as_str(), to),
            Normalize::Prepend(_) if text.is_empty() => text,
            Normalize::Prepend(prefix) => format!("{prefix}{text}"),
            Normalize::Metaspace { mark, prepend } => {
                let text = text.replace(' ', mark);
                let wanted = *prepend == Prepend::Always || (*prepend == Prepend::First && first);
                if wanted && !text.starts_with(mark.as_str()) { format!("{mark}{text}") } else { text }
            }
        }
    }
}

/// What to do with the matches of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(super) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// What is cut at.
pub(super) enum Pattern {
    Regex(Regex),
    Literal(String),
    Chars(fn(char) -> bool),
}

/// One cut.
pub(super) struct Cut {
    pub(super) pattern: Pattern,
    pub(super) behavior: Behavior,
    pub(super) invert: bool,
}

impl Cut {
    /// Every match of `regex`, and every stretch between two, is a word of its own.
    pub(super) fn isolate(regex: &str) -> Result<Cut, fancy_regex::Error> {
        Ok(Cut { pattern: Pattern::Regex(Regex::new(regex)?), behavior: Behavior::Isolated, invert: false })
    }

    /// Gives the pieces of `text`, as byte ranges shifted by `offset`, to `out`. A regular expression that steps back
    /// a million times at one place fails: one can be made to step back for ever.
    fn apply(
        &self,
        text: &str,
        offset: usize,
        out: &mut Vec<Range<usize>>,
    ) -> Result<(), fancy_regex::Error> {
        let mut done = 0;
        // Whether the last piece was a match; and whether a match joins what comes after it.
        let mut last_matched = None;
        let mut add = |range: Range<usize>, matched: bool| {
            if range.is_empty() {
                return;
            }
            let matched = matched != self.invert;
            let shifted = range.start + offset..range.end + offset;
            let joins = match self.behavior {
                Behavior::Removed | Behavior::Isolated => false,
                Behavior::Contiguous => last_matched == Some(matched),
                Behavior::MergedWithPrevious => matched && last_matched == Some(false),
                Behavior::MergedWithNext => !matched && last_matched == Some(true),
            };
            last_matched = Some(matched);
            match out.last_mut() {
                Some(last) if joins => last.end = shifted.end,
                _ if matched && self.behavior == Behavior::Removed => {}
                _ => out.push(shifted),
            }
        };
        let mut found = |range: Range<usize>| {
            add(done..range.start, false);
            done = range.end;
            add(range, true);
        };
        match &self.pattern {
            Pattern::Regex(regex) => {
                for matched in regex.find_iter(text) {
                    found(matched?.range());
                }
            }
            Pattern::Literal(literal) if literal.is_empty() => {}
            Pattern::Literal(literal) => {
                text.match_indices(literal.as_str())
                    .for_each(|(start, text)| found(start..start + text.len()));
            }
            Pattern::Chars(is) => {
                text.match_indices(*is).for_each(|(start, text)| found(start..start + text.len()));
            }
        }
        add(done..text.len(), false);
        Ok(())
    }
}

/// The byte-level step of GPT-2: each byte of a word becomes one printable character.
pub(super) struct ByteLevel {
    /// Whether a word that does not begin with a space gets one.
    pub(super) add_prefix_space: bool,
    /// Whether words are cut by GPT-2's pattern first.
    pub(super) cut: Option<Cut>,
}

/// How text becomes words.
#[derive(Default)]
pub(super) struct Cutter {
    pub(super) normalize: Vec<Normalize>,
    pub(super) cuts: Vec<Cut>,
    pub(super) byte_level: Option<ByteLevel>,
}

impl Cutter {
    /// `text`, normalized. `first` says whether the input begins with it.
    pub(super) fn normalize(&self, text: &str, first: bool) -> String {
        self.normalize.iter().fold(text.to_owned(), |text, step| step.apply(text, first))
    }

    /// Gives each word of a normalized text to `word`.
    ///
    /// # Errors
    /// When a regular expression takes too many steps.
    pub(super) fn words(&self, text: &str, mut word: impl FnMut(&str)) -> Result<(), fancy_regex::Error> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for cut in &self.cuts {
            pieces = cut_all(cut, text, &pieces)?;
        }
        let Some(byte_level) = &self.byte_level else {
            pieces.into_iter().for_each(|piece| word(&text[piece]));
            return Ok(());
        };
        let mut mapped = String::new();
        let mut emit = |piece: &str| {
            mapped.clear();
            mapped.extend(piece.bytes().map(byte_char));
            word(&mapped);
        };
        for piece in pieces {
            let piece = &text[piece];
            let prefixed =
                (byte_level.add_prefix_space && !piece.starts_with(' ')).then(|| format!(" {piece}"));
            let piece = prefixed.as_deref().unwrap_or(piece);
            match &byte_level.cut {
                Some(cut) => {
                    let whole = 0..piece.len();
                    cut_all(cut, piece, &[whole])?.into_iter().for_each(|range| emit(&piece[range]));
                }
                None => emit(piece),
            }
        }
        Ok(())
    }
}

fn cut_all(cut: &Cut, text: &str, pieces: &[Range<usize>]) -> Result<Vec<Range<usize>>, fancy_regex::Error> {
    let mut out = Vec::with_capacity(pieces.len());
    // One list per piece: joining never reaches into the piece before.
    let mut of_piece = Vec::new();
    for piece in pieces {
        cut.apply(&text[piece.clone()], piece.start, &mut of_piece)?;
        out.append(&mut of_piece);
    }
    Ok(out)
}

/// The character that stands for `byte` in byte-level vocabularies: itself where it is printable, else one
/// after U+0100 (GPT-2's `bytes_to_unicode`).
pub(super) fn byte_char(byte: u8) -> char {
    let shifted = match byte {
        0x00..=0x20 => u32::from(byte),
        0x7F..=0xA0 => u32::from(byte) - 0x7F + 0x21,
        0xAD => 0x43,
        _ => return char::from(byte),
    };
    char::from_u32(0x100 + shifted).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that `character` stands for; the inverse of [`byte_char`].
pub(super) fn char_byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_their_characters_are_one_to_one() {
        for byte in 0..=255 {
            assert_eq!(char_byte(byte_char(byte)), Some(byte));
        }
        assert_eq!(byte_char(b' '), 'Ġ');
        assert_eq!(byte_char(b'\n'), 'Ċ');
        assert_eq!(char_byte('あ'), None);
        assert_eq!((0x100..0x144).filter_map(char::from_u32).filter_map(char_byte).count(), 68);
    }

    fn pieces(pattern: Pattern, behavior: Behavior, text: &str) -> Vec<&str> {
        let cut = Cut { pattern, behavior, invert: false };
        let whole = 0..text.len();
        cut_all(&cut, text, &[whole]).unwrap().into_iter().map(|range| &text[range]).collect()
    }

    /// The example of Hugging Face's documentation of `SplitDelimiterBehavior`.
    #[test]
    fn behaviors_are_those_of_hugging_face() {
        let text = "the-final--countdown";
        let cut = |behavior| pieces(Pattern::Literal("-".to_owned()), behavior, text);
        assert_eq!(cut(Behavior::Removed), ["the", "final", "countdown"]);
        assert_eq!(cut(Behavior::Isolated), ["the", "-", "final", "-", "-", "countdown"]);
        assert_eq!(cut(Behavior::MergedWithPrevious), ["the-", "final-", "-", "countdown"]);
        assert_eq!(cut(Behavior::MergedWithNext), ["the", "-final", "-", "-countdown"]);
        assert_eq!(cut(Behavior::Contiguous), ["the", "-", "final", "--", "countdown"]);
    }

    #[test]
    fn empty_matches_cut_without_leaving_a_piece() {
        let digits = Pattern::Regex(Regex::new(r"(?=(\d{3})+(?!\d))").unwrap());
        assert_eq!(pieces(digits, Behavior::Isolated, "1234567"), ["1", "234", "567"]);
        assert!(pieces(Pattern::Chars(char::is_numeric), Behavior::Isolated, "").is_empty());
    }

    #[test]
    fn a_regex_without_end_is_an_error() {
        let cutter =
            Cutter { cuts: vec![Cut::isolate(r"(a+)(a+)(a+)(a+)(a+)(a+)\1b").unwrap()], ..Cutter::default() };
        assert!(cutter.words(&"a".repeat(60), |_| {}).is_err());
    }

    #[test]
    fn metaspace_marks_the_start_as_asked() {
        let apply = |prepend, text: &str, first| {
            Normalize::Metaspace { mark: "▁".to_owned(), prepend }.apply(text.to_owned(), first)
        };
        assert_eq!(apply(Prepend::Always, "a b", false), "▁a▁b");
        assert_eq!(apply(Prepend::First, "a", false), "a");
        assert_eq!(apply(Prepend::First, "a", true), "▁a");
        assert_eq!(apply(Prepend::Always, " a", true), "▁a");
        assert_eq!(apply(Prepend::Never, " a", true), "▁a");
    }
}
