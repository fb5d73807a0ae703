//! The guests of `test`: which are booted, and what their tests report.

use super::summary::Steps;
use crate::build::Profile;
use crate::results::{self, StepResult};
use crate::vm::{self, GuestResult, GuestSpec};
use crate::{shell, verify};
use anyhow::Result;

/// The kernels that are booted with systemd too: the oldest, the current and the newest. Guests with these also run
/// the long tests, if BPF is among their LSMs.
const SYSTEMD: [&str; 3] = ["5.10", "6.12", "7.2"];

/// The name of the guests with BPF among their LSMs.
const LSM: &str = "lsm";

/// What counts the instructions that the verifier checks, and the name of its step.
const VERIFY: &str = "verify";

/// The guests to boot: each kernel with the BPF LSM and without it, and some with systemd. A filter that begins with
/// `systemd` selects only those with systemd, any other filter only the rest. Without a filter the guests with the
/// LSM also verify the programs.
pub(super) fn guests(series: &[&str], filter: Option<&str>) -> Vec<GuestSpec> {
    let of_systemd = filter.is_some_and(|filter| filter.starts_with("systemd"));
    let mut guests = Vec::new();
    for series in series {
        for (name, bpf_lsm) in [(LSM, true), ("no-lsm", false)] {
            let mut guest = GuestSpec::new(series, name, &["guest"]);
            guest.bpf_lsm = bpf_lsm;
            guest
                .arguments
                .extend((!bpf_lsm).then(|| "--no-bpf-lsm".to_owned()));
            guests.extend((!of_systemd).then_some(guest));
        }
        if SYSTEMD.contains(series) {
            let mut guest = GuestSpec::new(series, "systemd", &["systemd"]);
            guest.systemd = true;
            guests.extend((of_systemd || filter.is_none()).then_some(guest));
        }
    }
    for guest in &mut guests {
        guest.profile = Profile::Suite;
        guest.arguments.extend(filter.map(str::to_owned));
        if verifies(guest, filter) {
            guest.arguments = verifying(&guest.arguments);
        }
    }
    // The longest first, so that none of them runs alone at the end.
    guests.sort_by_key(|guest| guest.name != LSM || !SYSTEMD.contains(&guest.series.as_str()));
    guests
}

/// The guest of `test --quick`: the programs are verified, and the tests of decisions run.
pub(super) fn quick_guest() -> Vec<GuestSpec> {
    let mut guest = GuestSpec::new("6.12", LSM, &[]);
    guest.profile = Profile::Suite;
    guest.bpf_lsm = true;
    guest.arguments =
        verifying(&["/bin/portguard-itest", "guest", "--decisions"].map(str::to_owned));
    vec![guest]
}

fn verifies(guest: &GuestSpec, filter: Option<&str>) -> bool {
    guest.name == LSM && filter.is_none()
}

/// A command that verifies the programs and then runs this one, whose exit code is its own.
fn verifying(arguments: &[String]) -> Vec<String> {
    let tests = shell::quoted_words(arguments);
    let line = format!("/bin/portguard-itest {VERIFY}; exec {tests}");
    vec!["sh".to_owned(), "-c".to_owned(), line]
}

/// Downloads what these guests need and packs their files.
pub(super) fn prepare(guests: &[GuestSpec]) -> Result<()> {
    guests
        .iter()
        .try_for_each(|guest| vm::prepare(guest).map(|_| ()))
}

/// Boots the guests and adds their steps.
pub(super) fn run(steps: &Steps, guests: &[GuestSpec], filter: Option<&str>) {
    let booted = vm::boot_all(guests);
    let mut verified = Vec::new();
    for (guest, booted) in guests.iter().zip(booted) {
        if verifies(guest, filter) {
            let output = booted.as_ref().map(|booted| booted.output.clone());
            let output = output.map_err(|error| format!("{error:#}"));
            verified.push((guest.series.clone(), output));
        }
        let seconds = booted.as_ref().ok().map(|booted| booted.seconds);
        let name = format!("guest {} {}", guest.series, guest.name);
        steps.add(&name, booted.map(|booted| result(&booted)), seconds);
    }
    if !verified.is_empty() {
        verified.sort_by_key(|(series, _)| crate::vm::kernel::all().position(|of| of == series));
        steps.add(VERIFY, verify::compared(&verified), None);
    }
}

