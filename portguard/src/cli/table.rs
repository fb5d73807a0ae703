//! Tables: as wide as the terminal, and without a frame, so that they can be cut and grepped.

use crate::output::columns;
use comfy_table::{ContentArrangement, Table, presets};

/// Narrower terminals wrap lines: narrower columns would have a letter a line.
const NARROWEST: u16 = 60;

/// A table of text with a header; columns that say `any` everywhere are left out.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    table_in(columns(), header, rows)
}

/// On a terminal of this width, if it is one.
fn table_in(columns: Option<u16>, header: &[&str], rows: &[Vec<String>]) -> String {
    let says = |column: usize| {
        rows.iter()
            .any(|row| row.get(column).is_some_and(|cell| cell != "any"))
    };
    let shown: Vec<usize> = (0..header.len()).filter(|column| says(*column)).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(columns) = columns {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(columns.max(NARROWEST));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_fits_the_terminal() {
        let header = ["PORTS", "USERS", "CGROUPS", "OLD", "NEW"];
        let cgroup = "/system.slice/system-postfix.slice/postfix@-.service";
        let row = [
            "8000-8007",
            "real 1000-1001, effective 1000-1001",
            cgroup,
            "deny by nobody-else",
            "allow by alice",
        ];
        let rows = [row.map(str::to_owned).to_vec()];
        let widest = |columns| {
            let text = table_in(columns, &header, &rows);
            text.lines().map(str::len).max().unwrap()
        };
        assert!(widest(None) > 120);
        assert!((60..=80).contains(&widest(Some(80))));
        // Never a letter a line.
        assert!((50..=60).contains(&widest(Some(1))));
    }
}
