//! Protocols and system calls: every bind of a port is decided alike, and a bind without a port never.

use super::addresses::POLICY;
use super::checks::{allow, default, deny, errno_of, expect_decision, expect_no_decision};
use crate::harness::probe::{Attempt, BindResult, BindSyscall, Netns, Probe, inet};
use crate::harness::raw_syscalls;
use crate::harness::sysctl::Sysctl;
use crate::harness::{Needs, NotApplicable, SharedInstance, SharedTable, TestEnv};
use anyhow::ensure;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

pub(super) const TESTS: SharedTable = &[
    ("udp", Needs::Nothing, udp),
    ("mptcp", Needs::Nothing, mptcp),
    ("udplite", Needs::Nothing, udplite),
    ("dccp", Needs::Nothing, dccp),
    ("sctp", Needs::Lsm, sctp),
    ("sctp_bindx", Needs::Lsm, sctp_bindx),
    (
        "sctp_bindx_all_addresses",
        Needs::Lsm,
        sctp_bindx_all_addresses,
    ),
    (
        "sctp_v6_with_v4_address",
        Needs::Lsm,
        sctp_v6_with_v4_address,
    ),
    ("io_uring", Needs::Nothing, io_uring),
    ("socketcall_32", Needs::Nothing, socketcall_32),
    ("bind_32", Needs::Nothing, bind_32),
    ("raw_never_decided", Needs::Nothing, raw_never_decided),
    (
        "port_zero_never_decided",
        Needs::Nothing,
        port_zero_never_decided,
    ),
    ("ping_never_decided", Needs::Nothing, ping_never_decided),
    ("unix_never_decided", Needs::Nothing, unix_never_decided),
    ("vsock_never_decided", Needs::Nothing, vsock_never_decided),
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

/// Each verdict, by one kind of bind.
fn all_verdicts(
    env: &TestEnv,
    shared: &mut SharedInstance,
    make: impl Fn(u16) -> Attempt,
    word: &str,
) -> anyhow::Result<()> {
    errno_of(&Probe::user(0).bind(make(80)))?;
    let instance = shared.enforce(env, POLICY)?;
    let event = expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(make(80)),
        allow("web"),
    )?;
    ensure!(event["protocol"] == word, "protocol is not {word}: {event}");
    expect_decision(env, instance, &Probe::user(0).bind(make(81)), deny("not"))?;
    expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(make(81)),
        deny("not"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(0).bind(make(82)),
        default("kernel"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(make(82)),
        default("kernel"),
    )?;
    Ok(())
}

fn udp(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(env, shared, Attempt::udp, "udp")
}

fn mptcp(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(
        env,
        shared,
        of(libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        "tcp",
    )
}

fn udplite(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(
        env,
        shared,
        of(libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        "udp",
    )
}

fn dccp(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(env, shared, of(libc::SOCK_DCCP, libc::IPPROTO_DCCP), "dccp")
}

fn sctp(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(env, shared, of(libc::SOCK_STREAM, SCTP), "sctp")?;
    all_verdicts(env, shared, of(libc::SOCK_SEQPACKET, SCTP), "sctp")
}

fn sctp_bindx(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(
        env,
        shared,
        |port| of(libc::SOCK_STREAM, SCTP)(port).by(BindSyscall::Bindx),
        "sctp",
    )
}

/// The address that the socket is bound to before, the buffer, the verdicts, and the errno.
type BindxCase = (Option<Vec<u8>>, Vec<u8>, &'static [&'static str], i32);

/// The errno of a bindx on a new socket.
fn bindx(bound: Option<&[u8]>, buffer: &[u8]) -> anyhow::Result<i32> {
    let socket = raw_syscalls::socket(libc::AF_INET, libc::SOCK_STREAM, SCTP)
        .map_err(|errno| NotApplicable(format!("socket() ends with errno {errno}")))?;
    if let Some(address) = bound {
        let errno = raw_syscalls::bind(socket.as_fd(), address, 16);
        ensure!(errno == 0, "bind(2) ends with errno {errno}");
    }
    let len = u32::try_from(buffer.len())?;
    Ok(raw_syscalls::bindx(socket.as_fd(), buffer, len))
}

/// Each address of the buffer is decided, and port 0 is the port of the socket or of an address before it.
fn sctp_bindx_all_addresses(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let instance = shared.enforce(env, BY_ADDRESS)?;
    let at = |last, port| inet(libc::AF_INET, Ipv4Addr::new(127, 0, 0, last), port);
    let many = |count: u8| {
        (0..count)
            .flat_map(|last| at(last.max(3), 83))
            .collect::<Vec<_>>()
    };
    let cases: [BindxCase; 8] = [
        (
            None,
            [at(1, 83), at(3, 83)].concat(),
            &["kernel", "kernel"],
            0,
        ),
        (
            None,
            [at(1, 83), at(2, 83)].concat(),
            &["kernel", "deny"],
            libc::EACCES,
        ),
        (
            None,
            [at(2, 83), at(1, 83)].concat(),
            &["deny"],
            libc::EACCES,
        ),
        (
            None,
            [at(1, 83), at(2, 0)].concat(),
            &["kernel", "deny"],
            libc::EACCES,
        ),
        (
            None,
            [at(1, 0), at(2, 83)].concat(),
            &["deny"],
            libc::EACCES,
        ),
        (Some(at(1, 83)), at(3, 0), &["kernel", "kernel"], 0),
        (Some(at(1, 83)), at(2, 0), &["kernel", "deny"], libc::EACCES),
        (None, [many(255), many(2)].concat(), &[], libc::EACCES),
    ];
    for (first, buffer, verdicts, expected) in cases {
        let actual = bindx(first.as_deref(), &buffer)?;
        let events = instance.events()?;
        let decided: Vec<&str> = events
            .iter()
            .map(|event| event["verdict"].as_str().unwrap_or_default())
            .collect();
        ensure!(
            actual == expected && (verdicts.is_empty() || decided == verdicts),
            "{first:?}, {buffer:?}: errno {actual}, events {events:?}"
        );
        ensure!(events.iter().all(|event| event["port"] == 83), "{events:?}");
    }
    Ok(())
}

/// One address is denied.
const BY_ADDRESS: &str = "{ version: 1, rules: [
    { name: not-here, action: deny, ports: [83], addresses: [127.0.0.2] }] }";

