//! The caller that `explain` asks about: a user in a cgroup or unit, or a running process.

use crate::cgroup_mount::cgroup_mount;
use crate::user_namespaces;
use anyhow::Context as _;
use portguard_policy::compile::{Gids, Owner};
use portguard_policy::policy::{NameService as _, SystemNames};
use portguard_policy::units;
use procfs::process::Process;
use std::path::Path;

#[derive(clap::Args)]
#[group(id = "CallerArgs", multiple = true)]
pub(super) struct CallerArgs {
    /// Real and effective user, by name or uid; without --group, its groups from the system's database apply
    #[arg(long, default_value = "root", value_parser = user)]
    user: User,
    /// Group of the caller, by name or gid; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = group)]
    group: Vec<u32>,
    /// Owner of the caller's user namespace, by name or uid: `deny` rules take it too; may be repeated
    #[arg(long, value_name = "USER", value_parser = user)]
    userns_owner: Vec<User>,
    /// Cgroup of the caller, an absolute path
    #[arg(long, default_value = "/", value_parser = cgroup)]
    cgroup: Cgroup,
    /// Systemd unit of the caller; `.service` may be omitted
    #[arg(long, value_name = "UNIT", conflicts_with = "cgroup")]
    unit: Option<String>,
    /// A running process: its users, groups and cgroup
    #[arg(long, value_name = "PID", conflicts_with_all = ["user", "group", "userns_owner", "cgroup", "unit"])]
    pid: Option<i32>,
}

/// Who binds.
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) euid: u32,
    pub(super) gids: Gids,
    /// The owners of its user namespaces.
    pub(super) owners: Vec<Owner>,
    /// Names below the root of the tree.
    pub(super) cgroup: Vec<String>,
}

impl CallerArgs {
    pub(super) fn get(&self) -> anyhow::Result<Caller> {
        if let Some(pid) = self.pid {
            return of_process(pid).with_context(|| format!("reading process {pid}"));
        }
        let gids = if self.group.is_empty() {
            self.user.gids.clone()
        } else {
            self.group.clone()
        };
        let cgroup = match &self.unit {
            Some(name) => cgroup_of_unit(&unit(name)),
            None => self.cgroup.0.clone(),
        };
        Ok(Caller {
            uid: self.user.id,
            euid: self.user.id,
            gids: gids.into(),
            owners: self.userns_owner.iter().map(User::as_owner).collect(),
            cgroup,
        })
    }
}

fn of_process(pid: i32) -> anyhow::Result<Caller> {
    let process = Process::new(pid)?;
    let status = process.status()?;
    let of_v2 = process
        .cgroups()?
        .into_iter()
        .find(|entry| entry.hierarchy == 0);
    let path = of_v2.map_or_else(|| "/".to_owned(), |entry| entry.pathname);
    Ok(Caller {
        uid: status.ruid,
        euid: status.euid,
        gids: Gids::new(status.rgid, status.egid, status.groups),
        owners: user_namespaces::owners(pid.cast_unsigned())?,
        cgroup: names(&path),
    })
}

/// Where the unit's cgroup is on this host, else where systemd would make it.
fn cgroup_of_unit(unit: &str) -> Vec<String> {
    let found = cgroup_mount().and_then(|root| find_in_slices(&root, unit));
    found.unwrap_or_else(|| units::cgroup(unit))
}

/// The unit's cgroup below a chain of slices, and the names of these.
fn find_in_slices(directory: &Path, unit: &str) -> Option<Vec<String>> {
    if directory.join(unit).is_dir() {
        return Some(vec![unit.to_owned()]);
    }
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut slices = names.filter(|name| name.ends_with(".slice"));
    slices.find_map(|slice| {
        let below = find_in_slices(&directory.join(&slice), unit)?;
        Some([vec![slice], below].concat())
    })
}

/// A unit as systemctl takes it.
pub(super) fn unit(text: &str) -> String {
    let typed = [".service", ".socket", ".scope", ".slice", ".mount", ".swap"];
    if typed.iter().any(|ending| text.ends_with(ending)) {
        text.to_owned()
    } else {
        format!("{text}.service")
    }
}

/// A user with the groups that the system gives it.
#[derive(Clone, Debug)]
struct User {
    id: u32,
    gids: Vec<u32>,
}

impl User {
    const fn as_owner(&self) -> Owner {
        Owner {
            uid: self.id,
            gid: None,
        }
    }
}

/// Names below the root of the tree.
#[derive(Clone, Debug)]
pub(super) struct Cgroup(pub(super) Vec<String>);

fn user(text: &str) -> Result<User, String> {
    if let Ok(id) = text.parse() {
        return Ok(User {
            id,
            gids: Vec::new(),
        });
    }
    let id = SystemNames::LOCAL.uid(text);
    Ok(User {
        id: id.ok_or("no such user; numeric ids are accepted")?,
        gids: SystemNames::LOCAL.gids_of(text),
    })
}

fn group(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .or_else(|| SystemNames::LOCAL.gid(text))
        .ok_or_else(|| "no such group; numeric ids are accepted".into())
}

pub(super) fn cgroup(path: &str) -> Result<Cgroup, String> {
    if !path.starts_with('/') {
        return Err("expected an absolute path, as /proc/PID/cgroup shows after 0::".into());
    }
    Ok(Cgroup(names(path)))
}

fn names(path: &str) -> Vec<String> {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_is_found_below_slices_only() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "a.slice/a-b.slice/web.service",
            "user.slice/u.service/mail.service",
        ] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let found = |unit| find_in_slices(root.path(), unit).map(|names| names.join("/"));
        assert_eq!(
            found("web.service"),
            Some("a.slice/a-b.slice/web.service".into())
        );
        assert_eq!(found("mail.service"), None);
    }
}
