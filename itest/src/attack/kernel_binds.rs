//! Ports that the kernel binds for a process: no LSM hook sees them, the cgroup hooks do.

use crate::harness::netlink::{Family, attribute, route};
use crate::harness::{SharedInstance, TestEnv};
use anyhow::{bail, ensure};
use serde_json::Value;
use std::net::Ipv4Addr;

const POLICY: &str = "
version: 1
rules:
  - { name: not-by-the-kernel, action: deny, ports: [701], users: [0] }
";

/// A way to have the kernel bind a port of IPv4: its name, the protocol, the first kernel that has it, and the attempt,
/// which ends with an errno or 0 and leaves nothing.
type Way = (
    &'static str,
    &'static str,
    (u32, u32),
    fn(u16) -> anyhow::Result<i32>,
);

const WAYS: [Way; 3] = [
    ("a VXLAN device", "udp", (3, 7), vxlan),
    ("an L2TP tunnel", "udp", (2, 6), l2tp),
    ("an MPTCP endpoint with a port", "tcp", (5, 12), mptcp),
];

/// The port that the kernel binds for a process is denied to the process, and another one is not.
pub(super) fn by_the_kernel(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    let known = || WAYS.into_iter().filter(|way| env.kernel >= way.2);
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        // Ports of their own: the kernel closes some of these sockets a little later.
        for (port, (name, _, _, bind)) in (702..).zip(known()) {
            let denied = bind(701)?;
            let expected = env.denial("cgroup");
            ensure!(
                denied == expected,
                "{hook}: {name}: errno {denied}, expected {expected}"
            );
            let other = bind(port)?;
            ensure!(other == 0, "{hook}: {name} on port {port}: errno {other}");
        }
        let events = instance.events()?;
        let denials: Vec<&Value> = events.iter().filter(|event| event["port"] == 701).collect();
        ensure!(denials.len() == known().count(), "{hook}: {events:?}");
        for (event, (name, protocol, ..)) in denials.into_iter().zip(known()) {
            ensure!(
                event["rule"] == "not-by-the-kernel"
                    && event["protocol"] == protocol
                    && event["hook"] == "cgroup"
                    && event["uid"] == 0,
                "{hook}: {name}: {event}"
            );
        }
    }
    Ok(())
}

/// Of `include/uapi/linux/rtnetlink.h`, `if_link.h`, `netlink.h`, `if.h`, `l2tp.h` and `mptcp.h`, Linux 6.12.
mod uapi {
    pub(super) const RTM_NEWLINK: u16 = 16;
    pub(super) const RTM_DELLINK: u16 = 17;
    pub(super) const NLM_F_EXCL: u16 = 0x200;
    pub(super) const NLM_F_CREATE: u16 = 0x400;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_LINKINFO: u16 = 18;
    pub(super) const IFLA_INFO_KIND: u16 = 1;
    pub(super) const IFLA_INFO_DATA: u16 = 2;
    pub(super) const IFLA_VXLAN_ID: u16 = 1;
    pub(super) const IFLA_VXLAN_PORT: u16 = 15;
    pub(super) const IFF_UP: u32 = 1;

    pub(super) const L2TP_CMD_TUNNEL_CREATE: u8 = 1;
    pub(super) const L2TP_CMD_TUNNEL_DELETE: u8 = 2;
    pub(super) const L2TP_ATTR_ENCAP_TYPE: u16 = 2;
    pub(super) const L2TP_ATTR_PROTO_VERSION: u16 = 7;
    pub(super) const L2TP_ATTR_CONN_ID: u16 = 9;
    pub(super) const L2TP_ATTR_PEER_CONN_ID: u16 = 10;
    pub(super) const L2TP_ATTR_IP_SADDR: u16 = 24;
    pub(super) const L2TP_ATTR_IP_DADDR: u16 = 25;
    pub(super) const L2TP_ATTR_UDP_SPORT: u16 = 26;
    pub(super) const L2TP_ATTR_UDP_DPORT: u16 = 27;
    pub(super) const L2TP_ENCAPTYPE_UDP: u16 = 0;

    pub(super) const MPTCP_PM_CMD_ADD_ADDR: u8 = 1;
    pub(super) const MPTCP_PM_CMD_FLUSH_ADDRS: u8 = 4;
    pub(super) const MPTCP_PM_ATTR_ADDR: u16 = 1;
    pub(super) const MPTCP_PM_ADDR_ATTR_FAMILY: u16 = 1;
    pub(super) const MPTCP_PM_ADDR_ATTR_ADDR4: u16 = 3;
    pub(super) const MPTCP_PM_ADDR_ATTR_PORT: u16 = 5;
    pub(super) const MPTCP_PM_ADDR_ATTR_FLAGS: u16 = 6;
    pub(super) const MPTCP_PM_ADDR_FLAG_SIGNAL: u32 = 1;
    pub(super) const NLA_F_NESTED: u16 = 1 << 15;
}

