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
