//! The verb `bench`: what a decision costs, in instructions of a guest.

use crate::baseline::{self, Baseline, Bench, Mode, Recorded, Row};
use crate::build::{self, Profile};
use crate::vm::{self, GuestSpec, kernel};
use crate::{performance_page, report, tools};
use anyhow::{Result, bail, ensure};
use std::process::ExitCode;

/// A row as the guest prints it.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    name: &'a str,
    /// None where it could not be measured.
    instructions: Option<u64>,
    ratio: &'a str,
    target: &'a str,
    /// What a bare bind costs; None in rows that do not measure portguard.
    bare: Option<u64>,
}

/// The verb `bench`.
pub(crate) fn run(series: &str, only: Option<&str>, mode: Mode) -> Result<ExitCode> {
    kernel::selected(&[series.to_owned()])?;
    build::everything(Profile::Release)?;
    tools::for_guests()?;
    let arguments: &[&str] = match only {
        Some(text) => &["bench", "only", text],
        None => &["bench"],
    };
    let mut guest = GuestSpec::new(series, "bench", arguments);
    guest.counting = true;
    guest.live = true;
    let booted = vm::boot(&guest)?;
    let lines: Vec<Line> = booted.output.lines().filter_map(parse).collect();
    show(series, &lines);
    if let Some(failure) = booted.failure {
        bail!("the guest failed: {failure}");
    }
    ensure!(!lines.is_empty(), "the guest measured nothing");
    match mode {
        Mode::Print => Ok(ExitCode::SUCCESS),
        Mode::Record => record(series, &lines),
        Mode::Compare => {
            let baseline = baseline::load::<Bench>()?;
            let Some(recorded) = baseline.get(series) else {
                bail!(
                    "no recorded figures for {series}: `cargo xtask bench --vm {series} --record`"
                );
            };
            Ok(compare(&recorded.figures, &lines))
        }
    }
}

/// A line `bench: NAME\tINSTRUCTIONS\tRATIO\tTARGET\tBARE`, of which the last three may be missing.
fn parse(line: &str) -> Option<Line<'_>> {
    let (_, row) = line.split_once("bench: ")?;
    let mut cells = row.split('\t').map(str::trim);
    let (name, instructions) = (cells.next()?, cells.next()?);
    Some(Line {
        name,
        instructions: instructions.parse().ok(),
        ratio: cells.next().unwrap_or_default(),
        target: cells.next().unwrap_or_default(),
        bare: cells.next().and_then(|bare| bare.parse().ok()),
    })
}

/// Prints the rows.
fn show(series: &str, lines: &[Line]) {
    let mut table = report::table(&["row", "instructions", "ratio", "target"]);
    for line in lines {
        let count = line
            .instructions
            .map_or_else(|| "-".to_owned(), |count| count.to_string());
        table.add_row([line.name, &count, line.ratio, line.target]);
    }
    println!("\nInstructions per bind on {series}:\n{table}");
}

/// Records the rows and updates the page of figures.
fn record(series: &str, lines: &[Line]) -> Result<ExitCode> {
    let row = |line: &Line| {
        Some(Row {
            name: line.name.to_owned(),
            instructions: line.instructions?,
            bare: line.bare,
            target: line.target.to_owned(),
        })
    };
    let recorded = Recorded {
        kernel: kernel::package(series)?,
        figures: lines.iter().filter_map(row).collect::<Bench>(),
    };
    baseline::record(Baseline::from([(series.to_owned(), recorded)]))?;
    performance_page::update()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the difference of each row and fails if one is too much worse.
fn compare(recorded: &[Row], lines: &[Line]) -> ExitCode {
    let mut table = report::table(&["row", "recorded", "measured", "change"]);
    let mut failures = Vec::new();
    for row in recorded {
        let line = lines.iter().find(|line| line.name == row.name);
        let measured = line.and_then(|line| comparable(row, line));
        let (cell, change) = measured.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |measured| {
                (
                    measured.to_string(),
                    baseline::change(row.instructions, measured),
                )
            },
        );
        table.add_row([row.name.clone(), row.instructions.to_string(), cell, change]);
        failures.extend(problem(row, measured).map(|why| format!("{}: {why}", row.name)));
    }
    for line in lines {
        if !recorded.iter().any(|row| row.name == line.name) {
            let count = line.instructions.map(|count| count.to_string());
            table.add_row([line.name, "-", &count.unwrap_or_default(), "new"]);
        }
    }
    println!("\nCompared with the recorded figures, as if a bare bind cost the same:\n{table}");
    for failure in &failures {
        println!("{failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The measured cost, had a bare bind cost what it cost when the row was recorded. What a bare bind costs depends on
/// the machine that emulates; what portguard adds does not.
fn comparable(row: &Row, line: &Line) -> Option<u64> {
    let count = line.instructions?;
    match (row.bare, line.bare) {
        (Some(then), Some(now)) => (count + then).checked_sub(now),
        _ => Some(count),
    }
}

/// Why a row has failed, if it has. Only rows of portguard can.
fn problem(row: &Row, measured: Option<u64>) -> Option<String> {
    row.bare?;
    match measured {
        Some(measured) => baseline::regression(row.instructions, measured),
        None => Some(format!("not measured, recorded {}", row.instructions)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bare: Option<u64>) -> Row {
        Row {
            name: "no rules".to_owned(),
            instructions: 1000,
            bare,
            target: String::new(),
        }
    }

    #[test]
    fn parse_reads_rows_of_two_to_five_cells() {
        let line = parse("bench: no rules\t812\t1.04\t<= 900\t780").expect("a row");
        assert_eq!((line.name, line.instructions), ("no rules", Some(812)));
        assert_eq!(
            (line.ratio, line.target, line.bare),
            ("1.04", "<= 900", Some(780))
        );
        let line = parse("bench: bare bind\t780").expect("a row");
        assert_eq!((line.ratio, line.target, line.bare), ("", "", None));
        let line = parse("bench: Landlock\t-\t-\tnot measured: no").expect("a row");
        assert_eq!(line.instructions, None);
        assert_eq!(parse("bench: measuring"), None);
    }

    #[test]
    fn comparable_takes_off_the_change_of_a_bare_bind() {
        let line = parse("bench: no rules\t1180\t1.2\t\t980").expect("a row");
        assert_eq!(comparable(&row(Some(800)), &line), Some(1000));
        assert_eq!(comparable(&row(None), &line), Some(1180));
    }

    #[test]
    fn problem_is_a_regression_of_portguard_only() {
        assert_eq!(problem(&row(Some(800)), Some(1030)), None);
        let worse = problem(&row(Some(800)), Some(1031));
        assert!(worse.is_some_and(|why| why.contains("+3.1 %")));
        let missing = problem(&row(Some(800)), None);
        assert_eq!(missing.as_deref(), Some("not measured, recorded 1000"));
        assert_eq!(problem(&row(None), Some(2000)), None);
    }
}
