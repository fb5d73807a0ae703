//! A storm of binds with mixed verdicts: threads with uids and cgroups of their own, all at once.

use super::policy::{JAIL_RULE, POLICY};
use super::stage::Stage;
use crate::attack::actors::{THREADS, THREADS_FREE, THREADS_JAIL};
use crate::harness::TestEnv;
use crate::harness::cgroups::enter;
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

/// Processes, and binds of each of their four threads: 10,000 binds.
const PROCESSES: u8 = 2;
const BINDS: u16 = 1250;

/// The uid of a thread, and whether it is jailed.
const THREADS_OF_EACH: [(u32, bool); 4] = [(0, false), (33, false), (1000, false), (0, true)];

/// The binds of one process by verdict.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    allow: u64,
    deny: u64,
    kernel: u64,
    /// The first few binds with an unexpected errno.
    failures: Vec<String>,
}

/// What denials and grants are on this machine.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Effects {
    denial: i32,
    grants: bool,
}

pub(super) fn storm(env: &TestEnv) -> anyhow::Result<()> {
    let stage = Stage::build(env)?;
    for hook in env.deciding_hooks() {
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        let effects = Effects {
            denial: env.denial(hook),
            grants: env.grants(),
        };
        let effects = serde_json::to_string(&effects)?;
        let children: Vec<_> = (0..PROCESSES)
            .map(|number| {
                Command::new("/proc/self/exe")
                    .args(["storm", &number.to_string()])
                    .arg(&stage.root)
                    .arg(&effects)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .spawn()
            })
            .collect::<Result<_, _>>()?;
        let mut sum = Tally::default();
        for child in children {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "it ended with {}", output.status);
            sum.add(serde_json::from_slice(&output.stdout)?);
        }
        ensure!(
            sum.failures.is_empty(),
            "{hook}: {}",
            sum.failures.join("; ")
        );
        let all = sum.allow + sum.deny + sum.kernel;
        ensure!(all == 10_000, "{all} binds");
        let stderr = instance.stop()?.stderr;
        let counted = format!(
            "decided {all}: {} allow, {} deny, {} kernel;",
            sum.allow, sum.deny, sum.kernel
        );
        ensure!(
            stderr.contains(&counted),
            "{hook}: not {counted:?}:\n{stderr}"
        );
        println!("storm: {hook}: {counted}");
    }
    Ok(())
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.allow += other.allow;
        self.deny += other.deny;
        self.kernel += other.kernel;
        self.failures.extend(other.failures);
    }
}

/// The verb `storm`: one process of the storm.
pub fn run(number: u8, root: &Path, effects: &str) -> anyhow::Result<()> {
    let effects: Effects = serde_json::from_str(effects)?;
    enter(&root.join(THREADS), "cgroup.procs")?;
    let sum = std::thread::scope(|scope| {
        let threads: Vec<_> = (0u8..)
            .zip(THREADS_OF_EACH)
            .map(|(thread, (uid, jailed))| {
                scope.spawn(move || {
                    let cgroup = if jailed { THREADS_JAIL } else { THREADS_FREE };
                    enter(&root.join(cgroup), "cgroup.threads")?;
                    let id = Uid::from_raw(uid);
                    set_thread_res_uid(id, id, id)?;
                    // Each thread has its own address, so no port is in use.
                    let address = Ipv4Addr::new(127, 1, number, thread + 1);
                    binds(address, (uid, jailed), effects)
                })
            })
            .collect();
        let mut sum = Tally::default();
        for thread in threads {
            sum.add(thread.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        anyhow::Ok(sum)
    })?;
    println!("{}", serde_json::to_string(&sum)?);
    Ok(())
}

fn binds(address: Ipv4Addr, (uid, jailed): (u32, bool), effects: Effects) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let by_kernel = if uid == 0 { 0 } else { libc::EACCES };
    for i in 0..BINDS {
        let port = 100 * (1 + i % 4) + i / 4 % 100;
        let expected = match port / 100 {
            1 if uid == 33 => {
                tally.allow += 1;
                if effects.grants { 0 } else { by_kernel }
            }
            2 => {
                tally.deny += 1;
                effects.denial
            }
            JAIL_RULE if jailed => {
                tally.deny += 1;
                effects.denial
            }
            _ => {
                tally.kernel += 1;
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
        if errno != expected && tally.failures.len() < 5 {
            tally.failures.push(format!(
                "uid {uid}, port {port}: errno {errno}, expected {expected}"
            ));
        }
    }
    Ok(tally)
}
