//! Numbers as people read them.

/// `1.04 GiB`, `93.8 MiB`, `512 B`: three digits, binary units.
pub(super) fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    scaled(n as f64, 1024.0, &units, " ")
}

/// `1.54 B`, `135 M`: a count, decimal units.
pub(super) fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", "K", "M", "B", "T", "Q", "Qi"], " ").trim_end().to_owned()
}

fn scaled(mut value: f64, step: f64, units: &[&str], space: &str) -> String {
    let mut unit = 0;
    // 999.5 would round to a fourth digit.
    while value >= step.min(999.5) && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{space}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1 << 10), "1.00 KiB");
        assert_eq!(bytes(98_362_432), "93.8 MiB");
        assert_eq!(bytes(1_117_320_768), "1.04 GiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(count(999), "999");
        assert_eq!(count(134_515_008), "135 M");
        assert_eq!(count(1_543_714_304), "1.54 B");
        assert_eq!(count(999_999), "1.00 M");
    }
}
