//! Addresses: what the socket is decides, not what the address claims; what the kernel refuses makes no event.

use super::Table;
use super::checks::{allow, default, deny, judged, unjudged};
use crate::harness::instance::Instance;
use crate::harness::probe::{Attempt, Probe, inet, inet6};
use crate::harness::{Needs, TestEnv};
use anyhow::ensure;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const TESTS: Table = &[
    ("unspec_family", Needs::Nothing, unspec_family),
    ("ipv6_and_v4_mapped", Needs::Nothing, ipv6_and_v4_mapped),
    ("wrong_lengths", Needs::Nothing, wrong_lengths),
    ("wrong_family", Needs::Nothing, wrong_family),
];

pub(super) const POLICY: &str = "
version: 1
default: kernel
rules:
  - { name: web, action: allow, ports: [80], users: [1000] }
  - { name: not, action: deny, ports: [80, 81] }
";

fn stream(claimed: i32, address: Ipv4Addr, port: u16) -> Attempt {
    Attempt::new(
        libc::AF_INET,
        libc::SOCK_STREAM,
        0,
        inet(claimed, address, port),
    )
}

fn unspec_family(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    let any = || stream(libc::AF_UNSPEC, Ipv4Addr::UNSPECIFIED, 80);
    let event = judged(env, &instance, &Probe::user(1000).bind(any()), allow("web"))?;
    ensure!(
        event["family"] == "inet" && event["address"] == "0.0.0.0",
        "{event}"
    );
    judged(env, &instance, &Probe::user(0).bind(any()), deny("not"))?;
    let other = || stream(libc::AF_UNSPEC, Ipv4Addr::LOCALHOST, 80);
    unjudged(
        &instance,
        &Probe::user(1000).bind(other()),
        libc::EAFNOSUPPORT,
    )?;
    unjudged(&instance, &Probe::user(0).bind(other()), libc::EAFNOSUPPORT)
}

fn ipv6_and_v4_mapped(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    for (address, shown) in [
        (Ipv6Addr::LOCALHOST, "::1"),
        (mapped, "127.0.0.1"),
        (Ipv6Addr::UNSPECIFIED, "::"),
    ] {
        let event = judged(
            env,
            &instance,
            &Probe::user(1000).bind(Attempt::tcp6(address, 80)),
            allow("web"),
        )?;
        ensure!(
            event["family"] == "inet6" && event["address"] == shown,
            "{event}"
        );
        judged(
            env,
            &instance,
            &Probe::user(0).bind(Attempt::tcp6(address, 80)),
            deny("not"),
        )?;
        judged(
            env,
            &instance,
            &Probe::user(1000).bind(Attempt::tcp6(address, 82)),
            default("kernel"),
        )?;
    }
    Ok(())
}

fn wrong_lengths(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    for uid in [0, 1000] {
        for len in [0, 2, 8, 15] {
            let attempt = Attempt::tcp(80).claiming(len);
            unjudged(&instance, &Probe::user(uid).bind(attempt), libc::EINVAL)?;
        }
        for len in [0, 2, 15, 16, 20, 23] {
            let attempt = Attempt::tcp6(Ipv6Addr::LOCALHOST, 80).claiming(len);
            unjudged(&instance, &Probe::user(uid).bind(attempt), libc::EINVAL)?;
        }
    }
    // More than is needed is an address all the same.
    judged(
        env,
        &instance,
        &Probe::user(0).bind(Attempt::tcp(80).claiming(28)),
        deny("not"),
    )?;
    judged(
        env,
        &instance,
        &Probe::user(1000).bind(Attempt::tcp(80).claiming(28)),
        allow("web"),
    )?;
    Ok(())
}

fn wrong_family(env: &TestEnv) -> anyhow::Result<()> {
    let instance = Instance::start(env, POLICY)?;
    let mut v4_in_v6 = inet(libc::AF_INET, Ipv4Addr::LOCALHOST, 80);
    v4_in_v6.resize(28, 0);
    let mut unspec = inet6(Ipv6Addr::UNSPECIFIED, 80);
    if let Some(family) = unspec.get_mut(..2) {
        family.fill(0);
    }
    let v6 = |address| Attempt::new(libc::AF_INET6, libc::SOCK_STREAM, 0, address);
    for uid in [0, 1000] {
        unjudged(
            &instance,
            &Probe::user(uid).bind(v6(v4_in_v6.clone())),
            libc::EAFNOSUPPORT,
        )?;
        unjudged(
            &instance,
            &Probe::user(uid).bind(v6(unspec.clone())),
            libc::EAFNOSUPPORT,
        )?;
        let v6_in_v4 = stream(libc::AF_INET6, Ipv4Addr::LOCALHOST, 80);
        unjudged(
            &instance,
            &Probe::user(uid).bind(v6_in_v4),
            libc::EAFNOSUPPORT,
        )?;
    }
    let right = |uid| Probe::user(uid).bind(Attempt::tcp(80));
    judged(env, &instance, &right(0), deny("not"))?;
    judged(env, &instance, &right(1000), allow("web"))?;
    Ok(())
}