fn sctp_v6_with_v4_address(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let v6 = |port| {
        Attempt::new(
            libc::AF_INET6,
            libc::SOCK_STREAM,
            SCTP,
            inet(libc::AF_INET, Ipv4Addr::LOCALHOST, port),
        )
    };
    all_verdicts(env, shared, v6, "sctp")?;
    all_verdicts(env, shared, |port| v6(port).by(BindSyscall::Bindx), "sctp")
}

fn io_uring(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(
        env,
        shared,
        |port| Attempt::tcp(port).by(BindSyscall::IoUring),
        "tcp",
    )
}

fn socketcall_32(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(
        env,
        shared,
        |port| Attempt::tcp(port).by(BindSyscall::Socketcall),
        "tcp",
    )
}

fn bind_32(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    all_verdicts(
        env,
        shared,
        |port| Attempt::tcp(port).by(BindSyscall::Bind32),
        "tcp",
    )
}

/// In force while a probe shows what the kernel alone makes of its bind.
const KERNEL: &str = "{ version: 1, scope: all }";

/// The bind ends as the kernel alone ends it, and has no event, although every port is denied.
fn never_decided(
    env: &TestEnv,
    shared: &mut SharedInstance,
    uid: u32,
    attempt: &Attempt,
) -> anyhow::Result<()> {
    let probe = || Probe::user(uid).bind(attempt.clone());
    shared.enforce(env, KERNEL)?;
    let by_kernel = errno_of(&probe())?;
    let instance = shared.enforce(env, "{ version: 1, default: deny, protect: [\"1-65535\"] }")?;
    expect_no_decision(instance, &probe(), by_kernel)?;
    let decided = Probe::user(uid).bind(Attempt::udp(80));
    expect_decision(env, instance, &decided, default("deny"))?;
    Ok(())
}

