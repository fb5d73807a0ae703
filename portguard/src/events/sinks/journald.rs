//! journald by its native protocol: one datagram per event, one journal field per event field.

use super::worker::{WriteResult, Writer};
use super::{SinkError, text};
use crate::events::{DecisionEvent, SharedEvent};
use portguard_common::Verdict;
use portguard_policy::escape::unescape;
use portguard_policy::units;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// The socket to journald.
pub(super) struct Journald {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Journald {
    pub(super) fn open(path: &Path) -> Result<Self, SinkError> {
        let failed = |source| SinkError::Journald {
            path: path.into(),
            source,
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        // Only to check that journald runs: each datagram has its address, so journald may be restarted.
        let probe = UnixDatagram::unbound().map_err(failed)?;
        probe.connect(path).map_err(failed)?;
        Ok(Self {
            path: path.into(),
            socket,
        })
    }

    fn send(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send_to(entry, &self.path) {
            Ok(_) => Ok(()),
            Err(error) if is_too_large(&error) => self.send_by_file(entry),
            Err(error) => Err(error),
        }
    }

    /// Sends an entry that is too large for a datagram as the descriptor of a sealed file.
    fn send_by_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("portguard-event", flags)?);
        file.write_all(entry)?;
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, all)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let to = SocketAddrUnix::new(&self.path)?;
        sendmsg_addr(&self.socket, &to, &[], &mut control, SendFlags::empty())?;
        Ok(())
    }
}

impl Writer for Journald {
    fn write(&mut self, event: &SharedEvent) -> WriteResult {
        let decided = event.event();
        match self.send(&entry(decided)) {
            Ok(()) => WriteResult {
                written: decided.count,
                ..WriteResult::default()
            },
            Err(error) => WriteResult {
                dropped: decided.count,
                error: Some(error),
                ..WriteResult::default()
            },
        }
    }
}

fn is_too_large(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMSGSIZE) | Some(libc::ENOBUFS)
    )
}

/// The event in journald's native format.
fn entry(decided: &DecisionEvent) -> Vec<u8> {
    let mut entry = Vec::new();
    // Of syslog's priorities, warning and informational.
    let priority = match decided.verdict {
        Verdict::Deny => "4",
        Verdict::Allow | Verdict::Kernel => "6",
    };
    field(&mut entry, "MESSAGE", &text::sentence(decided));
    field(&mut entry, "PRIORITY", priority);
    field(&mut entry, "SYSLOG_IDENTIFIER", "portguard");
    field(&mut entry, "MESSAGE_ID", message_id(decided));
    // `journalctl -u` shows what root says of a unit among the unit's own entries.
    let cgroup = decided.cgroup.as_deref().and_then(unescape);
    if let Some(unit) = cgroup.as_deref().and_then(units::unit) {
        field(&mut entry, "OBJECT_SYSTEMD_UNIT", unit);
    }
    // Strings and numbers always serialise, into an object.
    let Ok(Value::Object(fields)) = serde_json::to_value(decided) else {
        return entry;
    };
    for (name, value) in fields {
        let name = format!("PORTGUARD_{}", name.to_ascii_uppercase());
        match value {
            Value::Null => {}
            Value::String(text) => field(&mut entry, &name, &text),
            other => field(&mut entry, &name, &other.to_string()),
        }
    }
    entry
}

/// The message's entry in the catalog, `dist/systemd/portguard.catalog`.
const fn message_id(decided: &DecisionEvent) -> &'static str {
    match decided.errno {
        Some(_) => REFUSED,
        None => DECIDED,
    }
}

const REFUSED: &str = "5b300617113244ebaecf54b00eff06be";
const DECIDED: &str = "43e0ce2717e04f3a86dfd62e735e3906";

/// `NAME=value`, or with the value's length before it where the value has a newline.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}
