//! Readers of decisions: too many, too slow, gone.

use crate::harness::Table;
use crate::harness::bind_load::BindLoad;
use crate::harness::events::decisions;
use crate::harness::instance::Instance;
use crate::harness::lines::DEADLINE;
use crate::harness::{Needs, TestEnv};
use crate::scenarios::checks::{deny, errno_of, expect_decision};
use crate::scenarios::pins::{POLICY, denied, enforced};
use anyhow::{Context as _, anyhow, ensure};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, getrlimit, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

pub(super) const TESTS: Table = &[
    ("fault_monitors", Needs::Guest, fault_monitors),
    ("fault_dead_reader", Needs::Guest, fault_dead_reader),
    ("fault_journald_killed", Needs::Guest, fault_journald_killed),
];

/// Monitors that each of two users tries to start.
const ATTEMPTS: usize = 400;
/// A uid and gid of the guest.
const MEMBER: u32 = 1000;

/// The resident memory of a process in KiB, and its descriptors.
fn weight(pid: u32) -> anyhow::Result<(u64, usize)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let memory = memory.context("VmRSS")?.trim().parse()?;
    Ok((
        memory,
        std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
    ))
}

/// Requests to monitor, as this thread's user: the connection, and whether it was accepted.
fn monitor(socket: &Path) -> anyhow::Result<(UnixStream, bool)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    // The daemon may have closed a refused connection already.
    let _ = stream.write_all(b"{\"request\":\"monitor\"}\n");
    let mut line = String::new();
    match BufReader::new(&stream).read_line(&mut line) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        read => drop(read?),
    }
    Ok((stream, line.contains("monitoring")))
}

/// As many monitors of one uid as are accepted.
fn monitors(socket: &Path, user: u32) -> anyhow::Result<Vec<UnixStream>> {
    let socket = socket.to_owned();
    let thread = std::thread::spawn(move || {
        // The ids of this thread alone, which the kernel reports to the daemon.
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        let mut streams = Vec::new();
        for _ in 0..ATTEMPTS {
            let (stream, accepted) = monitor(&socket)?;
            if accepted {
                streams.push(stream);
            }
        }
        anyhow::Ok(streams)
    });
    thread.join().map_err(|_| anyhow!("the thread panicked"))?
}

fn fault_monitors(env: &TestEnv) -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: most,
        },
    )?;
    let hook = env.auto_hook();
    let group = MEMBER.to_string();
    let arguments = ["--no-fold", "--socket-group", &group];
    let instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    let socket = instance.socket();
    let directory = socket.parent().context("a directory")?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let (memory, descriptors) = weight(instance.pid())?;
    let of_group = monitors(&socket, MEMBER)?;
    let of_root = monitors(&socket, 0)?;
    ensure!(
        of_group.len() == 224 && of_root.len() == 16,
        "{} of the group and {} of root",
        of_group.len(),
        of_root.len()
    );
    // None of them reads.
    let ended = BindLoad::start(8, 81, 3_000).join()?;
    ensure!(ended.get(&env.denial(hook)) == Some(&3_000), "{ended:?}");
    let status = instance.status_when(|status| status["decisions"]["deny"] == 3_000)?;
    ensure!(status["enforcing"] == "enforce", "{status}");
    expect_decision(env, &instance, &denied(), deny("no-root"))?;
    let (now, open) = weight(instance.pid())?;
    println!(
        "monitors: {} served; memory {memory} -> {now} KiB, descriptors {descriptors} -> {open}",
        of_group.len() + of_root.len()
    );
    ensure!(now < memory + 24 * 1024, "{memory} KiB before, {now} now");
    ensure!(
        open <= descriptors + 256,
        "{descriptors} descriptors before, {open} now"
    );
    instance.stop()?;
    Ok(())
}

fn fault_dead_reader(env: &TestEnv) -> anyhow::Result<()> {
    const BINDS: u64 = 15_000;
    let hook = env.auto_hook();
    let (reader, writer) = std::io::pipe()?;
    let instance = Instance::start_prepared(env, POLICY, hook, &["--no-fold"], |command, _| {
        command.stdout(writer);
        Ok(())
    })?;
    let flood = |rounds| {
        let ended = BindLoad::start(9, 81, BINDS).join()?;
        ensure!(ended.get(&env.denial(hook)) == Some(&BINDS), "{ended:?}");
        instance.status_when(|status| status["decisions"]["deny"] == BINDS * rounds)?;
        // Once it has answered twice more, the ring buffer is empty.
        instance.status()?;
        weight(instance.pid())
    };
    // The first flood fills all buffers.
    let (before, _) = flood(1)?;
    let (after, _) = flood(2)?;
    println!("dead reader: memory {before} -> {after} KiB over {BINDS} decisions");
    ensure!(
        after < before + 1024,
        "memory grows: {before} to {after} KiB"
    );
    enforced(env, hook)?;
    let status = instance.status()?;
    let dropped = status["dropped"]["stdout"].as_u64().context("dropped")?;
    ensure!(dropped > 0, "{status}");
    let ended = instance.stop()?;
    // All lines in the pipe but the last are whole.
    let mut lines: Vec<String> = BufReader::new(reader).lines().collect::<Result<_, _>>()?;
    lines.retain(|line| line.ends_with('}'));
    let all =
        decisions(&lines, Some("deny"))? + decisions(&lines, Some("allow"))? + ended.dropped()?;
    ensure!(
        all == 2 * BINDS + 2,
        "{all} of {} accounted for, {dropped} dropped: {}",
        2 * BINDS + 2,
        ended.stderr
    );
    Ok(())
}

/// A journald at its usual path. Dropping it leaves the socket file, as a killed journald does.
struct Journald(UnixDatagram);

impl Journald {
    const PLACE: &str = "/run/systemd/journal/socket";

    fn start() -> anyhow::Result<Self> {
        let place = PathBuf::from(Self::PLACE);
        std::fs::create_dir_all(place.parent().context("a directory")?)?;
        let _ = std::fs::remove_file(&place);
        let socket = UnixDatagram::bind(&place)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Self(socket))
    }

    fn receive(&self) -> anyhow::Result<()> {
        let mut buffer = vec![0; 8192];
        let length = self.0.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        ensure!(text.contains("PORTGUARD_VERDICT=deny\n"), "{text}");
        Ok(())
    }
}

fn fault_journald_killed(env: &TestEnv) -> anyhow::Result<()> {
    let hook = env.auto_hook();
    let journald = Journald::start()?;
    let arguments = ["--no-fold", "--sink", "journald"];
    let mut instance = Instance::start_by(env, POLICY, hook, &arguments)?;
    let bind = || {
        let actual = errno_of(&denied())?;
        ensure!(actual == env.denial(hook), "errno {actual}");
        Ok(())
    };
    bind()?;
    journald.receive()?;
    drop(journald);
    bind()?;
    instance.wait_for("sink journald: cannot write decisions: Connection refused")?;
    instance.status_when(|status| status["dropped"]["journald"] == 1)?;
    let journald = Journald::start()?;
    bind()?;
    journald.receive()?;
    instance.wait_for("sink journald: works again, 1 decisions were dropped")?;
    let ended = instance.end(Signal::TERM)?;
    ensure!(ended.dropped()? == 1, "{}", ended.stderr);
    drop(journald);
    std::fs::remove_dir_all("/run/systemd")?;
    Ok(())
}
