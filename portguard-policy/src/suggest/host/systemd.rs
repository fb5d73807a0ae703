//! systemd's units: ambient `CAP_NET_BIND_SERVICE`, `SocketBindAllow=`, and sockets that systemd itself binds.

use super::listeners::Listener;
use super::root::{HostError, entries, on_host, read};
use super::survey::{PRIVILEGED, Survey};
use crate::policy::{NameService as _, SystemNames};
use crate::suggest::demand::{Demand, Who};
use portguard_common::Protocol;
use std::collections::BTreeMap;
use std::path::Path;

/// Directories of units, the strongest last (systemd.unit(5)).
const PLACES: [&str; 5] = [
    "lib/systemd/system",
    "usr/lib/systemd/system",
    "usr/local/lib/systemd/system",
    "run/systemd/system",
    "etc/systemd/system",
];

/// What is said of a unit: key and value, in order, its drop-ins last; and the file of the unit itself.
#[derive(Default)]
struct Unit {
    file: String,
    said: Vec<(String, String)>,
}

pub(super) fn inspect(
    root: &Path,
    listeners: &[Listener],
    survey: &mut Survey,
) -> Result<(), HostError> {
    for (name, unit) in units(root)? {
        if name.ends_with(".socket") {
            unit.sockets(&name, survey);
        } else {
            unit.service(&name, listeners, survey);
        }
    }
    Ok(())
}

fn units(root: &Path) -> Result<BTreeMap<String, Unit>, HostError> {
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    let mut drop_ins: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for place in PLACES {
        let place = root.join(place);
        if place
            .parent()
            .and_then(Path::parent)
            .is_some_and(Path::is_symlink)
        {
            continue;
        }
        for path in entries(&place) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let known = |name: &str| name.ends_with(".service") || name.ends_with(".socket");
            if let Some(unit) = name.strip_suffix(".d").filter(|name| known(name)) {
                for file in entries(&path) {
                    let said = drop_ins.entry(unit.to_owned()).or_default();
                    said.extend(said_in(&read(&file)?.unwrap_or_default()));
                }
            } else if known(name) && path.is_file() {
                let file = on_host(root, &path);
                let said = said_in(&read(&path)?.unwrap_or_default());
                units.insert(name.to_owned(), Unit { file, said });
            }
        }
    }
    for (name, said) in drop_ins {
        if let Some(unit) = units.get_mut(&name) {
            unit.said.extend(said);
        }
    }
    Ok(units)
}

/// `Key=value` lines, a line that ends in `\` going on in the next (systemd.syntax(7)).
fn said_in(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with(['#', ';', '[']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

impl Unit {
    /// The words under a key; an empty value forgets those before.
    fn words(&self, key: &str) -> Vec<&str> {
        let mut words = Vec::new();
        for (_, value) in self.said.iter().filter(|(known, _)| known == key) {
            if value.is_empty() {
                words.clear();
            }
            words.extend(value.split_whitespace());
        }
        words
    }

    fn uid(&self) -> Option<u32> {
        let user = self.words("User").last().copied().unwrap_or("root");
        user.parse().ok().or_else(|| SystemNames::LOCAL.uid(user))
    }

    fn service(&self, name: &str, listeners: &[Listener], survey: &mut Survey) {
        for word in self.words("SocketBindAllow") {
            let Some(uid) = self.uid() else {
                let user = self.words("User").last().copied().unwrap_or_default();
                survey.notes.push(format!(
                    "{name} has SocketBindAllow={word} as {user}, a user not known here ({})",
                    self.file
                ));
                continue;
            };
            if let Some((protocols, first, last)) = bind_allow(word) {
                let from = format!("SocketBindAllow={word} of {}", self.file);
                for port in first..=last {
                    self.demand(name, uid, port, &protocols, &from, survey);
                }
            }
        }
        let ambient = self.words("AmbientCapabilities");
        if !ambient.contains(&"CAP_NET_BIND_SERVICE") {
            return;
        }
        let unit = Who::Unit(name.to_owned());
        let listens = listeners.iter().any(|listener| listener.demand.who == unit);
        let which = if listens {
            "its ports are below"
        } else {
            "it listens on none now, so name its ports yourself"
        };
        survey.notes.push(format!(
            "{name} runs with ambient CAP_NET_BIND_SERVICE ({}): {which}; take it away:\n  \
             systemctl edit {name}    # [Service] AmbientCapabilities=",
            self.file
        ));
    }

    /// Sockets that systemd binds as root, in the cgroup of the socket unit.
    fn sockets(&self, name: &str, survey: &mut Survey) {
        let kinds = [
            ("ListenStream", Protocol::Tcp),
            ("ListenDatagram", Protocol::Udp),
        ];
        for (key, protocol) in kinds {
            for word in self.words(key) {
                let port = word.rsplit(':').next().and_then(|port| port.parse().ok());
                if let Some(port) = port.filter(|_| !word.starts_with(['/', '@'])) {
                    let from = format!("{key}={word} of {}", self.file);
                    self.demand(name, 0, port, &[protocol], &from, survey);
                }
            }
        }
    }

    fn demand(
        &self,
        unit: &str,
        uid: u32,
        port: u16,
        protocols: &[Protocol],
        from: &str,
        survey: &mut Survey,
    ) {
        if !(1..=PRIVILEGED).contains(&port) {
            return;
        }
        // Of a template, every instance.
        let unit = unit.replace("@.", "@*.");
        for protocol in protocols {
            survey.demands.push(Demand {
                who: Who::Unit(unit.clone()),
                uids: [uid; 2],
                port,
                protocol: *protocol,
                count: 0,
                from: from.to_owned(),
            });
        }
    }
}

/// `ipv4:tcp:80`, `tcp:80-90`, `443` (systemd.resource-control(5)); what names no port is no demand.
fn bind_allow(word: &str) -> Option<(Vec<Protocol>, u16, u16)> {
    let parts: Vec<&str> = word.split(':').collect();
    let (first, last) = match parts.last()?.split_once('-') {
        Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
        None => {
            let port = parts.last()?.parse().ok()?;
            (port, port)
        }
    };
    let protocols = match (parts.contains(&"tcp"), parts.contains(&"udp")) {
        (true, false) => vec![Protocol::Tcp],
        (false, true) => vec![Protocol::Udp],
        _ => vec![Protocol::Tcp, Protocol::Udp],
    };
    (first <= last).then_some((protocols, first, last))
}
