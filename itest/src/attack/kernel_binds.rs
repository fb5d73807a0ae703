//! Ports that the kernel binds for a process: no LSM hook sees them, the cgroup hooks do.

use crate::harness::{SharedInstance, TestEnv};
use anyhow::{Context as _, bail, ensure};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};
use serde_json::Value;

const POLICY: &str = "
version: 1
rules:
  - { name: no-tunnel, action: deny, ports: [701], protocols: [udp], users: [0] }
";

/// Of `include/uapi/linux/rtnetlink.h`, `if_link.h`, `netlink.h` and `if.h`, Linux 6.12.
mod uapi {
    pub(super) const RTM_NEWLINK: u16 = 16;
    pub(super) const RTM_DELLINK: u16 = 17;
    pub(super) const NLM_F_REQUEST: u16 = 1;
    pub(super) const NLM_F_ACK: u16 = 4;
    pub(super) const NLM_F_EXCL: u16 = 0x200;
    pub(super) const NLM_F_CREATE: u16 = 0x400;
    pub(super) const NLMSG_ERROR: u16 = 2;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_LINKINFO: u16 = 18;
    pub(super) const IFLA_INFO_KIND: u16 = 1;
    pub(super) const IFLA_INFO_DATA: u16 = 2;
    pub(super) const IFLA_VXLAN_ID: u16 = 1;
    pub(super) const IFLA_VXLAN_PORT: u16 = 15;
    pub(super) const IFF_UP: u32 = 1;
}

/// An attribute, padded to four bytes.
fn attribute(kind: u16, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let len = u16::try_from(4 + payload.len())?;
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// Sends a message about a link; the errno that answers it, or 0.
fn request(kind: u16, flags: u16, link_flags: u32, attributes: &[u8]) -> anyhow::Result<i32> {
    use uapi::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};
    let len = u32::try_from(32 + attributes.len())?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Number and port of the message; then family, type and index of the link.
    message.extend([0; 16]);
    // Its flags, and which of them change.
    message.extend(link_flags.to_ne_bytes());
    message.extend(link_flags.to_ne_bytes());
    message.extend(attributes);
    // Without a protocol: that of NETLINK_ROUTE.
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&netlink, &message, SendFlags::empty(), &kernel)?;
    let mut answer = [0; 4096];
    let (read, _) = recv(&netlink, &mut answer[..], RecvFlags::empty())?;
    let answer = answer.get(..read).context("an answer")?;
    let number = |at: usize| -> anyhow::Result<[u8; 4]> {
        let bytes = answer.get(at..at + 4).context("too short")?;
        Ok(bytes.try_into()?)
    };
    let [low, high, ..] = number(4)?;
    ensure!(
        u16::from_ne_bytes([low, high]) == NLMSG_ERROR,
        "not an acknowledgement: {answer:?}"
    );
    Ok(-i32::from_ne_bytes(number(16)?))
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
        match request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &link.concat())? {
            0 => Ok(Self(name)),
            errno => bail!("adding a VXLAN device: errno {errno}"),
        }
    }

    /// Sets it up, for which the kernel binds its port; the errno.
    fn set_up(&self) -> anyhow::Result<i32> {
        request(uapi::RTM_NEWLINK, 0, uapi::IFF_UP, &self.0)
    }
}

impl Drop for Vxlan {
    fn drop(&mut self) {
        if let Err(error) = request(uapi::RTM_DELLINK, 0, 0, &self.0) {
            eprintln!("removing a VXLAN device: {error:#}");
        }
    }
}

/// The port of a VXLAN device is denied to who sets it up, and another one is not.
pub(super) fn tunnel_port(env: &TestEnv, shared: &mut SharedInstance) -> anyhow::Result<()> {
    for hook in env.deciding_hooks() {
        let instance = shared.enforce_by(env, hook, POLICY)?;
        let denied = Vxlan::add(701)?.set_up()?;
        let expected = env.denial("cgroup");
        ensure!(
            denied == expected,
            "{hook}: errno {denied}, expected {expected}"
        );
        let other = Vxlan::add(702)?.set_up()?;
        ensure!(other == 0, "{hook}: port 702: errno {other}");
        let events = instance.events()?;
        let of_tunnels: Vec<&Value> = events.iter().filter(|event| event["port"] == 701).collect();
        let [event] = of_tunnels[..] else {
            bail!("{hook}: events {events:?}");
        };
        ensure!(
            event["rule"] == "no-tunnel" && event["hook"] == "cgroup" && event["uid"] == 0,
            "{hook}: {event}"
        );
    }
    Ok(())
}
