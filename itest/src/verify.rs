//! `portguard-itest verify`: how many instructions of each program this kernel's verifier processes.
//!
//! One line per program: `verify: NAME INSTRUCTIONS ok` or `verify: NAME - FAIL MESSAGE`. The cgroup
//! programs are loaded twice, since the verifier sees other code if they also deny (`bind4+deny`).

use anyhow::{Context, ensure};
use aya::Btf;
use aya::programs::{Program, ProgramError};
use portguard::kernel::{Environment, GRANT_PROBE, Hook, KernelError, load_programs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::AsRawFd as _;

pub fn run() -> anyhow::Result<()> {
    let environment = Environment::probe();
    let mut refused = 0;
    for (hook, suffix) in [(Hook::Lsm, ""), (Hook::Cgroup, "+deny")] {
        match load_programs(&environment, hook, None) {
            Ok(mut loaded) => {
                for (name, program) in loaded.ebpf.programs_mut() {
                    let of_cgroup = matches!(program, Program::CgroupSockAddr(_));
                    // A kernel without grants rejects the probe, which is its purpose.
                    if name != GRANT_PROBE && (of_cgroup || hook == Hook::Lsm) {
                        let suffix = if of_cgroup { suffix } else { "" };
                        refused +=
                            usize::from(!verified(&format!("{name}{suffix}"), name, program));
                    }
                }
            }
            Err(error) => {
                refused += 1;
                failed(&program_of(&error, suffix), &error.to_string());
            }
        }
    }
    ensure!(refused == 0, "{refused} programs were rejected");
    Ok(())
}

/// The program that an error is about.
fn program_of(error: &KernelError, suffix: &str) -> String {
    match error {
        KernelError::Program { name, .. } => format!("{name}{suffix}"),
        _ => format!("object{suffix}"),
    }
}

/// Prints a rejection on one line.
fn failed(name: &str, text: &str) {
    println!("verify: {name} - FAIL {}", end_of_log(text));
}

/// The end of a verifier's log, where it says why it refused a program, on one line.
pub(crate) fn end_of_log(text: &str) -> String {
    let state = |line: &&str| {
        let of_register =
            line.starts_with('R') && line[1..].starts_with(|c: char| c.is_ascii_digit());
        let statistics = ["parent ", "verification time", "stack depth", "processed "];
        line.is_empty() || of_register || statistics.iter().any(|start| line.starts_with(start))
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !state(l)).collect();
    let end = lines
        .get(lines.len().saturating_sub(3)..)
        .unwrap_or_default();
    end.join(" | ")
}

/// Prints the line of a loaded program: whether its count is known.
fn verified(label: &str, name: &str, program: &mut Program) -> bool {
    let counted = program
        .info()
        .map_err(anyhow::Error::from)
        .map(|info| info.verified_instruction_count())
        .and_then(|count| {
            count.map_or_else(|| count_from_log(name, program), |n| Ok(u64::from(n)))
        });
    match counted {
        Ok(count) => println!("verify: {label} {count} ok"),
        Err(error) => {
            failed(label, &format!("{error:#}"));
            return false;
        }
    }
    true
}

/// The count from the verifier's own log, for kernels that do not keep it (before 5.16).
///
/// aya asks for the log only when a load fails; its last line has the count. So the program is
/// loaded again while no descriptor is free: it is verified in full, and then the load fails with EMFILE.
fn count_from_log(name: &str, program: &mut Program) -> anyhow::Result<u64> {
    let btf = Btf::from_sys_fs()?;
    unload(program)?;
    let usual = getrlimit(Resource::Nofile);
    let lowest_free = std::fs::File::open("/dev/null")?.as_raw_fd();
    let none_left = Rlimit {
        current: Some(u64::try_from(lowest_free)?),
        ..usual
    };
    setrlimit(Resource::Nofile, none_left)?;
    let refused = load(name, program, &btf);
    setrlimit(Resource::Nofile, usual)?;
    let Err(ProgramError::LoadError { verifier_log, .. }) = refused else {
        anyhow::bail!("loading without a descriptor ended with {refused:?}");
    };
    processed(&verifier_log.to_string())
}

fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Lsm(lsm) => lsm.unload(),
        Program::CgroupSockAddr(bind) => bind.unload(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn load(name: &str, program: &mut Program, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::Lsm(lsm) => lsm.load(name, btf),
        Program::CgroupSockAddr(bind) => bind.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The number in `processed 3421 insns (limit 1000000) ...`, the log's last line.
fn processed(log: &str) -> anyhow::Result<u64> {
    let (_, after) = log
        .rsplit_once("processed ")
        .context("the verifier log has no count")?;
    let number = after.split(' ').next().unwrap_or_default();
    number
        .parse()
        .with_context(|| format!("the verifier log has `processed {number}`"))
}

#[cfg(test)]
mod tests {
    use super::processed;

    #[test]
    fn count_is_read_from_last_line() {
        let log = "func#0 @0\nprocessed by hand\nprocessed 3421 insns (limit 1000000) max_states_per_insn 4\n";
        assert_eq!(processed(log).ok(), Some(3421));
        assert!(processed("unknown func bpf_probe_read#4").is_err());
    }
}
