//! Soak: binds at full load with reloads, restarts and kills. After each part the sums must be exact: binds made,
//! decisions counted, decisions reported or counted as dropped.

use crate::harness::events::decisions;
use crate::harness::instance::{Instance, program};
use crate::harness::probe::inet;
use crate::harness::raw_syscalls;
use crate::harness::{Kind, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::process::{Signal, Uid};
use rustix::thread::set_thread_res_uid;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Two policies that deny the same by different tables.
const POLICIES: [&str; 2] = [
    "version: 1\nrules:\n  - { name: all, action: deny, ports: [\"600-1023\"] }\n",
    "version: 1\nrules:\n  - { name: v4, action: deny, ports: [\"600-1023\"], addresses: [127.0.0.0/8], cgroups: [\"/**\"] }\n",
];

/// The uids that bind, each in its own process.
const UIDS: [u32; 3] = [0, 1000, 1001];

/// How one part of a soak ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// SIGTERM: all decisions are reported first.
    Term,
    /// SIGKILL: only decisions that the daemon had read and not yet written are lost.
    Kill,
}

/// Resources of the daemon.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// Resident memory, KiB.
    resident: u64,
    /// Open descriptors.
    descriptors: usize,
}

/// The verb `soak`: ten parts in this guest.
pub fn run_alone(duration: Duration) -> anyhow::Result<()> {
    run(&TestEnv::new(Kind::Guest)?, 10, duration / 10)
}

/// Runs `parts` parts of length `each`.
pub fn run(env: &TestEnv, parts: u32, each: Duration) -> anyhow::Result<()> {
    let mut usages = Vec::new();
    let (mut decided, mut unreported) = (0, 0);
    for part in 0..parts {
        let end = if part % 3 == 1 { End::Kill } else { End::Term };
        let (binds, reported, usage) = one_part(env, each, end, decided)
            .with_context(|| format!("part {part}, which ends by {end:?}"))?;
        // The next daemon reports what a killed one had not read.
        let most = binds + unreported;
        let least = if end == End::Term { binds } else { 0 };
        ensure!(
            (least..=most).contains(&reported),
            "part {part}: {reported} reported of {binds} and at most {unreported} before"
        );
        unreported = if end == End::Term { 0 } else { most - reported };
        decided += binds;
        println!(
            "soak: part {part} ({end:?}): {binds} binds refused, {} KiB resident, {} descriptors",
            usage.resident, usage.descriptors
        );
        usages.push(usage);
    }
    detach()?;
    let (first, last) = (
        usages.first().context("a part")?,
        usages.last().context("a part")?,
    );
    ensure!(
        last.resident <= first.resident + first.resident / 4,
        "memory grows: {usages:?}"
    );
    ensure!(
        last.descriptors <= first.descriptors + 1,
        "descriptors grow: {usages:?}"
    );
    println!("soak: {decided} binds, each refused and counted once");
    Ok(())
}

fn detach() -> anyhow::Result<()> {
    let socket = "/nonexistent/socket";
    let status = Command::new(program())
        .args(["detach", "--socket", socket])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "detach ended with {status}");
    Ok(())
}

/// One daemon from start to end: binds made, decisions reported, and resources used.
fn one_part(
    env: &TestEnv,
    each: Duration,
    end: End,
    before: u64,
) -> anyhow::Result<(u64, u64, Usage)> {
    let mut instance = Instance::start_by(env, POLICIES[0], env.auto_hook(), &["--pin"])?;
    let refusal = env.denial(instance.hook);
    let binders: Vec<Child> = UIDS
        .iter()
        .map(|uid| binder(*uid, refusal, each))
        .collect::<Result<_, _>>()?;
    let until = Instant::now() + each;
    let (mut reported, mut reloads) = (0, 0usize);
    while Instant::now() < until {
        reloads += 1;
        instance.reload(POLICIES[reloads % 2])?;
        reported += decisions(&instance.lines(), None)?;
    }
    let mut binds = 0;
    for child in binders {
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "a binder ended with {}",
            output.status
        );
        binds += String::from_utf8(output.stdout)?.trim().parse::<u64>()?;
    }
    let usage = Usage::of(instance.pid())?;
    let status = instance.status()?;
    let deny = status["decisions"]["deny"].as_u64().context("deny")?;
    ensure!(
        deny == before + binds,
        "{binds} binds, {} decisions",
        deny - before
    );
    let total = |status: &Value| -> u64 {
        let dropped = status["dropped"].as_object().into_iter().flatten();
        dropped.filter_map(|(_, count)| count.as_u64()).sum()
    };
    let dropped = total(&status);
    ensure!(dropped == 0, "{dropped} decisions are dropped: {status}");
    let ended = instance.end(if end == End::Kill {
        Signal::KILL
    } else {
        Signal::TERM
    })?;
    reported += decisions(&ended.stdout, None)?;
    Ok((binds, reported, usage))
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .context("VmRSS")?;
        Ok(Self {
            resident: resident.parse()?,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

fn binder(uid: u32, refusal: i32, each: Duration) -> std::io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg("soak-binds")
        .args([
            uid.to_string(),
            refusal.to_string(),
            each.as_millis().to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
}

/// The verb `soak-binds`: binds as `uid` until `each` has passed, and prints the number; each must end with `refusal`.
pub fn binds(uid: u32, refusal: i32, each: Duration) -> anyhow::Result<()> {
    let id = Uid::from_raw(uid);
    set_thread_res_uid(id, id, id)?;
    let socket = raw_syscalls::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
        .map_err(std::io::Error::from_raw_os_error)?;
    let until = Instant::now() + each;
    let mut made = 0u64;
    while Instant::now() < until {
        // Forty ports make many aggregates with many decisions each.
        for port in 600..640 {
            let errno = raw_syscalls::bind(
                socket.as_fd(),
                &inet(libc::AF_INET, Ipv4Addr::LOCALHOST, port),
                16,
            );
            ensure!(
                errno == refusal,
                "uid {uid}, port {port}: errno {errno}, not {refusal}"
            );
            made += 1;
        }
    }
    println!("{made}");
    Ok(())
}
