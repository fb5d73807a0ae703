//! The verb `verify`: what each program costs each kernel's verifier.

use crate::report::{self, Count};
use crate::vm::{self, GuestResult, GuestSpec, kernel};
use crate::{build, tools};
use anyhow::Result;
use std::collections::BTreeSet;
use std::process::ExitCode;

/// The most instructions that a program may cost: a tenth of what kernels allow.
const MOST: u64 = 100_000;

/// What a guest's own failure is named in place of a program.
const GUEST: &str = "(the guest)";

/// What a kernel said of a program.
#[derive(Debug, PartialEq, Eq)]
struct Verified {
    program: String,
    instructions: Option<u64>,
    refusal: Option<String>,
}

impl Verified {
    fn good(&self) -> bool {
        self.refusal.is_none() && self.instructions.is_none_or(|count| count <= MOST)
    }

    fn cell(&self) -> String {
        let count = self
            .instructions
            .map_or_else(|| "-".to_owned(), |count| count.to_string());
        match (&self.refusal, self.good()) {
            (Some(_), _) => "FAIL".to_owned(),
            (None, true) => count,
            (None, false) => format!("{count} FAIL"),
        }
    }
}

/// The verb `verify`.
pub(crate) fn run(series: &[String]) -> Result<ExitCode> {
    let series = kernel::selected(series)?;
    build::everything()?;
    let count = counts(&series)?;
    Ok(if count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Asks the kernels, prints the table, and counts each program on each kernel as a test.
pub(crate) fn counts(series: &[&str]) -> Result<Count> {
    tools::for_guests()?;
    let boots: Vec<GuestSpec> = series
        .iter()
        .map(|series| GuestSpec::new(series, "verify", &["verify"]))
        .collect();
    let ended = vm::boot_all(&boots);
    let columns = series.iter().zip(ended);
    let mut columns: Vec<(&str, Vec<Verified>)> = columns
        .map(|(series, ended)| (*series, column(ended, series)))
        .collect();
    missing(&mut columns);
    let mut count = Count::default();
    for (series, column) in &columns {
        for verified in column {
            count += Count::one(verified.good());
            if let Some(refusal) = &verified.refusal {
                println!("{series}: {}: {refusal}", verified.program);
            }
        }
    }
    show(&columns);
    Ok(count)
}

/// A kernel's programs; its own failure is one more, that was refused.
fn column(ended: Result<GuestResult>, series: &str) -> Vec<Verified> {
    let broken = |why: String| Verified {
        program: GUEST.to_owned(),
        instructions: None,
        refusal: Some(why),
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return vec![broken(format!("{error:#}"))],
    };
    let mut column: Vec<Verified> = ended.output.lines().filter_map(parse).collect();
    if column.is_empty() {
        column.push(broken(format!("{series} said nothing of any program")));
    } else if let (Some(failure), true) = (ended.failure, column.iter().all(Verified::good)) {
        column.push(broken(failure));
    }
    column
}

/// A program that one kernel names and another does not is refused by that other.
fn missing(columns: &mut [(&str, Vec<Verified>)]) {
    let verified = columns.iter().flat_map(|(_, column)| column);
    let programs: BTreeSet<String> = verified
        .map(|verified| verified.program.clone())
        .filter(|program| program != GUEST)
        .collect();
    for (_, column) in columns {
        for program in &programs {
            if !column.iter().any(|verified| verified.program == *program) {
                column.push(Verified {
                    program: program.clone(),
                    instructions: None,
                    refusal: Some("nothing was said of it".to_owned()),
                });
            }
        }
    }
}

/// A line `verify: NAME COUNT ok` or `verify: NAME COUNT FAIL MESSAGE`, where COUNT may be `-`.
fn parse(line: &str) -> Option<Verified> {
    let (_, rest) = line.split_once("verify: ")?;
    let mut words = rest.trim().splitn(4, ' ');
    let (program, instructions) = (words.next()?.to_owned(), words.next()?.parse().ok());
    let refusal = match (words.next(), words.next()) {
        (Some("ok"), _) => None,
        (_, message) => Some(message.unwrap_or("refused without a word").to_owned()),
    };
    Some(Verified {
        program,
        instructions,
        refusal,
    })
}

/// Prints programs by kernels.
fn show(columns: &[(&str, Vec<Verified>)]) {
    let mut header = vec!["program"];
    header.extend(columns.iter().map(|(series, _)| *series));
    let mut table = report::table(&header);
    let verified = columns.iter().flat_map(|(_, column)| column);
    let programs: BTreeSet<&str> = verified.map(|verified| verified.program.as_str()).collect();
    for program in programs {
        let cell = |column: &[Verified]| {
            let found = column.iter().find(|verified| verified.program == program);
            found.map(Verified::cell).unwrap_or_default()
        };
        let cells = columns.iter().map(|(_, column)| cell(column));
        table.add_row(std::iter::once(program.to_owned()).chain(cells));
    }
    println!("\nInstructions verified, of at most {MOST}:\n{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(output: &str, failure: Option<&str>) -> Result<GuestResult> {
        let failure = failure.map(str::to_owned);
        Ok(GuestResult {
            output: output.to_owned(),
            failure,
            seconds: 1.0,
        })
    }

    #[test]
    fn lines_are_read_with_counts_and_refusals() {
        let found = parse("verify: bind4+deny 3421 ok").expect("a line");
        assert_eq!(
            (found.program.as_str(), found.instructions),
            ("bind4+deny", Some(3421))
        );
        assert!(found.good());
        let refused = parse("[ 1.2] x verify: bind6 - FAIL unknown func | R1").expect("a line");
        assert_eq!(refused.refusal.as_deref(), Some("unknown func | R1"));
        assert!(!parse("verify: bind6 100001 ok").expect("a line").good());
        assert!(parse("verify: bind6 100000 ok").expect("a line").good());
        assert!(parse("verify: bind6 - ok").expect("a line").good());
        assert!(!parse("verify: bind6 17").expect("a line").good());
        assert_eq!(parse("hello"), None);
    }

    #[test]
    fn a_program_missing_on_one_kernel_is_a_failure() {
        let both = "verify: a 1 ok\nverify: b 2 ok\n";
        let mut columns = vec![
            ("6.1", column(ended(both, None), "6.1")),
            ("6.12", column(ended("verify: a 1 ok\n", None), "6.12")),
        ];
        missing(&mut columns);
        let good = |at: usize| columns[at].1.iter().all(Verified::good);
        assert!(good(0) && !good(1));
        assert_eq!(columns[1].1.len(), 2);
    }

    #[test]
    fn silence_and_a_broken_guest_are_failures() {
        assert!(!column(ended("", None), "6.1").iter().all(Verified::good));
        assert!(
            !column(ended("verify: a 1 ok\n", Some("panic")), "6.1")
                .iter()
                .all(Verified::good)
        );
        assert!(
            column(ended("verify: a 1 ok\n", None), "6.1")
                .iter()
                .all(Verified::good)
        );
    }
}
