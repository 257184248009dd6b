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

/// The same as Markdown, as many columns as headings: names to the left, figures to the right.
pub(super) fn markdown(rows: &[Vec<String>]) -> String {
    let escaped = |row: &Vec<String>| row.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(escaped).collect();
    let width_of =
        |row: &Vec<String>, column| row.get(column).map_or(0, |cell: &String| cell.chars().count());
    let width = |column| rows.iter().map(|row| width_of(row, column)).max().unwrap_or(0).max(2);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| -> String {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("| {cell:<width$} "),
            _ => format!("| {cell:>width$} "),
        });
        cells.chain(["|\n".to_owned()]).collect()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    let rules = widths.iter().enumerate().map(|(column, width)| match column {
        0 => format!("| {} ", "-".repeat(*width)),
        _ => format!("| {}: ", "-".repeat(width - 1)),
    });
    lines.insert(lines.len().min(1), rules.chain(["|\n".to_owned()]).collect());
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_lines_up_and_bars_are_escaped() {
        let rows = [["name", "n"], ["a|b", "10"], ["long", "7"]].map(|row| row.map(str::to_owned).to_vec());
        let expected = "| name |  n |\n| ---- | -: |\n| a\\|b | 10 |\n| long |  7 |\n";
        assert_eq!(markdown(&rows), expected);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["name", "n"], ["a", "10"], ["long", "7"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, &[1]), "name   n\na     10\nlong   7\n");
    }
}
