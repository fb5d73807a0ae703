//! The oracle's binds as probes.

use crate::harness::probe::{Attempt, BindResult, Probe, inet, inet6, run_all};
use crate::oracle::{OracleBind, Proto};
use anyhow::bail;
use std::net::IpAddr;

impl From<&OracleBind> for Probe {
    fn from(bind: &OracleBind) -> Self {
        let (kind, protocol) = match bind.protocol {
            Proto::Tcp => (libc::SOCK_STREAM, libc::IPPROTO_TCP),
            Proto::Udp => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
            Proto::Sctp => (libc::SOCK_STREAM, libc::IPPROTO_SCTP),
            Proto::Dccp => (libc::SOCK_DCCP, libc::IPPROTO_DCCP),
        };
        let attempt = match bind.address {
            IpAddr::V4(address) => {
                let address = inet(libc::AF_INET, address, bind.port);
                Attempt::new(libc::AF_INET, kind, protocol, address)
            }
            IpAddr::V6(address) => Attempt {
                v6only: Some(bind.v6only),
                ..Attempt::new(libc::AF_INET6, kind, protocol, inet6(address, bind.port))
            },
        };
        let mut probe = Self::user(bind.uid)
            .uids(bind.uid, bind.euid)
            .in_cgroup(bind.cgroup.join("/"))
            .bind(attempt);
        probe.gids = [bind.gid, bind.egid];
        probe.groups.clone_from(&bind.groups);
        probe
    }
}

/// Makes the one bind of each probe: the errnos. An address in use counts as 0, since the bind was let through.
pub(crate) fn errnos(probes: &[Probe]) -> anyhow::Result<Vec<i32>> {
    let mut errnos = raw_errnos(probes)?;
    for errno in &mut errnos {
        if *errno == libc::EADDRINUSE {
            *errno = 0;
        }
    }
    Ok(errnos)
}

/// Whether a bind ended as expected. One that was let through may find the address in use.
pub(crate) const fn is_expected(actual: i32, expected: i32) -> bool {
    actual == expected || expected == 0 && actual == libc::EADDRINUSE
}

/// Makes the one bind of each probe: the errnos, some of them of denials.
pub(crate) fn raw_errnos(probes: &[Probe]) -> anyhow::Result<Vec<i32>> {
    let results = run_all(probes)?;
    let errnos = probes
        .iter()
        .zip(results)
        .map(|(probe, results)| match results[..] {
            [BindResult::Bound(errno)] => Ok(errno),
            _ => bail!("{probe:?}: {results:?}"),
        });
    errnos.collect()
}
