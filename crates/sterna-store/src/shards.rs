//! GGUF models split over files: `name-00001-of-00003.gguf`, opened by the first.

/// The names of all shards when `first` is the first of several; just `first` for a whole file.
///
/// `None` for a later shard, which nobody opens.
pub(crate) fn all_of(first: &str) -> Option<Vec<String>> {
    let Some((prefix, index, count)) = split(first) else { return Some(vec![first.to_owned()]) };
    (index == 1).then(|| (1..=count).map(|i| format!("{prefix}-{i:05}-of-{count:05}.gguf")).collect())
}

/// `name` without the shard's number and the extension.
pub(crate) fn stem(name: &str) -> &str {
    match split(name) {
        Some((prefix, ..)) => prefix,
        None => name.strip_suffix(".gguf").unwrap_or(name),
    }
}

fn split(name: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, index) = rest.rsplit_once('-')?;
    let number = |digits: &str| (digits.len() == 5).then(|| digits.parse().ok())?;
    Some((prefix, number(index)?, number(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_files_and_shards() {
        assert_eq!(all_of("a.gguf").unwrap(), ["a.gguf"]);
        assert_eq!(
            all_of("a-00001-of-00002.gguf").unwrap(),
            ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
        );
        assert_eq!(all_of("a-00002-of-00002.gguf"), None);
        assert_eq!(stem("a-q4_0-00001-of-00002.gguf"), "a-q4_0");
        assert_eq!(stem("a-1-of-2.gguf"), "a-1-of-2");
    }
}
