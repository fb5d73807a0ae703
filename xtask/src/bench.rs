//! The verb `bench`: what a decision costs, in instructions of one guest.

use crate::vm::{self, GuestSpec, kernel};
use crate::{build, report, tools};
use anyhow::{Result, bail, ensure};
use std::process::ExitCode;

/// The verb `bench`.
pub(crate) fn run(series: &str) -> Result<ExitCode> {
    kernel::selected(&[series.to_owned()])?;
    build::everything()?;
    tools::for_guests()?;
    let mut boot = GuestSpec::new(series, "bench", &["bench"]);
    boot.counting = true;
    boot.live = true;
    let ended = vm::boot(&boot)?;
    let rows: Vec<[&str; 4]> = ended.output.lines().filter_map(parse).collect();
    let mut table = report::table(&["row", "instructions", "ratio", "target"]);
    for row in &rows {
        table.add_row(row);
    }
    println!("\nOn {series}, instructions each:\n{table}");
    if let Some(failure) = ended.failure {
        bail!("the guest failed: {failure}");
    }
    ensure!(!rows.is_empty(), "the guest measured nothing");
    Ok(ExitCode::SUCCESS)
}

/// A line `bench: ROW\tINSTRUCTIONS\tRATIO\tTARGET`.
fn parse(line: &str) -> Option<[&str; 4]> {
    let (_, row) = line.split_once("bench: ")?;
    let mut cells = row.split('\t').map(str::trim);
    let mut next = || cells.next();
    let (name, instructions) = (next()?, next()?);
    Some([
        name,
        instructions,
        next().unwrap_or_default(),
        next().unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_row_has_four_cells_of_which_two_may_be_missing() {
        let row = parse("bench: no rules\t812\t1.04\t1.10");
        assert_eq!(row, Some(["no rules", "812", "1.04", "1.10"]));
        assert_eq!(
            parse("bench: bare bind\t780"),
            Some(["bare bind", "780", "", ""])
        );
        assert_eq!(parse("bench: measuring"), None);
    }
}
