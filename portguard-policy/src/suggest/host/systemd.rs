//! systemd units: ambient `CAP_NET_BIND_SERVICE`, `SocketBindAllow=`, and sockets that systemd itself binds.

use super::listeners::Listener;
use super::root::{HostError, entries, on_host, read};
use super::survey::{PRIVILEGED, Survey};
use crate::policy::{NameService as _, SystemNames};
use crate::suggest::demand::{Demand, Who};
use portguard_common::Protocol;
use std::collections::BTreeMap;
use std::path::Path;

/// Directories of units, the one with the highest priority last (systemd.unit(5)).
const DIRECTORIES: [&str; 5] = [
    "lib/systemd/system",
    "usr/lib/systemd/system",
    "usr/local/lib/systemd/system",
    "run/systemd/system",
    "etc/systemd/system",
];

/// The file of a unit, and its settings as key and value, in order, those of its drop-ins last.
#[derive(Default)]
struct Unit {
    file: String,
    settings: Vec<(String, String)>,
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
    for directory in DIRECTORIES {
        let directory = root.join(directory);
        if directory
            .parent()
            .and_then(Path::parent)
            .is_some_and(Path::is_symlink)
        {
            continue;
        }
        for path in entries(&directory) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let known = |name: &str| name.ends_with(".service") || name.ends_with(".socket");
            if let Some(unit) = name.strip_suffix(".d").filter(|name| known(name)) {
                for file in entries(&path) {
                    let settings = drop_ins.entry(unit.to_owned()).or_default();
                    settings.extend(settings_in(&read(&file)?.unwrap_or_default()));
                }
            } else if known(name) && path.is_file() {
                let file = on_host(root, &path);
                let settings = settings_in(&read(&path)?.unwrap_or_default());
                units.insert(name.to_owned(), Unit { file, settings });
            }
        }
    }
    for (name, settings) in drop_ins {
        if let Some(unit) = units.get_mut(&name) {
            unit.settings.extend(settings);
        }
    }
    Ok(units)
}

/// `Key=value` lines; a line that ends in `\` continues in the next (systemd.syntax(7)).
fn settings_in(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with(['#', ';', '[']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

impl Unit {
    /// The words of all values of a key; an empty value resets the list.
    fn words(&self, key: &str) -> Vec<&str> {
        let mut words = Vec::new();
        for (_, value) in self.settings.iter().filter(|(known, _)| known == key) {
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
                    "{name} has SocketBindAllow={word} as {user}, an unknown user ({})",
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
            "it listens on no port now, so add its ports yourself"
        };
        survey.notes.push(format!(
            "{name} runs with ambient CAP_NET_BIND_SERVICE ({}): {which}; to revoke it:\n  \
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
        // A template stands for all its instances.
        let unit = unit.replace("@.", "@*.");
        for protocol in protocols {
            survey.demands.push(Demand {
                who: Who::Unit(unit.clone()),
                uids: [uid; 2],
                port,
                protocol: *protocol,
                address: None,
                cgroup: None,
                count: 0,
                from: from.to_owned(),
            });
        }
    }
}

/// `ipv4:tcp:80`, `tcp:80-90`, `443` (systemd.resource-control(5)); an entry without a port is no demand.
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
