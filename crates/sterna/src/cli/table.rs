//! Columns that line up.

/// The rows, the first of them headings, with cells padded to their column; columns in `right` to the right.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], right: &[usize]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let padded = |(column, cell): (usize, &String)| match right.contains(&column) {
            true => format!("{cell:>width$}", width = widths[column]),
            false => format!("{cell:<width$}", width = widths[column]),
        };
        let line: Vec<String> = row.iter().enumerate().map(padded).collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["name", "n"], ["a", "10"], ["long", "7"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, &[1]), "name   n\na     10\nlong   7\n");
    }
}
