//! The verb `verify`: how many instructions each kernel's verifier checks of each program.

use crate::baseline::{self, Baseline, Mode, Recorded};
use crate::build::{self, Profile};
use crate::results::{Count, StepResult};
use crate::vm::{self, GuestSpec, kernel};
use crate::{performance_page, report, tools};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::process::ExitCode;

/// The most instructions that a program may cost, so that a change that makes a kernel's verifier walk more ways is
/// found long before the kernel refuses the program, at a million.
const LIMIT: u64 = 100_000;

/// The name under which a failed guest is listed among the programs.
const GUEST: &str = "(guest)";

/// The console of a guest that verified, or why there is none.
pub(crate) type Console = Result<String, String>;

/// A program on a kernel.
#[derive(Debug, PartialEq, Eq)]
struct Verified {
    program: String,
    instructions: Option<u64>,
    /// The recorded count.
    recorded: Option<u64>,
    refusal: Option<String>,
}

impl Verified {
    fn failed(program: &str, why: String) -> Self {
        Self {
            program: program.to_owned(),
            instructions: None,
            recorded: None,
            refusal: Some(why),
        }
    }

    /// Why it is a failure, if it is.
    fn problem(&self) -> Option<String> {
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        let count = self.instructions?;
        if count > LIMIT {
            return Some(format!("{count} instructions, limit {LIMIT}"));
        }
        baseline::regression(self.recorded?, count)
    }

