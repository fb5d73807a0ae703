//! Ports that the kernel assigns without a bind, which no hook sees.

use crate::harness::doctor::doctor;
use crate::harness::instance::Instance;
use crate::harness::raw_syscalls;
use crate::harness::sysctl::Sysctl;
use crate::harness::{NotApplicable, TestEnv};
use anyhow::{Context as _, ensure};
use rustix::net::{AddressFamily, SocketType, getsockname, listen, socket};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

/// Protects ports that the kernel may assign.
const PROTECTED_RANGE: &str = "{ version: 1, default: deny, protect: [1-1023, 40000-40009] }";

/// The port that a socket gets by listen() without bind, of a given range if there is one.
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

/// `IP_LOCAL_PORT_RANGE` takes a chosen protected port, until it is reserved.
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
    ensure!(port == Ok(PORT), "{port:?}: is the limit gone?");
    ensure!(
        instance.stderr.contains("ip_local_reserved_ports=40005"),
        "no warning:\n{}",
        instance.stderr
    );
    let _fix = Sysctl::set(RESERVED, "40005")?;
    let port = autobound(within)?;
    ensure!(port.is_err(), "with the fix listen() still gets {port:?}");
    ensure!(instance.events()?.is_empty(), "an event without a bind");
    instance.stop()?;
    Ok(())
}

/// Whether one of many sockets gets a protected port by listen(). The kernel picks ports at random.
fn protected_is_assigned() -> anyhow::Result<bool> {
    for _ in 0..200 {
        if autobound(None)?.is_ok_and(|port| (40000..=40009).contains(&port)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Protected ports in `ip_local_port_range` need no bind: the limit, and the fix that `run` names.
pub(super) fn local_port_range(env: &TestEnv) -> anyhow::Result<()> {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    // Most of the range is not protected: else `run` would advise to protect less.
    let _range = Sysctl::set(RANGE, "40004 40021")
        .map_err(|error| NotApplicable(format!("ip_local_port_range cannot be set: {error}")))?;
    let instance = Instance::start(env, PROTECTED_RANGE)?;
    ensure!(
        protected_is_assigned()?,
        "listen() without bind gets no protected port: is the limit gone?"
    );
    let what = "protected ports 40004-40009 are inside net.ipv4.ip_local_port_range (40004-40021)";
    let fix = "sysctl -w net.ipv4.ip_local_reserved_ports=";
    let line = instance.stderr.lines().find(|line| line.contains(what));
    let line = line.with_context(|| format!("no warning:\n{}", instance.stderr))?;
    let (_, value) = line.split_once(fix).context("no fix named")?;
    let output = doctor(Some(PROTECTED_RANGE))?;
    ensure!(
        output.contains(what) && output.contains(&format!("{fix}{value}")),
        "not in the output of doctor:\n{output}"
    );
    let _fix = Sysctl::set(RESERVED, value)?;
    ensure!(
        !protected_is_assigned()?,
        "with the fix listen() still gets a protected port"
    );
    ensure!(instance.events()?.is_empty(), "an event without a bind");
    instance.stop()?;
    let fixed = Instance::start(env, PROTECTED_RANGE)?;
    ensure!(
        !fixed.stderr.contains("ip_local_port_range"),
        "a warning in spite of the fix:\n{}",
        fixed.stderr
    );
    fixed.stop()?;
    Ok(())
}
