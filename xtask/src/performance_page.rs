//! The tables of docs/performance.md, generated from the recorded figures.

use crate::baseline::{self, Baseline, Bench, Verified};
use crate::repo;
use crate::vm::kernel;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

const PAGE: &str = "docs/performance.md";

/// Writes the tables of the recorded figures into the page.
pub(crate) fn update() -> Result<()> {
    let page = read()?;
    let new = rendered(&page)?;
    fs::write(repo::path(PAGE), new).with_context(|| format!("writing {PAGE}"))
}

fn read() -> Result<String> {
    fs::read_to_string(repo::path(PAGE)).with_context(|| format!("reading {PAGE}"))
}

/// The page with the tables of the recorded figures.
fn rendered(page: &str) -> Result<String> {
    let page = replaced(page, "bench", &bench(&baseline::load()?))?;
    replaced(&page, "verify", &verify(&baseline::load()?))
}

/// The page with this text between the markers `<!-- begin NAME -->` and `<!-- end NAME -->`.
fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let missing = || format!("{PAGE} has no lines `{}` and `{end}`", begin.trim_end());
    let (before, rest) = page.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

/// The kernels that have figures, oldest first.
fn series<Figures>(baseline: &Baseline<Figures>) -> Vec<&'static str> {
    kernel::all()
        .filter(|series| baseline.contains_key(*series))
        .collect()
}

/// What stands in place of a table without figures.
const NOTHING: &str = "No figures are recorded.\n";

/// A table of the bench for each kernel.
fn bench(baseline: &Baseline<Bench>) -> String {
    if baseline.is_empty() {
        return NOTHING.to_owned();
    }
    let mut text = String::new();
    for series in series(baseline) {
        let Some(recorded) = baseline.get(series) else {
            continue;
        };
        let _ = writeln!(text, "Linux {series} (`{}`):\n", recorded.kernel);
        text.push_str("| bind | instructions | over a bare bind | target |\n|---|---:|---:|---|\n");
        for row in &recorded.figures {
            let over = row
                .bare
                .map(|bare| baseline::change(bare, row.instructions));
            let (over, target) = (over.unwrap_or_default(), row.target.trim());
            let _ = writeln!(
                text,
                "| {} | {} | {over} | {target} |",
                row.name, row.instructions
            );
        }
        text.push('\n');
    }
    text
}

/// A table of programs by kernels.
fn verify(baseline: &Baseline<Verified>) -> String {
    if baseline.is_empty() {
        return NOTHING.to_owned();
    }
    let series = series(baseline);
    let columns: Vec<&Verified> = series
        .iter()
        .filter_map(|series| baseline.get(*series))
        .map(|recorded| &recorded.figures)
        .collect();
    let mut text = format!(
        "| program | {} |\n|---|{}\n",
        series.join(" | "),
        "---:|".repeat(series.len())
    );
    let programs: BTreeSet<&String> = columns.iter().flat_map(|column| column.keys()).collect();
    for program in programs {
        let count = |column: &&Verified| {
            let count = column.get(program).map(u64::to_string);
            count.unwrap_or_default()
        };
        let counts: Vec<String> = columns.iter().map(count).collect();
        let _ = writeln!(text, "| `{program}` | {} |", counts.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::{Recorded, Row};

    #[test]
    fn page_has_the_recorded_figures() {
        let page = read().expect("the page");
        let expected = rendered(&page).expect("tables");
        assert!(
            page == expected,
            "docs/performance.md differs from docs/baseline: `cargo xtask verify --record` and \
             `cargo xtask bench --record` write both"
        );
    }

    #[test]
    fn replaced_needs_both_markers() {
        let page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n";
        let new = replaced(page, "x", "new\n").expect("a page");
        assert_eq!(new, "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb\n");
        let error = replaced("a", "x", "").expect_err("no markers");
        assert_eq!(
            error.to_string(),
            "docs/performance.md has no lines `<!-- begin x -->` and `<!-- end x -->`"
        );
    }

    #[test]
    fn tables_are_markdown() {
        let row = |bare, target: &str| Row {
            name: "a grant".to_owned(),
            instructions: 1100,
            bare,
            target: target.to_owned(),
        };
        let recorded = Recorded {
            kernel: "linux".to_owned(),
            figures: vec![row(None, ""), row(Some(1000), "<= 900")],
        };
        let text = bench(&Baseline::from([("6.12".to_owned(), recorded)]));
        assert!(
            text.starts_with("Linux 6.12 (`linux`):\n\n| bind |"),
            "{text}"
        );
        assert!(
            text.contains("| a grant | 1100 |  |  |\n| a grant | 1100 | +10.0 % | <= 900 |\n"),
            "{text}"
        );
        let figures = Verified::from([("socket_bind".to_owned(), 7)]);
        let kernel = String::new();
        let text = verify(&Baseline::from([(
            "5.10".to_owned(),
            Recorded { kernel, figures },
        )]));
        assert_eq!(
            text,
            "| program | 5.10 |\n|---|---:|\n| `socket_bind` | 7 |\n"
        );
    }
}
