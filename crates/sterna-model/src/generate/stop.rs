//! Stop strings in streamed text: what could be the start of one is held back until it is known not to be.

/// Finds the first stop string in text that comes in pieces.
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<String>,
    /// The end of the text so far, as long as it could be the start of a stop string.
    held: String,
}

/// What a piece of text let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Text that is certainly before any stop string.
    pub text: String,
    /// A stop string was found; it and all after it are dropped.
    pub stopped: bool,
}

impl StopStrings {
    /// Empty strings are ignored: they would stop before the first token.
    pub fn new(stops: &[String]) -> StopStrings {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        StopStrings { stops, held: String::new() }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> Released {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Released { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep_from = self.start_of_possible_stop();
        let rest = self.held.split_off(keep_from);
        Released { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// The text held back, when no more will come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the longest end of `held` begins that is the beginning of a stop string.
    fn start_of_possible_stop(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let starts = self.held.char_indices().map(|(at, _)| at).filter(|at| *at >= from);
        let mut possible =
            starts.filter(|at| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..])));
        possible.next().unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut matcher = StopStrings::new(&stops.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let mut out = Vec::new();
        for piece in pieces {
            let released = matcher.push(piece);
            out.push(released.text);
            if released.stopped {
                return (out, true);
            }
        }
        out.push(matcher.finish());
        (out, false)
    }

    #[test]
    fn holds_back_a_partial_match_until_it_is_decided() {
        assert_eq!(run(&["END"], &["so E", "N", "D more"]), (vec!["so ".into(), "".into(), "".into()], true));
        assert_eq!(
            run(&["END"], &["so E", "N", "d."]),
            (vec!["so ".into(), "".into(), "ENd.".into(), "".into()], false)
        );
    }

    #[test]
    fn the_earliest_of_several_wins() {
        assert_eq!(run(&["two", "one"], &["zero one two"]), (vec!["zero ".into()], true));
    }

    #[test]
    fn text_held_back_at_the_end_is_not_lost() {
        assert_eq!(run(&["\n\n"], &["line\n"]), (vec!["line".into(), "\n".into()], false));
    }

    #[test]
    fn no_stop_strings_hold_nothing() {
        assert_eq!(run(&[""], &["a", "é"]), (vec!["a".into(), "é".into(), "".into()], false));
    }

    proptest! {
        /// However the text is cut up, the result is the text before the first stop string.
        #[test]
        fn cutting_does_not_matter(text in "[abé]{0,30}", stops in prop::collection::vec("[abé]{1,4}", 0..3), cuts in prop::collection::vec(1usize..5, 30)) {
            let end = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
            let mut matcher = StopStrings::new(&stops);
            let (mut out, mut stopped) = (String::new(), false);
            let characters: Vec<char> = text.chars().collect();
            let (mut from, mut cuts) = (0, cuts.into_iter());
            while from < characters.len() && !stopped {
                let to = (from + cuts.next().unwrap_or(1)).min(characters.len());
                let released = matcher.push(&characters[from..to].iter().collect::<String>());
                out.push_str(&released.text);
                stopped = released.stopped;
                from = to;
            }
            if !stopped {
                out.push_str(&matcher.finish());
            }
            prop_assert_eq!(stopped, end.is_some());
            // Cut mid-way, an overlapping later stop string can end first; what is never let out is any whole one.
            if stopped {
                prop_assert!(text.starts_with(&out));
                prop_assert!(stops.iter().all(|stop| !out.contains(stop.as_str())));
            } else {
                prop_assert_eq!(out, text);
            }
        }
    }
}