fn raw_never_decided(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_RAW] {
        never_decided(env, shared, 0, &of(libc::SOCK_RAW, protocol)(80))?;
    }
    Ok(())
}

/// The kernel chooses the port after the hooks.
fn port_zero_never_decided(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    never_decided(env, shared, 1000, &Attempt::tcp(0))
}

fn ping_never_decided(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let _open = Sysctl::set("/proc/sys/net/ipv4/ping_group_range", "0 65535")
        .map_err(|error| NotApplicable(format!("ping_group_range cannot be set: {error}")))?;
    never_decided(
        env,
        shared,
        1000,
        &of(libc::SOCK_DGRAM, libc::IPPROTO_ICMP)(80),
    )
}

fn unix_never_decided(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    // An abstract name whose first bytes, read as a port, are 80.
    let mut address = u16::try_from(libc::AF_UNIX)?.to_ne_bytes().to_vec();
    address.extend([0, 80]);
    address.extend(format!("pgtest-{}-of-enough-length", std::process::id()).bytes());
    never_decided(
        env,
        shared,
        1000,
        &Attempt::new(libc::AF_UNIX, libc::SOCK_STREAM, 0, address),
    )
}

fn vsock_never_decided(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    // struct sockaddr_vm: family, reserved, port, cid, flags and padding.
    let mut address = u16::try_from(libc::AF_VSOCK)?.to_ne_bytes().to_vec();
    address.extend([0, 0]);
    address.extend(80u32.to_ne_bytes());
    address.extend(u32::MAX.to_ne_bytes());
    address.extend([0; 4]);
    never_decided(
        env,
        shared,
        0,
        &Attempt::new(libc::AF_VSOCK, libc::SOCK_STREAM, 0, address.clone()),
    )?;
    never_decided(
        env,
        shared,
        1000,
        &Attempt::new(libc::AF_VSOCK, libc::SOCK_STREAM, 0, address),
    )
}

fn netns_of_root(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    scopes(env, shared, 0, Netns::New)
}

fn netns_of_a_user(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    scopes(env, shared, 1000, Netns::NewWithUser)
}

fn scopes(
    env: &TestEnv,
    shared: &mut SharedInstance,
    uid: u32,
    netns: Netns,
) -> anyhow::Result<()> {
    // The loopback interface of a new namespace is down.
    let at = |port| Attempt::tcp_at(Ipv4Addr::UNSPECIFIED, port);
    let probe = |port| Probe::user(uid).in_netns(netns).bind(at(port));
    shared.enforce(env, KERNEL)?;
    match probe(81).run() {
        Ok(results) => ensure!(
            results == [BindResult::Bound(0)],
            "{results:?} in a new namespace"
        ),
        Err(error) => return Err(NotApplicable(format!("{error:#}")).into()),
    }
    let instance = shared.enforce(env, POLICY)?;
    expect_no_decision(instance, &probe(81), 0)?;
    let host = Probe::user(uid).bind(at(81));
    expect_decision(env, instance, &host, deny("not"))?;
    let instance = shared.enforce(env, &format!("{POLICY}scope: all\n"))?;
    let inside = expect_decision(env, instance, &probe(81), deny("not"))?;
    let web = Probe::user(1000).bind(Attempt::tcp(80));
    let outside = expect_decision(env, instance, &web, allow("web"))?;
    ensure!(
        inside["netns"] != outside["netns"],
        "one netns for both: {inside}, {outside}"
    );
    Ok(())
}
