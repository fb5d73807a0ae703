//! Requests to the kernel by netlink: the messages of `include/uapi/linux/netlink.h` and `genetlink.h` (Linux 6.12).

use anyhow::{Context as _, ensure};
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, recv, sendto, socket,
};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
/// The family that knows the others: its number, a command, and attributes.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// An attribute, padded to four bytes.
pub(crate) fn attribute(kind: u16, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let len = u16::try_from(4 + payload.len())?;
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// Sends a message of routing netlink; the errno that answers it, or 0.
pub(crate) fn route(kind: u16, flags: u16, body: &[u8]) -> anyhow::Result<i32> {
    // Without a protocol: that of NETLINK_ROUTE.
    let answer = transact(None, kind, flags | NLM_F_ACK, body)?;
    Ok(answer.err().unwrap_or(0))
}

/// A family of generic netlink.
pub(crate) struct Family(u16);

impl Family {
    /// The family of this name; the errno where the kernel has none.
    pub(crate) fn find(name: &str) -> anyhow::Result<Result<Self, i32>> {
        let mut name = name.as_bytes().to_vec();
        name.push(0);
        let mut body = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
        body.extend(attribute(CTRL_ATTR_FAMILY_NAME, &name)?);
        let answer = match transact(Some(GENERIC), GENL_ID_CTRL, 0, &body)? {
            Ok(answer) => answer,
            Err(errno) => return Ok(Err(errno)),
        };
        // Behind the command.
        let mut rest = answer.get(4..).context("too short")?;
        while let [len0, len1, kind0, kind1, after @ ..] = rest {
            let len = usize::from(u16::from_ne_bytes([*len0, *len1]));
            if let (CTRL_ATTR_FAMILY_ID, [low, high, ..]) =
                (u16::from_ne_bytes([*kind0, *kind1]), after)
            {
                return Ok(Ok(Self(u16::from_ne_bytes([*low, *high]))));
            }
            rest = rest
                .get(len.max(4).next_multiple_of(4)..)
                .unwrap_or_default();
        }
        anyhow::bail!("an answer without a number: {answer:?}")
    }

    /// Sends a command of version 1; the errno that answers it, or 0.
    pub(crate) fn command(&self, command: u8, attributes: &[u8]) -> anyhow::Result<i32> {
        let mut body = vec![command, 1, 0, 0];
        body.extend(attributes);
        let answer = transact(Some(GENERIC), self.0, NLM_F_ACK, &body)?;
        Ok(answer.err().unwrap_or(0))
    }
}

/// Sends a message: what answers it behind its header, empty for an acknowledgement, or the errno.
fn transact(
    protocol: Option<Protocol>,
    kind: u16,
    flags: u16,
    body: &[u8],
) -> anyhow::Result<Result<Vec<u8>, i32>> {
    let len = u32::try_from(16 + body.len())?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    // Its number and port.
    message.extend([0; 8]);
    message.extend(body);
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, protocol)?;
    sendto(
        &netlink,
        &message,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = [0; 8192];
    let (read, _) = recv(&netlink, &mut answer[..], RecvFlags::empty())?;
    let answer = answer.get(..read).context("an answer")?;
    ensure!(answer.len() >= 20, "too short: {answer:?}");
    let [low, high] = [answer[4], answer[5]];
    if u16::from_ne_bytes([low, high]) != NLMSG_ERROR {
        return Ok(Ok(answer[16..].to_vec()));
    }
    let errno = [answer[16], answer[17], answer[18], answer[19]];
    Ok(match -i32::from_ne_bytes(errno) {
        0 => Ok(Vec::new()),
        errno => Err(errno),
    })
}
