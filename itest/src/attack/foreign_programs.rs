//! Ways beside bind(2): programs of others on the cgroup path, and ports that the kernel gives away.

use crate::harness::TestEnv;
use crate::harness::bind_runner::Cgroups;
use crate::harness::foreign_object;
use crate::harness::instance::{Instance, policy_file, program};
use crate::harness::probe::{Answer, Attempt, Probe};
use crate::harness::raw_syscalls;
use crate::scenarios::{NotApplicable, Setting};
use anyhow::{Context as _, ensure};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use rustix::net::{AddressFamily, SocketType, getsockname, listen, socket};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::Command;

const CGROUP: &str = "pgforeign";

/// Protects ports that the kernel gives away.
const PROTECTED_RANGE: &str = "{ version: 1, default: deny, protect: [1-1023, 40000-40009] }";

/// Port 80 is what the foreign program rewrites others to.
const POLICY: &str = "
version: 1
rules:
  - { name: web, action: allow, ports: [80, 85], users: [33] }
  - { name: refused, action: deny, ports: [80, 81] }
";

/// A program of another on a cgroup of its own, gone when dropped.
struct Foreign {
    _object: Ebpf,
    _cgroups: Cgroups,
}

impl Foreign {
    /// `None` where the kernel does not take it.
    fn attach(env: &TestEnv, name: &str) -> anyhow::Result<Option<Self>> {
        let mut cgroups = Cgroups::default();
        cgroups.make(&[CGROUP.to_owned()])?;
        let mut object = foreign_object::load()?;
        let program: &mut CgroupSockAddr = object
            .program_mut(name)
            .with_context(|| format!("the object has no program {name}"))?
            .try_into()?;
        if let Err(error) = program.load() {
            // A return of 3 is refused by the verifier of a kernel without grants.
            ensure!(name == "grant" && !env.grants(), "{name}: {error}");
            return Ok(None);
        }
        let cgroup = File::open(env.cgroups.join(CGROUP))?;
        program.attach(&cgroup, CgroupAttachMode::Single)?;
        Ok(Some(Self {
            _object: object,
            _cgroups: cgroups,
        }))
    }
}

/// The errno of a bind from the cgroup of the foreign program, and its events.
fn bound(
    instance: &Instance,
    uid: u32,
    port: u16,
) -> anyhow::Result<(i32, Vec<serde_json::Value>)> {
    let probe = Probe::user(uid).in_cgroup(CGROUP).bind(Attempt::tcp(port));
    match probe.run()?[..] {
        [Answer::Bound(errno)] => Ok((errno, instance.events_of(&probe.comm)?)),
        ref other => anyhow::bail!("{other:?}"),
    }
}

fn errno(instance: &Instance, uid: u32, port: u16, want: i32) -> anyhow::Result<()> {
    let (errno, events) = bound(instance, uid, port)?;
    ensure!(
        errno == want,
        "{}: uid {uid}, port {port}: errno {errno}, not {want}: {events:?}",
        instance.hook
    );
    Ok(())
}

/// What refuses below wins over a grant; what grants below is not believed where the policy denies.
pub(super) fn foreign_programs(env: &TestEnv) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        if let Some(_refuses) = Foreign::attach(env, "refuse")? {
            errno(&instance, 33, 85, libc::EPERM)?;
        }
        if let Some(_grants) = Foreign::attach(env, "grant")? {
            errno(&instance, 1000, 81, env.denial(hook))?;
            errno(&instance, 1000, 80, env.denial(hook))?;
            errno(&instance, 33, 85, 0)?;
            // What the policy leaves to the kernel is the other program's to grant.
            errno(&instance, 1000, 82, 0)?;
        }
        instance.stop()?;
    }
    Ok(())
}

/// A program that rewrites the port: the port that is bound is the one that counts.
pub(super) fn rewritten_ports(env: &TestEnv) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = Instance::start_with(env, POLICY, hook, "json")?;
        let _rewrites = Foreign::attach(env, "rewrite")?.context("no program")?;
        for uid in [1000, 0] {
            let (errno, events) = bound(&instance, uid, 8080)?;
            let want = env.denial("cgroup");
            ensure!(
                errno == want,
                "{hook}: uid {uid}: errno {errno}, not {want}"
            );
            let [event] = &events[..] else {
                anyhow::bail!("{hook}: events {events:?}");
            };
            ensure!(
                event["port"] == 80 && event["hook"] == "cgroup" && event["rule"] == "refused",
                "{hook}: {event}"
            );
        }
        let granted = if env.grants() { 0 } else { libc::EACCES };
        errno(&instance, 33, 8080, granted)?;
        instance.stop()?;
    }
    Ok(())
}

