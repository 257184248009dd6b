//! Text to fit a quantizer to.

use crate::error::{QuantError, Result};

/// The texts that come with Sterna; `README.md` beside them says what they are, and where from.
const BUILTIN: [&str; 10] = [
    include_str!("encyclopedia.txt"),
    include_str!("stories.txt"),
    include_str!("web.txt"),
    include_str!("dialogue.txt"),
    include_str!("programs.txt"),
    include_str!("languages.txt"),
    include_str!("prose.txt"),
    include_str!("verse.txt"),
    include_str!("documentation.txt"),
    include_str!("code.txt"),
];

/// The text that comes with Sterna, its parts woven into one another, so that any beginning has something of each.
pub fn builtin() -> String {
    let parts = BUILTIN.map(|text| text.split("\n\n").collect::<Vec<_>>());
    let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
    let mut woven = String::new();
    for at in 0..longest {
        for part in &parts {
            // As many paragraphs of each part as it has more or fewer than the longest.
            let range = at * part.len() / longest..(at + 1) * part.len() / longest;
            for paragraph in &part[range] {
                woven.push_str(paragraph);
                woven.push_str("\n\n");
            }
        }
    }
    woven
}

/// `tokens` cut into sequences of `length`, as many as make `most` tokens, taken evenly from all of the text. A text that
/// is shorter than one sequence is one.
///
/// # Errors
/// When there are not even 32 tokens.
pub fn sequences(tokens: &[u32], length: usize, most: usize) -> Result<Vec<Vec<u32>>> {
    const FEWEST: usize = 32;
    if tokens.len() < FEWEST {
        return Err(QuantError::TooLittleText { expected: FEWEST, found: tokens.len() });
    }
    let whole: Vec<&[u32]> = tokens.chunks_exact(length).collect();
    if whole.is_empty() {
        return Ok(vec![tokens.to_vec()]);
    }
    let n = (most / length).clamp(1, whole.len());
    Ok((0..n).map(|i| whole[i * whole.len() / n].to_vec()).collect())
}

/// Takes one of `sequences`, from the middle, to judge the result by: pieces of it. None where there are few.
pub fn hold_out(sequences: &mut Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    const FEW: usize = 8;
    const LENGTH: usize = 128;
    match sequences.len() {
        ..FEW => Vec::new(),
        n => sequences.remove(n / 2).chunks(LENGTH).map(<[u32]>::to_vec).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_out_is_fitted_to_no_more() {
        let mut sequences: Vec<Vec<u32>> = (0..9).map(|i| vec![i; 300]).collect();
        let held_out = hold_out(&mut sequences);
        assert_eq!(held_out, [vec![4; 128], vec![4; 128], vec![4; 44]]);
        assert!(sequences.iter().all(|sequence| sequence[0] != 4) && sequences.len() == 8);
        assert!(hold_out(&mut sequences[..7].to_vec()).is_empty());
    }

    #[test]
    fn sequences_are_spread_over_the_text() {
        let tokens: Vec<u32> = (0..100).collect();
        let cut = sequences(&tokens, 10, 35).unwrap();
        assert_eq!(
            cut.iter().map(|sequence| (sequence[0], sequence.len())).collect::<Vec<_>>(),
            [(0, 10), (30, 10), (60, 10)]
        );
        assert_eq!(sequences(&tokens, 200, 35).unwrap(), std::slice::from_ref(&tokens));
        assert!(sequences(&tokens[..20], 10, 35).is_err());
    }

    #[test]
    fn the_text_has_something_of_each_part_in_its_first_tenth() {
        let text = builtin();
        let beginning = &text[..text.floor_char_boundary(text.len() / 10)];
        for part in BUILTIN {
            assert!(part.split("\n\n").any(|paragraph| beginning.contains(paragraph)));
        }
        assert!(text.len() > 64 << 10, "{} bytes", text.len());
    }
}
