//! authbind's files: `byport/PORT`, where the execute bit is the right, and `byuid/UID` with lines of addresses
//! and ports (authbind(1)).

use super::root::{HostError, entries, on_host, read};
use super::survey::{PRIVILEGED, Survey};
use crate::suggest::demand::{Demand, Who};
use portguard_common::Protocol;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

pub(super) fn inspect(root: &Path, survey: &mut Survey) -> Result<(), HostError> {
    let directory = root.join("etc/authbind");
    for path in entries(&directory.join("byport")) {
        by_port(root, &path, survey);
    }
    for path in entries(&directory.join("byuid")) {
        let uid = name(&path).and_then(|name| name.parse().ok());
        if let (Some(uid), Some(text)) = (uid, read(&path)?) {
            for line in text.lines() {
                by_uid(&on_host(root, &path), uid, line, survey);
            }
            survey.notes.push(format!(
                "authbind; to revoke it:\n  rm {}",
                on_host(root, &path)
            ));
        }
    }
    let by_address = entries(&directory.join("byaddr"));
    for path in by_address {
        survey.notes.push(format!(
            "authbind grants ports by address, for which no rule is suggested; check the file, then:\n  rm {}",
            on_host(root, &path)
        ));
    }
    Ok(())
}

fn name(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// The owner may execute the file. If others may, a note says so: a rule for them would be too wide to go
/// unnoticed.
fn by_port(root: &Path, path: &Path, survey: &mut Survey) {
    let file = on_host(root, path);
    // `!80` is a rule for port 80 that authbind checks first.
    let port = name(path).and_then(|name| name.trim_start_matches('!').parse::<u16>().ok());
    let (Some(port), Ok(metadata)) = (port, path.metadata()) else {
        return;
    };
    if metadata.mode() & 0o100 != 0 {
        demand(survey, &file, metadata.uid(), port..=port);
    }
    let wider = match metadata.mode() & 0o011 {
        0 => "",
        bits if bits & 0o001 != 0 => " (everyone may execute it: add the users who need it)",
        _ => " (its group may execute it: add it under `groups`)",
    };
    survey
        .notes
        .push(format!("authbind{wider}; to revoke it:\n  rm {file}"));
}

/// `0.0.0.0/0:80,443`, a range of ports, or the newer `0.0.0.0-255.255.255.255,80-443` and `::/0,80`.
fn by_uid(file: &str, uid: u32, line: &str, survey: &mut Survey) {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return;
    }
    let Some((address, first, last)) = read_line(line) else {
        let note = format!("{file} has an unknown line: {line}");
        survey.notes.push(note);
        return;
    };
    if !matches!(address, "0.0.0.0/0" | "::/0" | "0.0.0.0-255.255.255.255") {
        survey.notes.push(format!(
            "{file}: only for addresses {address}; add them under `addresses`"
        ));
    }
    demand(survey, file, uid, first..=last);
}

/// Addresses, first and last port.
fn read_line(line: &str) -> Option<(&str, u16, u16)> {
    let (address, ports) = match line.rsplit_once(',') {
        Some((before, last)) => match before.rsplit_once(':') {
            // The older form has two ports after the colon.
            Some((address, first)) if address.contains('/') && !address.contains("::") => {
                (address, format!("{first}-{last}"))
            }
            _ => (before, last.to_owned()),
        },
        None => {
            let (address, port) = line.rsplit_once(':')?;
            (address, port.to_owned())
        }
    };
    let (first, last) = ports.split_once('-').unwrap_or((&ports, &ports));
    Some((
        address,
        first.trim().parse().ok()?,
        last.trim().parse().ok()?,
    ))
}

fn demand(survey: &mut Survey, file: &str, uid: u32, ports: RangeInclusive<u16>) {
    for port in ports.filter(|port| (1..=PRIVILEGED).contains(port)) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            survey.demands.push(Demand {
                who: Who::User,
                uids: [uid; 2],
                port,
                protocol,
                address: None,
                cgroup: None,
                count: 0,
                from: format!("authbind: {file}"),
            });
        }
    }
}
