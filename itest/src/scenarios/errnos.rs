//! The errno of a rule: what bind(2) returns, what its event says, and a program that goes on to the next port.

use super::checks::{deny, errno_of, expect_decision};
use crate::harness::probe::{Attempt, BindSyscall, Probe, inet};
use crate::harness::raw_syscalls::bindresvport;
use crate::harness::{Needs, SharedInstance, SharedTable, TestEnv};
use anyhow::ensure;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const TESTS: SharedTable = &[
    ("errno_of_a_rule", Needs::Nothing, errno_of_a_rule),
    ("errno_of_bindx", Needs::Lsm, errno_of_bindx),
    ("errno_reserved_ports", Needs::Nothing, reserved_ports),
];

const POLICY: &str = "{ version: 1, rules: [
    { name: plain, action: deny, ports: [91] },
    { name: access, action: deny, ports: [92], errno: EACCES },
    { name: permission, action: deny, ports: [93], errno: EPERM },
    { name: in-use, action: deny, ports: [94], errno: EADDRINUSE },
    { name: only-reported, action: deny, ports: [95], errno: EADDRINUSE, mode: audit }] }";

fn errno_of_a_rule(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        for (port, expected) in [
            (91, deny("plain")),
            (92, deny("access")),
            (93, deny("permission").with("EPERM")),
            (94, deny("in-use").with("EADDRINUSE")),
            (95, deny("only-reported").with("EADDRINUSE").in_audit()),
        ] {
            let ends = |attempt| -> anyhow::Result<()> {
                let probe = Probe::user(0).bind(attempt);
                expect_decision(env, instance, &probe, expected).map(|_| ())
            };
            ends(Attempt::tcp(port))?;
            ends(Attempt::udp(port))?;
            ends(Attempt::tcp6(Ipv6Addr::LOCALHOST, port))?;
        }
    }
    Ok(())
}

/// `setsockopt(2)` returns it too.
fn errno_of_bindx(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    shared.enforce_by(env, "lsm", POLICY)?;
    for (port, errno) in [
        (91, libc::EACCES),
        (93, libc::EPERM),
        (94, libc::EADDRINUSE),
        (95, 0),
    ] {
        let address = inet(libc::AF_INET, Ipv4Addr::LOCALHOST, port);
        let attempt = Attempt::new(
            libc::AF_INET,
            libc::SOCK_STREAM,
            libc::IPPROTO_SCTP,
            address,
        );
        let probe = Probe::user(0).bind(attempt.by(BindSyscall::Bindx));
        let actual = errno_of(&probe)?;
        ensure!(actual == errno, "port {port}: errno {actual}, not {errno}");
    }
    Ok(())
}

/// The ports that `bindresvport(3)` takes are 600 to 1023, then 512 to 599.
const LAST: u16 = 1023;

/// glibc's `bindresvport(3)`, by which NFS and rsh clients get a reserved port, tries the next port where one is in use
/// and gives up at any other error.
fn reserved_ports(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let policy = |errno| {
        format!(
            "{{ version: 1, rules: [{{ name: r, action: deny, ports: [512-1022], errno: {errno} }}] }}"
        )
    };
    for hook in env.deciding_hooks() {
        shared.enforce_by(env, hook, &policy("EADDRINUSE"))?;
        let refused = env.denial_with(hook, "EADDRINUSE");
        let walks = refused == libc::EADDRINUSE;
        let expected = if walks { Ok(LAST) } else { Err(refused) };
        let actual = bindresvport();
        ensure!(
            actual == expected || actual == Ok(LAST),
            "{hook}: {actual:?}, expected {expected:?}"
        );
        shared.enforce_by(env, hook, &policy("EACCES"))?;
        // It begins at a port that depends on its process id, which may be the last.
        let first = 600 + (std::process::id() % (1023 - 600 + 1));
        let expected = if first == u32::from(LAST) {
            Ok(LAST)
        } else {
            Err(env.denial(hook))
        };
        let actual = bindresvport();
        ensure!(
            actual == expected,
            "{hook}: {actual:?}, expected {expected:?}"
        );
    }
    Ok(())
}
