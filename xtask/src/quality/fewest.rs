//! The fewest bits that keep a share of the quality.

/// A file: bits per weight, and the share that it keeps.
pub(super) type Kept = (f64, f64);

/// Of discrete files, the smallest that keeps `share`.
pub(super) fn of_files(files: &[Kept], share: f64) -> Option<f64> {
    let keeping = files.iter().filter(|(_, kept)| *kept >= share).map(|(bits, _)| *bits);
    keeping.min_by(f64::total_cmp)
}

/// Of a curve through `files`, straight from one to the next, where it last comes up to `share`. The curve of a true loss is
/// hollow, so a straight line asks for a little too much. `None` where the largest file keeps less; the smallest file's
/// bits where all keep more.
pub(super) fn of_curve(files: &[Kept], share: f64) -> Option<f64> {
    let mut files = files.to_vec();
    files.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut bits, mut kept) = files.first().copied().filter(|(_, kept)| *kept >= share)?;
    for &(fewer, less) in &files[1..] {
        if less < share {
            return Some(bits - (bits - fewer) * (kept - share) / (kept - less));
        }
        (bits, kept) = (fewer, less);
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_followed_from_above() {
        let curve = [(4.0, 0.90), (3.0, 0.50), (6.0, 1.0), (5.0, 0.98)];
        assert!(of_curve(&curve, 0.94).is_some_and(|bits| (bits - 4.5).abs() < 1e-9));
        assert_eq!(of_curve(&curve, 0.98), Some(5.0));
        assert_eq!(of_curve(&curve, 0.4), Some(3.0));
        assert_eq!(of_curve(&curve[..2], 0.95), None);
        assert_eq!(of_files(&curve, 0.94), Some(5.0));
        assert_eq!(of_files(&curve, 1.1), None);
    }
}
