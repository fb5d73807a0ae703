//! Decision events that a file or standard input holds, as `explain` and `suggest` read them.

use anyhow::{Context as _, anyhow};
use portguard_common::Protocol;
use portguard_policy::escape::unescape;
use serde::Deserialize;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

/// What of a decision event describes the bind.
#[derive(Deserialize)]
struct Recorded {
    port: u16,
    protocol: String,
    uid: u32,
    euid: u32,
    gid: u32,
    user: Option<String>,
    cgroup: Option<String>,
    address: IpAddr,
    errno: Option<String>,
    count: Option<u64>,
    comm: Option<String>,
    exe: Option<String>,
}

/// A recorded bind.
pub(super) struct RecordedBind {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) uid: u32,
    pub(super) euid: u32,
    pub(super) gid: u32,
    pub(super) user: Option<String>,
    /// The path, its escapes undone; `None` if the cgroup was gone.
    pub(super) cgroup: Option<String>,
    pub(super) address: IpAddr,
    pub(super) refused: bool,
    /// Binds that the event stands for.
    pub(super) count: u64,
    /// Program or thread name.
    pub(super) program: Option<String>,
}

/// Reads the events of a file, or of standard input for `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<RecordedBind>> {
    let mut text = String::new();
    let name = path.display();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
    }
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            parse(line).with_context(|| {
                format!(
                    "{name}:{number}: not a decision event as `portguard run --output json` writes it"
                )
            })
        })
        .collect()
}

fn parse(line: &str) -> anyhow::Result<RecordedBind> {
    let event: Recorded = serde_json::from_str(line)?;
    let cgroup = event.cgroup.as_deref().map(|escaped| {
        unescape(escaped).context("its cgroup is not escaped the way portguard escapes events")
    });
    Ok(RecordedBind {
        port: event.port,
        protocol: protocol(&event.protocol).map_err(|reason| anyhow!(reason))?,
        uid: event.uid,
        euid: event.euid,
        gid: event.gid,
        user: event.user,
        cgroup: cgroup.transpose()?,
        address: event.address,
        refused: event.errno.is_some(),
        count: event.count.unwrap_or(1),
        program: event.exe.or(event.comm),
    })
}

/// The protocol of this name.
pub(super) fn protocol(name: &str) -> Result<Protocol, String> {
    let mut all = Protocol::ALL.into_iter();
    all.find(|protocol| protocol.as_str() == name)
        .ok_or_else(|| "expected tcp, udp, sctp or dccp".into())
}
