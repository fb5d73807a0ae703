//! A storm of binds with mixed verdicts: threads with uids and cgroups of their own, all at once.

use super::{JAIL_RULE, POLICY, Stage, enter};
use crate::attack::actors::{THREADS, THREADS_FREE, THREADS_JAIL};
use crate::harness::TestEnv;
use crate::harness::instance::Instance;
use crate::harness::raw_syscalls;
use anyhow::{anyhow, ensure};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Processes, threads of each, binds of each thread: 10,000.
const PROCESSES: u8 = 2;
const BINDS: u16 = 1250;

/// The uid of a thread, and whether it is jailed.
const THREADS_OF_EACH: [(u32, bool); 4] = [(0, false), (33, false), (1000, false), (0, true)];

/// What a process of the storm met.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Met {
    allow: u64,
    deny: u64,
    kernel: u64,
    /// What went otherwise than it must: the first few.
    wrong: Vec<String>,
}

/// What this machine makes of verdicts.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Outcome {
    denial: i32,
    grants: bool,
}

pub(super) fn storm(env: &TestEnv) -> anyhow::Result<()> {
    let stage = Stage::build(env)?;
    for hook in env.deciding_hooks() {
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        let outcome = Outcome {
            denial: env.denial(hook),
            grants: env.grants(),
        };
        let outcome = serde_json::to_string(&outcome)?;
        let children: Vec<_> = (0..PROCESSES)
            .map(|number| {
                Command::new("/proc/self/exe")
                    .args(["storm", &number.to_string()])
                    .arg(&stage.root)
                    .arg(&outcome)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .spawn()
            })
            .collect::<Result<_, _>>()?;
        let mut sum = Met::default();
        for child in children {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "it ended with {}", output.status);
            sum.add(serde_json::from_slice(&output.stdout)?);
        }
        ensure!(sum.wrong.is_empty(), "{hook}: {}", sum.wrong.join("; "));
        let all = sum.allow + sum.deny + sum.kernel;
        ensure!(all == 10_000, "{all} binds");
        let said = instance.stop()?.said;
        let counted = format!(
            "decided {all}: {} allow, {} deny, {} kernel;",
            sum.allow, sum.deny, sum.kernel
        );
        ensure!(
            said.contains(&counted),
            "{hook}: the counters are not {counted}\n{said}"
        );
        println!("storm: {hook}: {counted}");
    }
    Ok(())
}

impl Met {
    fn add(&mut self, other: Self) {
        self.allow += other.allow;
        self.deny += other.deny;
        self.kernel += other.kernel;
        self.wrong.extend(other.wrong);
    }
}

/// The verb `storm`: one process of it.
pub fn run(number: u8, root: &Path, outcome: &str) -> anyhow::Result<()> {
    let outcome: Outcome = serde_json::from_str(outcome)?;
    enter(root, THREADS, "cgroup.procs")?;
    let sum = std::thread::scope(|scope| {
        let threads: Vec<_> = (0u8..)
            .zip(THREADS_OF_EACH)
            .map(|(thread, (uid, jailed))| {
                scope.spawn(move || {
                    enter(
                        root,
                        if jailed { THREADS_JAIL } else { THREADS_FREE },
                        "cgroup.threads",
                    )?;
                    let id = Uid::from_raw(uid);
                    set_thread_res_uid(id, id, id)?;
                    // An address of its own: no bind finds its port taken.
                    let address = Ipv4Addr::new(127, 1, number, thread + 1);
                    binds(address, (uid, jailed), outcome)
                })
            })
            .collect();
        let mut sum = Met::default();
        for thread in threads {
            sum.add(thread.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        anyhow::Ok(sum)
    })?;
    println!("{}", serde_json::to_string(&sum)?);
    Ok(())
}

fn binds(address: Ipv4Addr, (uid, jailed): (u32, bool), outcome: Outcome) -> anyhow::Result<Met> {
    let mut met = Met::default();
    let by_kernel = if uid == 0 { 0 } else { libc::EACCES };
    for i in 0..BINDS {
        let port = 100 * (1 + i % 4) + i / 4 % 100;
        let want = match port / 100 {
            1 if uid == 33 => {
                met.allow += 1;
                if outcome.grants { 0 } else { by_kernel }
            }
            2 => {
                met.deny += 1;
                outcome.denial
            }
            JAIL_RULE if jailed => {
                met.deny += 1;
                outcome.denial
            }
            _ => {
                met.kernel += 1;
                by_kernel
            }
        };
        let kind = if i % 3 == 0 {
            libc::SOCK_DGRAM
        } else {
            libc::SOCK_STREAM
        };
        let socket = raw_syscalls::socket(libc::AF_INET, kind, 0)
            .map_err(std::io::Error::from_raw_os_error)?;
        let bytes = crate::harness::probe::inet(libc::AF_INET, address, port);
        let errno = raw_syscalls::bind(socket.as_fd(), &bytes, 16);
        if errno != want && met.wrong.len() < 5 {
            met.wrong
                .push(format!("uid {uid}, port {port}: errno {errno}, not {want}"));
        }
    }
    Ok(met)
}
