//! Addresses: the family of the socket counts, not that of the address; a bind that the kernel refuses has no event.

use super::checks::{allow, default, deny, expect_decision, expect_no_decision};
use crate::harness::probe::{Attempt, Probe, inet, inet6};
use crate::harness::{Needs, SharedInstance, SharedTable, TestEnv};
use anyhow::ensure;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const TESTS: SharedTable = &[
    (
        "address_unspec_family",
        Needs::Nothing,
        address_unspec_family,
    ),
    (
        "address_ipv6_and_mapped",
        Needs::Nothing,
        address_ipv6_and_mapped,
    ),
    (
        "address_wildcard_stands_for_all",
        Needs::Nothing,
        address_wildcard_stands_for_all,
    ),
    ("address_wrong_length", Needs::Nothing, address_wrong_length),
    ("address_wrong_family", Needs::Nothing, address_wrong_family),
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

fn address_unspec_family(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let instance = shared.enforce(env, POLICY)?;
    let any = || stream(libc::AF_UNSPEC, Ipv4Addr::UNSPECIFIED, 80);
    let event = expect_decision(env, instance, &Probe::user(1000).bind(any()), allow("web"))?;
    ensure!(
        event["family"] == "inet" && event["address"] == "0.0.0.0",
        "{event}"
    );
    expect_decision(env, instance, &Probe::user(0).bind(any()), deny("not"))?;
    let other = || stream(libc::AF_UNSPEC, Ipv4Addr::LOCALHOST, 80);
    expect_no_decision(
        instance,
        &Probe::user(1000).bind(other()),
        libc::EAFNOSUPPORT,
    )?;
    expect_no_decision(instance, &Probe::user(0).bind(other()), libc::EAFNOSUPPORT)
}

fn address_ipv6_and_mapped(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let instance = shared.enforce(env, POLICY)?;
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    for (address, canonical) in [
        (Ipv6Addr::LOCALHOST, "::1"),
        (mapped, "127.0.0.1"),
        (Ipv6Addr::UNSPECIFIED, "::"),
    ] {
        let event = expect_decision(
            env,
            instance,
            &Probe::user(1000).bind(Attempt::tcp6(address, 80)),
            allow("web"),
        )?;
        ensure!(
            event["family"] == "inet6" && event["address"] == canonical,
            "{event}"
        );
        expect_decision(
            env,
            instance,
            &Probe::user(0).bind(Attempt::tcp6(address, 80)),
            deny("not"),
        )?;
        expect_decision(
            env,
            instance,
            &Probe::user(1000).bind(Attempt::tcp6(address, 82)),
            default("kernel"),
        )?;
    }
    Ok(())
}

/// A bind stands for every address on which it answers.
fn address_wildcard_stands_for_all(
    env: &TestEnv,
    shared: &mut SharedInstance,
) -> anyhow::Result<()> {
    let policy = "
version: 1
default: kernel
rules:
  - { name: not-loop, action: deny, ports: [80], addresses: [127.0.0.0/8] }
  - { name: not-one, action: deny, ports: [81], addresses: ['::1'] }
  - { name: not-any, action: deny, ports: [82], addresses: [0.0.0.0/0] }
  - { name: itself, action: deny, ports: [83], addresses: [0.0.0.0] }
  - { name: four, action: allow, ports: [84], addresses: [0.0.0.0/1, 128.0.0.0/1] }
  - { name: loop, action: allow, ports: [85], addresses: [127.0.0.0/8, '::/0'] }
  - { name: all, action: allow, ports: [86], addresses: [0.0.0.0/0, '::/0'] }
";
    let instance = shared.enforce(env, policy)?;
    let four = |port| Attempt::tcp_at(Ipv4Addr::UNSPECIFIED, port);
    let six = |port, v6only| {
        let mut attempt = Attempt::tcp6(Ipv6Addr::UNSPECIFIED, port);
        attempt.v6only = Some(v6only);
        attempt
    };
    let (both, only) = (|port| six(port, false), |port| six(port, true));
    let none = default("kernel");
    for (uid, attempt, verdict) in [
        (0, four(80), deny("not-loop")),
        (0, both(80), deny("not-loop")),
        (0, only(80), none),
        (0, four(81), none),
        (0, both(81), deny("not-one")),
        (0, only(81), deny("not-one")),
        (0, four(82), deny("not-any")),
        (0, both(82), deny("not-any")),
        (0, only(82), none),
        (0, four(83), deny("itself")),
        (0, both(83), deny("itself")),
        (0, Attempt::tcp(83), none),
        (1000, four(84), allow("four")),
        (1000, both(84), none),
        (1000, only(84), none),
        (1000, four(85), none),
        (1000, Attempt::tcp(85), allow("loop")),
        (1000, both(85), none),
        (1000, only(85), allow("loop")),
        (1000, four(86), allow("all")),
        (1000, both(86), allow("all")),
        (1000, only(86), allow("all")),
    ] {
        expect_decision(env, instance, &Probe::user(uid).bind(attempt), verdict)?;
    }
    Ok(())
}

fn address_wrong_length(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let instance = shared.enforce(env, POLICY)?;
    for uid in [0, 1000] {
        for len in [0, 2, 8, 15] {
            let attempt = Attempt::tcp(80).claiming(len);
            expect_no_decision(instance, &Probe::user(uid).bind(attempt), libc::EINVAL)?;
        }
        for len in [0, 2, 15, 16, 20, 23] {
            let attempt = Attempt::tcp6(Ipv6Addr::LOCALHOST, 80).claiming(len);
            expect_no_decision(instance, &Probe::user(uid).bind(attempt), libc::EINVAL)?;
        }
    }
    // A longer address is valid.
    expect_decision(
        env,
        instance,
        &Probe::user(0).bind(Attempt::tcp(80).claiming(28)),
        deny("not"),
    )?;
    expect_decision(
        env,
        instance,
        &Probe::user(1000).bind(Attempt::tcp(80).claiming(28)),
        allow("web"),
    )?;
    Ok(())
}

fn address_wrong_family(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let instance = shared.enforce(env, POLICY)?;
    let mut v4_in_v6 = inet(libc::AF_INET, Ipv4Addr::LOCALHOST, 80);
    v4_in_v6.resize(28, 0);
    let mut unspec = inet6(Ipv6Addr::UNSPECIFIED, 80);
    if let Some(family) = unspec.get_mut(..2) {
        family.fill(0);
    }
    let v6 = |address| Attempt::new(libc::AF_INET6, libc::SOCK_STREAM, 0, address);
    for uid in [0, 1000] {
        expect_no_decision(
            instance,
            &Probe::user(uid).bind(v6(v4_in_v6.clone())),
            libc::EAFNOSUPPORT,
        )?;
        expect_no_decision(
            instance,
            &Probe::user(uid).bind(v6(unspec.clone())),
            libc::EAFNOSUPPORT,
        )?;
        let v6_in_v4 = stream(libc::AF_INET6, Ipv4Addr::LOCALHOST, 80);
        expect_no_decision(
            instance,
            &Probe::user(uid).bind(v6_in_v4),
            libc::EAFNOSUPPORT,
        )?;
    }
    let right = |uid| Probe::user(uid).bind(Attempt::tcp(80));
    expect_decision(env, instance, &right(0), deny("not"))?;
    expect_decision(env, instance, &right(1000), allow("web"))?;
    Ok(())
}