    fn cell(&self) -> String {
        let Some(count) = self.instructions else {
            let ok = self.refusal.is_none();
            return if ok { "-" } else { "FAIL" }.to_owned();
        };
        let change = self
            .recorded
            .map(|recorded| baseline::change(recorded, count));
        let failed = self.problem().map(|_| "FAIL".to_owned());
        let parts = [Some(count.to_string()), change, failed];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// The programs on one kernel.
struct Column {
    series: String,
    programs: Vec<Verified>,
}

impl Column {
    fn has(&self, program: &str) -> bool {
        self.programs.iter().any(|found| found.program == program)
    }
}

/// The verb `verify`.
pub(crate) fn run(series: &[String], mode: Mode) -> Result<ExitCode> {
    let series = kernel::selected(series)?;
    build::everything(Profile::Release)?;
    tools::for_guests()?;
    let guests: Vec<GuestSpec> = series
        .iter()
        .map(|series| GuestSpec::new(series, "verify", &["verify"]))
        .collect();
    let consoles: Vec<(String, Console)> = vm::boot_all(&guests)
        .into_iter()
        .zip(&series)
        .map(|(booted, series)| {
            let console = booted.map(|booted| booted.output);
            (
                (*series).to_owned(),
                console.map_err(|error| format!("{error:#}")),
            )
        })
        .collect();
    let mut columns = columns(&consoles);
    if mode == Mode::Compare {
        compare(&mut columns, &baseline::load()?);
    }
    let result = result(&columns);
    if mode == Mode::Record {
        ensure!(result.count.failed == 0, "not recorded: a program failed");
        record(&columns)?;
    }
    for failure in &result.failures {
        println!("{failure}");
    }
    Ok(if result.count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Compares what guests have verified with the recorded figures: each program on each kernel counts as a test.
pub(crate) fn compared(consoles: &[(String, Console)]) -> Result<StepResult> {
    let mut columns = columns(consoles);
    compare(&mut columns, &baseline::load()?);
    Ok(result(&columns))
}

/// Reads the consoles.
fn columns(consoles: &[(String, Console)]) -> Vec<Column> {
    let mut columns: Vec<Column> = consoles
        .iter()
        .map(|(series, console)| Column {
            series: series.clone(),
            programs: programs(console),
        })
        .collect();
    // A program that one kernel reports and another does not has failed on the other.
    let all: BTreeSet<String> = columns
        .iter()
        .flat_map(|column| &column.programs)
        .map(|verified| verified.program.clone())
        .filter(|program| program != GUEST)
        .collect();
    for column in &mut columns {
        for program in &all {
            if !column.has(program) {
                let why = "not reported by the guest".to_owned();
                column.programs.push(Verified::failed(program, why));
            }
        }
    }
    columns
}

/// The programs in the console of a guest; the failure of the guest is listed as one.
fn programs(console: &Console) -> Vec<Verified> {
    match console {
        Err(error) => vec![Verified::failed(GUEST, error.clone())],
        Ok(output) => {
            let programs: Vec<Verified> = output.lines().filter_map(parse).collect();
            if programs.is_empty() {
                vec![Verified::failed(
                    GUEST,
                    "the guest reported no program".to_owned(),
                )]
            } else {
                programs
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
        (_, message) => Some(message.unwrap_or("refused without a message").to_owned()),
    };
    Some(Verified {
        program,
        instructions,
        recorded: None,
        refusal,
    })
}

/// Adds the recorded counts. A recorded program that a guest did not report is a failure, and so is a kernel
/// without recorded programs.
fn compare(columns: &mut [Column], baseline: &Baseline<baseline::Verified>) {
    for column in columns {
        let Some(recorded) = baseline.get(&column.series) else {
            let why = format!(
                "no recorded figures: record them with `cargo xtask verify --vm {} --record`",
                column.series
            );
            column.programs.push(Verified::failed(GUEST, why));
            continue;
        };
        for verified in &mut column.programs {
            verified.recorded = recorded.figures.get(&verified.program).copied();
        }
        for (program, count) in &recorded.figures {
            if !column.has(program) {
                let why =
                    format!("recorded with {count} instructions, and not reported by the guest");
                column.programs.push(Verified::failed(program, why));
            }
        }
    }
}

/// Records the counts and updates the page of figures.
fn record(columns: &[Column]) -> Result<()> {
    let mut new = Baseline::new();
    for column in columns {
        let counted = column.programs.iter();
        let figures =
            counted.filter_map(|verified| Some((verified.program.clone(), verified.instructions?)));
        let recorded = Recorded {
            kernel: kernel::package(&column.series)?,
            figures: figures.collect::<baseline::Verified>(),
        };
        new.insert(column.series.clone(), recorded);
    }
    baseline::record(new)?;
    performance_page::update()
}

/// Prints the table and counts the programs.
fn result(columns: &[Column]) -> StepResult {
    show(columns);
    let mut result = StepResult::default();
    for column in columns {
        for verified in &column.programs {
            let problem = verified.problem();
            result.count += Count::one(problem.is_none());
            let named = |problem| format!("{}: {}: {problem}", column.series, verified.program);
            result.failures.extend(problem.map(named));
        }
    }
    result
}

/// Prints programs by kernels.
fn show(columns: &[Column]) {
    let mut header = vec!["program"];
    header.extend(columns.iter().map(|column| column.series.as_str()));
    let mut table = report::table(&header);
    let programs: BTreeSet<&str> = columns
        .iter()
        .flat_map(|column| &column.programs)
        .map(|verified| verified.program.as_str())
        .collect();
    for program in programs {
        let cells = columns.iter().map(|column| {
            let mut programs = column.programs.iter();
            let found = programs.find(|verified| verified.program == program);
            found.map(Verified::cell).unwrap_or_default()
        });
        table.add_row(std::iter::once(program.to_owned()).chain(cells));
    }
    println!("\nInstructions verified, limit {LIMIT}:\n{table}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn consoles(outputs: &[(&str, &str)]) -> Vec<(String, Console)> {
        let owned =
            |(series, output): &(&str, &str)| ((*series).to_owned(), Ok((*output).to_owned()));
        outputs.iter().map(owned).collect()
    }

    fn problems(columns: &[Column]) -> Vec<String> {
        result(columns).failures
    }

    #[test]
    fn parse_reads_counts_and_refusals() {
        let found = parse("verify: bind4+deny 3421 ok").expect("a line");
        assert_eq!(
            (found.program.as_str(), found.instructions),
            ("bind4+deny", Some(3421))
        );
        assert_eq!(found.problem(), None);
        let refused = parse("[ 1.2] x verify: bind6 - FAIL unknown func | R1").expect("a line");
        assert_eq!(refused.problem().as_deref(), Some("unknown func | R1"));
        let over = parse("verify: bind6 100001 ok").expect("a line");
        assert_eq!(
            over.problem().as_deref(),
            Some("100001 instructions, limit 100000")
        );
        assert_eq!(over.cell(), "100001 FAIL");
        assert_eq!(
            parse("verify: bind6 100000 ok").expect("a line").problem(),
            None
        );
        assert_eq!(parse("verify: bind6 - ok").expect("a line").cell(), "-");
        assert!(
            parse("verify: bind6 17")
                .expect("a line")
                .problem()
                .is_some()
        );
        assert_eq!(parse("hello"), None);
    }

    #[test]
    fn program_missing_on_one_kernel_is_a_failure() {
        let both = "verify: a 1 ok\nverify: b 2 ok\n";
        let columns = columns(&consoles(&[("6.1", both), ("6.12", "verify: a 1 ok\n")]));
        assert_eq!(problems(&columns), ["6.12: b: not reported by the guest"]);
    }

    #[test]
    fn guest_without_programs_is_a_failure() {
        let columns = columns(&[
            ("6.1".to_owned(), Ok("hello".to_owned())),
            ("6.12".to_owned(), Err("no kernel".to_owned())),
        ]);
        let expected = [
            "6.1: (guest): the guest reported no program",
            "6.12: (guest): no kernel",
        ];
        assert_eq!(problems(&columns), expected);
    }

    #[test]
    fn compare_finds_regressions_and_missing_programs() {
        let recorded = Recorded {
            kernel: "linux".to_owned(),
            figures: BTreeMap::from(
                [("a", 100), ("b", 100), ("c", 7)].map(|(n, c)| (n.to_owned(), c)),
            ),
        };
        let baseline = Baseline::from([("6.1".to_owned(), recorded)]);
        let output = "verify: a 103 ok\nverify: b 104 ok\nverify: new 5 ok\n";
        let mut columns = columns(&consoles(&[("6.1", output), ("6.12", output)]));
        compare(&mut columns, &baseline);
        let expected = [
            "6.1: b: 104 instructions, recorded 100: +4.0 %, more than 3 % worse",
            "6.1: c: recorded with 7 instructions, and not reported by the guest",
            "6.12: (guest): no recorded figures: record them with `cargo xtask verify --vm 6.12 --record`",
        ];
        assert_eq!(problems(&columns), expected);
        assert_eq!(columns[0].programs[0].cell(), "103 +3.0 %");
        assert_eq!(columns[0].programs[2].cell(), "5");
    }
}
