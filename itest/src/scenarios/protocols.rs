//! Protocols and doors: every way to own a port is judged alike, and what owns no port never is.

use super::Table;
use super::addresses::POLICY;
use super::checks::{allow, answer, default, deny, judged, unjudged};
use crate::harness::instance::Instance;
use crate::harness::probe::{Answer, Attempt, BindSyscall, Netns, Probe, inet};
use crate::harness::{Needs, NotApplicable, TestEnv};
use anyhow::ensure;
use std::net::Ipv4Addr;

pub(super) const TESTS: Table = &[
    ("udp", Needs::Nothing, udp),
    ("mptcp", Needs::Nothing, mptcp),
    ("udplite", Needs::Nothing, udplite),
    ("dccp", Needs::Nothing, dccp),
    ("sctp", Needs::Lsm, sctp),
    ("sctp_bindx", Needs::Lsm, sctp_bindx),
    (
        "sctp_v6_with_v4_address",
        Needs::Lsm,
        sctp_v6_with_v4_address,
    ),
    ("io_uring", Needs::Nothing, io_uring),
    ("socketcall_32", Needs::Nothing, socketcall_32),
    ("bind_32", Needs::Nothing, bind_32),
    ("raw_never_judged", Needs::Nothing, raw_never_judged),
    (
        "port_zero_never_judged",
        Needs::Nothing,
        port_zero_never_judged,
    ),
    ("ping_never_judged", Needs::Nothing, ping_never_judged),
    ("unix_never_judged", Needs::Nothing, unix_never_judged),
    ("vsock_never_judged", Needs::Nothing, vsock_never_judged),
    ("netns_of_root", Needs::Nothing, netns_of_root),
    ("netns_of_a_user", Needs::Nothing, netns_of_a_user),
];

const SCTP: i32 = 132;

fn of(kind: i32, protocol: i32) -> impl Fn(u16) -> Attempt {
    move |port| Attempt {
        kind,
        protocol,
        ..Attempt::tcp(port)
    }
}

