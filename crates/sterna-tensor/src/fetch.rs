//! How weights that are read once come from memory in time.

use std::fmt;
use std::str::FromStr;

/// What is done so that weights have arrived when a few tokens meet them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// They are read in the order in which they lie, and the processor fetches ahead by itself.
    InOrder,
    /// They are asked for a fixed way ahead.
    Ahead,
}

impl Fetch {
    /// All there are.
    pub const ALL: [Fetch; 2] = [Fetch::InOrder, Fetch::Ahead];

    /// Its name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Fetch::InOrder => "in-order",
            Fetch::Ahead => "ahead",
        }
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fetch {
    type Err = ();

    fn from_str(name: &str) -> Result<Fetch, ()> {
        Fetch::ALL.into_iter().find(|fetch| fetch.name() == name).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for fetch in Fetch::ALL {
            assert_eq!(fetch.name().parse(), Ok(fetch));
        }
        assert_eq!("behind".parse::<Fetch>(), Err(()));
    }
}