/// Sets up a VXLAN device, for which the kernel binds its port.
fn vxlan(port: u16) -> anyhow::Result<i32> {
    Vxlan::add(port)?.set_up()
}

/// A VXLAN device, removed when dropped.
struct Vxlan(Vec<u8>);

impl Vxlan {
    /// Adds one that is down: it has no socket yet.
    fn add(port: u16) -> anyhow::Result<Self> {
        use uapi::*;
        let name = attribute(IFLA_IFNAME, b"pgvxlan\0")?;
        let data = [
            attribute(IFLA_VXLAN_ID, &7u32.to_ne_bytes())?,
            attribute(IFLA_VXLAN_PORT, &port.to_be_bytes())?,
        ];
        let info = [
            attribute(IFLA_INFO_KIND, b"vxlan\0")?,
            attribute(IFLA_INFO_DATA, &data.concat())?,
        ];
        let link = [name.clone(), attribute(IFLA_LINKINFO, &info.concat())?];
        match link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &link.concat())? {
            0 => Ok(Self(name)),
            errno => bail!("adding a VXLAN device: errno {errno}"),
        }
    }

    fn set_up(&self) -> anyhow::Result<i32> {
        link_message(uapi::RTM_NEWLINK, 0, uapi::IFF_UP, &self.0)
    }
}

impl Drop for Vxlan {
    fn drop(&mut self) {
        if let Err(error) = link_message(uapi::RTM_DELLINK, 0, 0, &self.0) {
            eprintln!("removing a VXLAN device: {error:#}");
        }
    }
}

/// Sends a message about a link; the errno that answers it, or 0.
fn link_message(kind: u16, flags: u16, link_flags: u32, attributes: &[u8]) -> anyhow::Result<i32> {
    // Family, type and index of the link; then its flags, and which of them change.
    let mut body = vec![0; 8];
    body.extend(link_flags.to_ne_bytes());
    body.extend(link_flags.to_ne_bytes());
    body.extend(attributes);
    route(kind, flags, &body)
}

/// The family of generic netlink of this name, which this kernel must have.
fn family(name: &str) -> anyhow::Result<Family> {
    match Family::find(name)? {
        Ok(family) => Ok(family),
        Err(errno) => bail!("the kernel has no netlink family {name}: errno {errno}"),
    }
}

/// Makes an L2TP tunnel over UDP from a port of the loopback address.
fn l2tp(port: u16) -> anyhow::Result<i32> {
    use uapi::*;
    let l2tp = family("l2tp")?;
    let id = attribute(L2TP_ATTR_CONN_ID, &7u32.to_ne_bytes())?;
    let address = Ipv4Addr::LOCALHOST.octets();
    let tunnel = [
        id.clone(),
        attribute(L2TP_ATTR_PEER_CONN_ID, &7u32.to_ne_bytes())?,
        attribute(L2TP_ATTR_PROTO_VERSION, &[3])?,
        attribute(L2TP_ATTR_ENCAP_TYPE, &L2TP_ENCAPTYPE_UDP.to_ne_bytes())?,
        attribute(L2TP_ATTR_IP_SADDR, &address)?,
        attribute(L2TP_ATTR_IP_DADDR, &address)?,
        attribute(L2TP_ATTR_UDP_SPORT, &port.to_ne_bytes())?,
        attribute(L2TP_ATTR_UDP_DPORT, &9u16.to_ne_bytes())?,
    ];
    let errno = l2tp.command(L2TP_CMD_TUNNEL_CREATE, &tunnel.concat())?;
    if errno == 0 {
        let removed = l2tp.command(L2TP_CMD_TUNNEL_DELETE, &id)?;
        ensure!(removed == 0, "removing a tunnel: errno {removed}");
    }
    Ok(errno)
}

/// Adds an endpoint of MPTCP that is announced with a port, on which the kernel listens.
fn mptcp(port: u16) -> anyhow::Result<i32> {
    use uapi::*;
    let path_manager = family("mptcp_pm")?;
    let inet = u16::try_from(libc::AF_INET)?;
    let address = [
        attribute(MPTCP_PM_ADDR_ATTR_FAMILY, &inet.to_ne_bytes())?,
        attribute(MPTCP_PM_ADDR_ATTR_ADDR4, &Ipv4Addr::LOCALHOST.octets())?,
        attribute(MPTCP_PM_ADDR_ATTR_PORT, &port.to_ne_bytes())?,
        attribute(
            MPTCP_PM_ADDR_ATTR_FLAGS,
            &MPTCP_PM_ADDR_FLAG_SIGNAL.to_ne_bytes(),
        )?,
    ];
    let endpoint = attribute(MPTCP_PM_ATTR_ADDR | NLA_F_NESTED, &address.concat())?;
    let errno = path_manager.command(MPTCP_PM_CMD_ADD_ADDR, &endpoint)?;
    if errno == 0 {
        let removed = path_manager.command(MPTCP_PM_CMD_FLUSH_ADDRS, &[])?;
        ensure!(removed == 0, "removing an endpoint: errno {removed}");
    }
    Ok(errno)
}