/// `doctor` lists other bind programs by name and id.
pub(super) fn doctor_lists_others(env: &TestEnv) -> anyhow::Result<()> {
    let foreign = Foreign::attach(env, "refuse")?.context("no program")?;
    let said = doctor(None)?;
    ensure!(
        said.contains("refuse (id ") && said.contains(", bind4) on /pgforeign"),
        "doctor does not name it:\n{said}"
    );
    drop(foreign);
    let said = doctor(None)?;
    ensure!(
        said.contains("none on the cgroup tree"),
        "doctor names what is gone:\n{said}"
    );
    Ok(())
}

fn doctor(policy: Option<&str>) -> anyhow::Result<String> {
    let file = policy.map(policy_file).transpose()?;
    let mut doctor = Command::new(program());
    doctor.arg("doctor");
    if let Some(file) = &file {
        doctor.arg("--policy").arg(file.path());
    }
    let output = doctor.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A port that a socket gets by listen() without bind, from these only where it is told some.
fn autobound(within: Option<(u16, u16)>) -> anyhow::Result<Result<u16, i32>> {
    const IP_LOCAL_PORT_RANGE: i32 = 51;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if let Some((low, high)) = within {
        let value = u32::from(high) << 16 | u32::from(low);
        if let Err(errno) =
            raw_syscalls::set_option(socket.as_fd(), libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, value)
        {
            return Ok(Err(errno));
        }
    }
    if let Err(error) = listen(&socket, 1) {
        return Ok(Err(error.raw_os_error()));
    }
    let address = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok(Ok(address.port()))
}

/// `IP_LOCAL_PORT_RANGE` takes a protected port of one's choice, until it is reserved.
pub(super) fn chosen_port(env: &TestEnv) -> anyhow::Result<()> {
    const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    const PORT: u16 = 40_005;
    let within = Some((PORT, PORT));
    if let Err(errno) = autobound(within)? {
        let what = format!("IP_LOCAL_PORT_RANGE and listen() end with errno {errno}");
        return Err(NotApplicable(what).into());
    }
    let instance = Instance::start(
        env,
        "{ version: 1, default: deny, protect: [1-1023, 40005] }",
    )?;
    let port = autobound(within)?;
    ensure!(port == Ok(PORT), "got {port:?}: is the hole gone?");
    ensure!(
        instance.said.contains("ip_local_reserved_ports=40005"),
        "no warning:\n{}",
        instance.said
    );
    let _cure = Setting::set(RESERVED, "40005")?;
    let port = autobound(within)?;
    ensure!(port.is_err(), "after the cure listen() still gets {port:?}");
    ensure!(instance.events()?.is_empty(), "an event without a bind");
    instance.stop()?;
    Ok(())
}

/// Protected ports in `ip_local_port_range` are had without a bind: the hole, and the cure that `run` names.
pub(super) fn local_port_range(env: &TestEnv) -> anyhow::Result<()> {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let _range = Setting::set(RANGE, "40004 40006")
        .map_err(|error| NotApplicable(format!("ip_local_port_range cannot be set: {error}")))?;
    let instance = Instance::start(env, PROTECTED_RANGE)?;
    let port = autobound(None)?;
    ensure!(
        port.is_ok_and(|port| (40004..=40006).contains(&port)),
        "listen() without bind ended with {port:?}: is the hole gone?"
    );
    let what = "protected ports 40004-40006 lie inside net.ipv4.ip_local_port_range (40004-40006)";
    let mend = "sysctl -w net.ipv4.ip_local_reserved_ports=";
    let line = instance.said.lines().find(|line| line.contains(what));
    let line = line.with_context(|| format!("no warning:\n{}", instance.said))?;
    let (_, value) = line.split_once(mend).context("no cure named")?;
    let said = doctor(Some(PROTECTED_RANGE))?;
    ensure!(
        said.contains(what) && said.contains(&format!("{mend}{value}")),
        "doctor does not say it:\n{said}"
    );
    let _cure = Setting::set(RESERVED, value)?;
    let port = autobound(None)?;
    ensure!(port.is_err(), "after the cure listen() still gets {port:?}");
    ensure!(instance.events()?.is_empty(), "an event without a bind");
    instance.stop()?;
    let cured = Instance::start(env, PROTECTED_RANGE)?;
    ensure!(
        !cured.said.contains("ip_local_port_range"),
        "a warning of what is closed:\n{}",
        cured.said
    );
    cured.stop()?;
    Ok(())
}