/// Adds the steps of guests that cannot be booted.
pub(super) fn not_booted(steps: &Steps, guests: &[GuestSpec]) {
    for guest in guests {
        let name = format!("guest {} {}", guest.series, guest.name);
        let why = Err(anyhow::anyhow!("not booted: an earlier step failed"));
        steps.add(&name, why, None);
    }
}

/// The result of the tests in a guest; the end of its console where they did not finish.
fn result(guest: &GuestResult) -> StepResult {
    let mut result = match results::final_count(&guest.output) {
        Some(count) => StepResult::of_tests(count.and_exit(guest.failure.is_none()), &guest.output),
        None => StepResult::failed(format!(
            "{}\nthe tests did not finish",
            results::last_lines(&guest.output)
        )),
    };
    if result.count.failed > 0 {
        result.failures.extend(guest.failure.clone());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Count;

    #[test]
    fn filter_selects_the_kind_of_guest() {
        let named = |filter| -> Vec<String> {
            let guests = guests(&["6.1", "6.12"], filter);
            guests.into_iter().map(|guest| guest.name).collect()
        };
        assert_eq!(named(None), ["lsm", "lsm", "no-lsm", "no-lsm", "systemd"]);
        assert_eq!(named(Some("storm")), ["lsm", "lsm", "no-lsm", "no-lsm"]);
        assert_eq!(named(Some("systemd_kill")), ["systemd"]);
    }

    #[test]
    fn ci_tests_every_kernel() {
        let workflow = crate::repo::path(".github/workflows/ci.yml");
        let workflow = std::fs::read_to_string(workflow).expect("a workflow");
        let all: Vec<String> = vm::kernel::all()
            .map(|series| format!("\"{series}\""))
            .collect();
        assert!(workflow.contains(&format!("kernel: [{}]\n", all.join(", "))));
    }

    #[test]
    fn guests_with_the_lsm_verify_unless_filtered() {
        let command = |filter| -> Vec<String> {
            let guests = guests(&["6.1"], filter);
            guests
                .into_iter()
                .map(|guest| shell::quoted_words(&guest.arguments))
                .collect()
        };
        let lsm = "sh -c '/bin/portguard-itest verify; exec /bin/portguard-itest guest'";
        let no_lsm = "/bin/portguard-itest guest --no-bpf-lsm";
        assert_eq!(command(None), [lsm, no_lsm]);
        assert_eq!(command(Some("a"))[0], "/bin/portguard-itest guest a");
        let quick = quick_guest();
        let decisions =
            "sh -c '/bin/portguard-itest verify; exec /bin/portguard-itest guest --decisions'";
        assert_eq!(shell::quoted_words(&quick[0].arguments), decisions);
        assert_eq!(quick.len(), 1);
    }

    #[test]
    fn result_of_an_unfinished_guest_has_its_last_lines() {
        let of = |output: &str, failure: Option<&str>| {
            result(&GuestResult {
                output: output.to_owned(),
                failure: failure.map(str::to_owned),
                seconds: 1.0,
            })
        };
        let good = of("ok a\n1 passed, 0 failed\n", None);
        assert_eq!(good, Count::one(true).into());
        let failed = of("FAIL a: no\n0 passed, 1 failed\n", Some("exit code 1"));
        assert_eq!(failed.failures, ["FAIL a: no", "exit code 1"]);
        let died = of("ok a\nok b\nBUG: bad\n", Some("Kernel panic"));
        assert_eq!(
            died.failures,
            [
                "ok a\nok b\nBUG: bad\nthe tests did not finish",
                "Kernel panic"
            ]
        );
        assert_eq!(died.count, Count::one(false));
    }
}
