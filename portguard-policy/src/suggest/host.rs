//! What a host does today to get round the rule of the first 1,024 ports.

mod authbind;
mod binaries;
mod listeners;
mod systemd;

use super::Demand;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Ports that the kernel keeps for root where no sysctl says otherwise.
const PRIVILEGED: u16 = 1023;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Binds that must go on.
    pub demands: Vec<Demand>,
    /// What was found, and how to take the old right away: comments, in order.
    pub notes: Vec<String>,
}

/// Why a host cannot be looked at.
#[derive(Debug, Error)]
pub enum HostError {
    /// The root is no directory.
    #[error("{0} is not the root directory of a host: it has no `proc` and no `etc`")]
    NoRoot(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
}

/// Looks at the host whose root directory is `root`.
///
/// # Errors
/// Where `root` is none, or what it has cannot be read.
pub fn inspect(root: &Path) -> Result<Findings, HostError> {
    if !root.join("etc").is_dir() && !root.join("proc").is_dir() {
        return Err(HostError::NoRoot(root.to_owned()));
    }
    let mut findings = Findings::default();
    let listeners = listeners::all(root)?;
    binaries::look(root, &listeners, &mut findings);
    sysctl(root, &mut findings)?;
    authbind::look(root, &mut findings)?;
    systemd::look(root, &listeners, &mut findings)?;
    findings
        .demands
        .extend(listeners.into_iter().map(|listener| listener.demand));
    Ok(findings)
}

fn sysctl(root: &Path, findings: &mut Findings) -> Result<(), HostError> {
    let path = root.join("proc/sys/net/ipv4/ip_unprivileged_port_start");
    let Some(text) = read(&path)? else {
        return Ok(());
    };
    match text.trim().parse::<u32>() {
        Ok(first) if first <= u32::from(PRIVILEGED) => findings.notes.push(format!(
            "net.ipv4.ip_unprivileged_port_start is {first}: everyone may bind {first}-{PRIVILEGED}; take it back:\n  \
             sysctl -w net.ipv4.ip_unprivileged_port_start=1024    # and its line in /etc/sysctl.d"
        )),
        _ => {}
    }
    Ok(())
}

/// A file's text; `None` where it is not there.
fn read(path: &Path) -> Result<Option<String>, HostError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HostError::Read(path.to_owned(), error)),
    }
}

/// The entries of a directory in byte order; none where it is not there.
fn entries(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A path of the host, without the root that it was found under.
fn on_host(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    format!("/{}", below.display())
}
