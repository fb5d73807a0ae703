//! Tables: as wide as the terminal, and without a frame, so that they can be cut and grepped.

use comfy_table::{ContentArrangement, Table, presets};
use std::io::IsTerminal as _;

/// A table of text with a header; columns that say `any` everywhere are left out.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let says = |column: usize| {
        rows.iter()
            .any(|row| row.get(column).is_some_and(|cell| cell != "any"))
    };
    let shown: Vec<usize> = (0..header.len()).filter(|column| says(*column)).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(shown.iter().filter_map(|column| header.get(*column)));
    for row in rows {
        table.add_row(shown.iter().filter_map(|column| row.get(*column)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}