/// Allowed, refused and left to the kernel, by one kind of bind.
fn all_verdicts(env: &TestEnv, make: impl Fn(u16) -> Attempt, word: &str) -> anyhow::Result<()> {
    answer(&Probe::user(0).bind(make(80)))?;
    let instance = Instance::start(env, POLICY)?;
    let event = judged(
        env,
        &instance,
        &Probe::user(1000).bind(make(80)),
        allow("web"),
    )?;
    ensure!(event["protocol"] == word, "protocol is not {word}: {event}");
    judged(env, &instance, &Probe::user(0).bind(make(81)), deny("not"))?;
    judged(
        env,
        &instance,
        &Probe::user(1000).bind(make(81)),
        deny("not"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(0).bind(make(82)),
        default("kernel"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(1000).bind(make(82)),
        default("kernel"),
    )?;
    Ok(())
}

fn udp(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(env, Attempt::udp, "udp")
}

fn mptcp(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(env, of(libc::SOCK_STREAM, libc::IPPROTO_MPTCP), "tcp")
}

fn udplite(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(env, of(libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE), "udp")
}

fn dccp(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(env, of(libc::SOCK_DCCP, libc::IPPROTO_DCCP), "dccp")
}

fn sctp(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(env, of(libc::SOCK_STREAM, SCTP), "sctp")?;
    all_verdicts(env, of(libc::SOCK_SEQPACKET, SCTP), "sctp")
}

fn sctp_bindx(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(
        env,
        |port| of(libc::SOCK_STREAM, SCTP)(port).by(BindSyscall::Bindx),
        "sctp",
    )
}

fn sctp_v6_with_v4_address(env: &TestEnv) -> anyhow::Result<()> {
    let v6 = |port| {
        Attempt::new(
            libc::AF_INET6,
            libc::SOCK_STREAM,
            SCTP,
            inet(libc::AF_INET, Ipv4Addr::LOCALHOST, port),
        )
    };
    all_verdicts(env, v6, "sctp")?;
    all_verdicts(env, |port| v6(port).by(BindSyscall::Bindx), "sctp")
}

fn io_uring(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(
        env,
        |port| Attempt::tcp(port).by(BindSyscall::IoUring),
        "tcp",
    )
}

fn socketcall_32(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(
        env,
        |port| Attempt::tcp(port).by(BindSyscall::Socketcall),
        "tcp",
    )
}

fn bind_32(env: &TestEnv) -> anyhow::Result<()> {
    all_verdicts(
        env,
        |port| Attempt::tcp(port).by(BindSyscall::Bind32),
        "tcp",
    )
}

/// Answered as without portguard, and not reported, although all ports are denied.
fn never_judged(env: &TestEnv, uid: u32, attempt: &Attempt) -> anyhow::Result<()> {
    let probe = || Probe::user(uid).bind(attempt.clone());
    let before = answer(&probe())?;
    let instance = Instance::start(env, "{ version: 1, default: deny, protect: [\"1-65535\"] }")?;
    unjudged(&instance, &probe(), before)?;
    judged(
        env,
        &instance,
        &Probe::user(uid).bind(Attempt::udp(80)),
        default("deny"),
    )?;
    Ok(())
}

fn raw_never_judged(env: &TestEnv) -> anyhow::Result<()> {
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_RAW] {
        never_judged(env, 0, &of(libc::SOCK_RAW, protocol)(80))?;
    }
    Ok(())
}

/// The kernel's choice, which no hook before it can know.
fn port_zero_never_judged(env: &TestEnv) -> anyhow::Result<()> {
    never_judged(env, 1000, &Attempt::tcp(0))
}

/// Restores a kernel setting when dropped.
pub(crate) struct Setting(&'static str, String);

impl Setting {
    pub(crate) fn set(path: &'static str, value: &str) -> anyhow::Result<Self> {
        let before = std::fs::read_to_string(path)?;
        std::fs::write(path, value)?;
        Ok(Self(path, before))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(self.0, &self.1) {
            eprintln!("{} is not restored: {error}", self.0);
        }
    }
}

fn ping_never_judged(env: &TestEnv) -> anyhow::Result<()> {
    let _open = Setting::set("/proc/sys/net/ipv4/ping_group_range", "0 65535")
        .map_err(|error| NotApplicable(format!("ping_group_range cannot be set: {error}")))?;
    never_judged(env, 1000, &of(libc::SOCK_DGRAM, libc::IPPROTO_ICMP)(80))
}

fn unix_never_judged(env: &TestEnv) -> anyhow::Result<()> {
    // An abstract name whose first bytes, read as a port, are 80.
    let mut address = u16::try_from(libc::AF_UNIX)?.to_ne_bytes().to_vec();
    address.extend([0, 80]);
    address.extend(format!("pgtest-{}-of-enough-length", std::process::id()).bytes());
    never_judged(
        env,
        1000,
        &Attempt::new(libc::AF_UNIX, libc::SOCK_STREAM, 0, address),
    )
}

fn vsock_never_judged(env: &TestEnv) -> anyhow::Result<()> {
    // struct sockaddr_vm: family, reserved, port, cid, flags and padding.
    let mut address = u16::try_from(libc::AF_VSOCK)?.to_ne_bytes().to_vec();
    address.extend([0, 0]);
    address.extend(80u32.to_ne_bytes());
    address.extend(u32::MAX.to_ne_bytes());
    address.extend([0; 4]);
    never_judged(
        env,
        0,
        &Attempt::new(libc::AF_VSOCK, libc::SOCK_STREAM, 0, address.clone()),
    )?;
    never_judged(
        env,
        1000,
        &Attempt::new(libc::AF_VSOCK, libc::SOCK_STREAM, 0, address),
    )
}

fn netns_of_root(env: &TestEnv) -> anyhow::Result<()> {
    scopes(env, 0, Netns::New)
}

fn netns_of_a_user(env: &TestEnv) -> anyhow::Result<()> {
    scopes(env, 1000, Netns::NewWithUser)
}

fn scopes(env: &TestEnv, uid: u32, netns: Netns) -> anyhow::Result<()> {
    // The loopback interface of a new namespace is down.
    let at = |port| Attempt::tcp_at(Ipv4Addr::UNSPECIFIED, port);
    let probe = |port| Probe::user(uid).in_netns(netns).bind(at(port));
    match probe(81).run() {
        Ok(answers) => ensure!(
            answers == [Answer::Bound(0)],
            "{answers:?} in a namespace of one's own"
        ),
        Err(error) => return Err(NotApplicable(format!("{error:#}")).into()),
    }
    let instance = Instance::start(env, POLICY)?;
    unjudged(&instance, &probe(81), 0)?;
    judged(env, &instance, &Probe::user(uid).bind(at(81)), deny("not"))?;
    instance.stop()?;
    let all = Instance::start(env, &format!("{POLICY}scope: all\n"))?;
    let inside = judged(env, &all, &probe(81), deny("not"))?;
    let outside = judged(
        env,
        &all,
        &Probe::user(1000).bind(Attempt::tcp(80)),
        allow("web"),
    )?;
    ensure!(
        inside["netns"] != outside["netns"],
        "one netns for both: {inside}, {outside}"
    );
    Ok(())
}
