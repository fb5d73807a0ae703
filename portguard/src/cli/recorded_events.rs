//! Decision events that a file or standard input holds, as `explain` and `suggest` read them: JSON lines of `run` and
//! `monitor`, entries of `journalctl -o json`, and rows of the terminal's table.

use super::recorded::Recorded;
use super::table_row;
use crate::policy_paths::STDIN;
use anyhow::{Context as _, anyhow, bail};
use portguard_common::Protocol;
use portguard_policy::compile::Gids;
use portguard_policy::escape::unescape;
use portguard_policy::policy::{NameService as _, SystemNames};
use serde_json::{Map, Value};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

/// A recorded bind.
pub(super) struct RecordedBind {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) uid: u32,
    pub(super) euid: u32,
    /// Real gid, and the effective one.
    pub(super) gids: Option<(u32, u32)>,
    /// Who made the outermost user namespace around the caller.
    pub(super) userns_owner: Option<u32>,
    pub(super) user: Option<String>,
    /// The path, its escapes undone; `None` if the cgroup was gone.
    pub(super) cgroup: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) refused: bool,
    /// Binds that the event stands for.
    pub(super) count: u64,
    /// Program or thread name.
    pub(super) program: Option<String>,
    pub(super) decision: RecordedDecision,
}

impl RecordedBind {
    /// The gids of the event, and the groups that the user has now.
    pub(super) fn gids(&self) -> Gids {
        let user = self.user.as_deref();
        let groups = user.map_or_else(Vec::new, |user| SystemNames::LOCAL.gids_of(user));
        match self.gids {
            Some((gid, egid)) => Gids::new(gid, egid, groups),
            None => groups.into(),
        }
    }
}

/// How the bind was decided when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordedDecision {
    /// `None` where the event does not say it.
    pub(super) verdict: Option<String>,
    /// `None` for the default.
    pub(super) rule: Option<String>,
    /// The digest; a row of the table has none.
    pub(super) policy: Option<String>,
}

/// Reads the events of a file, or of standard input for `-`. Other entries of a journal and headings are skipped.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<RecordedBind>> {
    let mut text = String::new();
    let name = path.display();
    if path.as_os_str() == STDIN {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
    }
    let mut events = Vec::new();
    for (number, line) in records(&text) {
        let event = parse(&line).with_context(|| {
            format!(
                "{name}:{number}: not a decision event of `portguard run`, `portguard monitor` or `journalctl -o json`"
            )
        })?;
        events.extend(event);
    }
    if events.is_empty() {
        bail!("{name}: no decision event in it");
    }
    Ok(events)
}

/// The lines that are not empty, with their numbers. On a narrow terminal a row of the table continues on the next
/// line, which begins with blanks.
fn records(text: &str) -> Vec<(usize, String)> {
    let mut records: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match records.last_mut() {
            Some((_, row)) if line.starts_with(' ') && !row.starts_with('{') => {
                row.push(' ');
                row.push_str(line.trim());
            }
            _ => records.push((number, line.trim().to_owned())),
        }
    }
    records
}

/// `None` where the line is no event, and not meant to be one.
fn parse(line: &str) -> anyhow::Result<Option<RecordedBind>> {
    let event = if line.starts_with('{') {
        let object: Map<String, Value> = serde_json::from_str(line)?;
        match event_of(object) {
            Some(object) => serde_json::from_value(object)?,
            None => return Ok(None),
        }
    } else if table_row::is_heading(line) {
        return Ok(None);
    } else {
        table_row::parse(line).context("it is not JSON, and not a row of the table")?
    };
    bind(event).map(Some)
}

/// The event in a line of JSON, `None` for an entry of the journal that is none, and for what a monitor dropped.
fn event_of(object: Map<String, Value>) -> Option<Value> {
    if object.contains_key("dropped") {
        return None;
    }
    // Every entry has it, and no event.
    if !object.contains_key("__REALTIME_TIMESTAMP") && !object.contains_key("PORTGUARD_PORT") {
        return Some(Value::Object(object));
    }
    let fields: Map<String, Value> = object
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.strip_prefix("PORTGUARD_")?.to_ascii_lowercase();
            let value = typed(&name, &text_of(value)?);
            Some((name, value))
        })
        .collect();
    fields.contains_key("port").then_some(Value::Object(fields))
}

/// The text of a journal field: a string, its bytes where it has unprintable ones, or a list where it is repeated.
fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(values) if values.iter().all(Value::is_u64) => {
            let bytes = values
                .iter()
                .filter_map(|byte| u8::try_from(byte.as_u64()?).ok());
            Some(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
        }
        Value::Array(values) => values.into_iter().next().and_then(text_of),
        // Null where it is too large for journalctl without --all.
        _ => None,
    }
}

/// A value of a journal field, all of which are text.
fn typed(name: &str, text: &str) -> Value {
    match name {
        "port" | "uid" | "euid" | "gid" | "egid" | "userns_owner" | "count" => text
            .parse::<u64>()
            .map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}

fn bind(event: Recorded) -> anyhow::Result<RecordedBind> {
    let cgroup = event.cgroup.as_deref().map(|escaped| {
        unescape(escaped).context("its cgroup is not escaped the way portguard escapes events")
    });
    Ok(RecordedBind {
        port: event.port,
        protocol: protocol(&event.protocol).map_err(|reason| anyhow!(reason))?,
        uid: event.uid,
        euid: event.euid.unwrap_or(event.uid),
        gids: event.gid.map(|gid| (gid, event.egid.unwrap_or(gid))),
        userns_owner: event.userns_owner,
        user: event.user,
        cgroup: cgroup.transpose()?,
        address: event.address,
        refused: event.errno.is_some(),
        count: event.count.unwrap_or(1),
        program: event.exe.or(event.comm),
        decision: RecordedDecision {
            verdict: event.verdict,
            rule: event.rule,
            policy: event.policy.filter(|digest| !digest.is_empty()),
        },
    })
}

/// The protocol of this name.
pub(super) fn protocol(name: &str) -> Result<Protocol, String> {
    let mut all = Protocol::ALL.into_iter();
    all.find(|protocol| protocol.as_str() == name)
        .ok_or_else(|| "expected tcp, udp, sctp or dccp".into())
}
