//! Names that only a machine can resolve: users, groups, and its own.

use super::account_word::never_a_name;
use super::hosts;
use super::model::AccountKind;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Where user names, group names and the host's name come from.
pub trait NameService {
    /// The uid of a user, or `None` for an unknown name.
    fn uid(&self, name: &str) -> Option<u32>;
    /// The gid of a group, or `None` for an unknown name.
    fn gid(&self, name: &str) -> Option<u32>;
    /// The gids of a user: primary and supplementary.
    fn gids_of(&self, user: &str) -> Vec<u32>;
    /// The name of the host, which `hosts:` is matched against: the full one where it is known.
    fn hostname(&self) -> String;
    /// Names of users to suggest in place of an unknown one.
    fn user_names(&self) -> Vec<String>;
    /// Names of groups to suggest in place of an unknown one.
    fn group_names(&self) -> Vec<String>;
    /// Whether ids are not those of the host, and mean nothing outside a policy.
    fn is_symbolic(&self) -> bool {
        false
    }
}

/// The users and groups of this machine.
#[derive(Clone, Debug, Default)]
pub struct SystemNames {
    /// The host's name, where it is not this machine's: for the policies of a fleet.
    pub host: Option<String>,
}

impl SystemNames {
    /// The users, groups and name of this machine.
    pub const LOCAL: Self = Self { host: None };
}

impl NameService for SystemNames {
    fn uid(&self, name: &str) -> Option<u32> {
        uzers::get_user_by_name(name).map(|user| user.uid())
    }

    fn gid(&self, name: &str) -> Option<u32> {
        uzers::get_group_by_name(name).map(|group| group.gid())
    }

    fn gids_of(&self, user: &str) -> Vec<u32> {
        let groups = uzers::get_user_by_name(user).and_then(|user| user.groups());
        groups.iter().flatten().map(uzers::Group::gid).collect()
    }

    fn hostname(&self) -> String {
        self.host.clone().unwrap_or_else(|| {
            let uname = rustix::system::uname();
            let name = uname.nodename().to_string_lossy().into_owned();
            if name.contains('.') {
                return name;
            }
            let known = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            hosts::full_name(&name, &known).unwrap_or(name)
        })
    }

    fn user_names(&self) -> Vec<String> {
        // Users of a directory service are resolved, but not suggested.
        first_fields("/etc/passwd")
    }

    fn group_names(&self) -> Vec<String> {
        first_fields("/etc/group")
    }
}

fn first_fields(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split(':').next());
    names.map(str::to_owned).collect()
}

/// Fixed names: for tests, and for policies of machines that are not at hand.
#[derive(Clone, Debug, Default)]
pub struct StaticNames {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    members: BTreeMap<String, Vec<u32>>,
    host: String,
}

impl StaticNames {
    /// These users and groups, with their ids, on the host of this name. No user is in a group.
    #[must_use]
    pub fn new(users: &[(&str, u32)], groups: &[(&str, u32)], host: &str) -> Self {
        let table = |ids: &[(&str, u32)]| {
            let ids = ids.iter().map(|(name, id)| ((*name).to_owned(), *id));
            ids.collect()
        };
        Self {
            users: table(users),
            groups: table(groups),
            members: BTreeMap::new(),
            host: host.to_owned(),
        }
    }

    pub(super) fn add_user(&mut self, name: &str, uid: u32) {
        self.users.entry(name.to_owned()).or_insert(uid);
    }

    pub(super) fn add_group(&mut self, name: &str, gid: u32) {
        self.groups.entry(name.to_owned()).or_insert(gid);
    }

    pub(super) fn add_member(&mut self, user: &str, gid: u32) {
        let groups = self.members.entry(user.to_owned()).or_default();
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    }
}

impl NameService for StaticNames {
    fn uid(&self, name: &str) -> Option<u32> {
        self.users.get(name).copied()
    }

    fn gid(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }

    fn gids_of(&self, user: &str) -> Vec<u32> {
        self.members.get(user).cloned().unwrap_or_default()
    }

    fn hostname(&self) -> String {
        self.host.clone()
    }

    fn user_names(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    fn group_names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }
}

/// The names of a machine that is not at hand, as symbols: each name stands for an id that no other name has.
#[derive(Debug, Default)]
pub struct SymbolicNames {
    users: RefCell<BTreeMap<String, u32>>,
    groups: RefCell<BTreeMap<String, u32>>,
    host: String,
}

impl SymbolicNames {
    /// The host of this name.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..Self::default()
        }
    }

    /// Whether a name other than `root` was looked up.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.users.borrow().is_empty() || !self.groups.borrow().is_empty()
    }

    /// Ids from the last on, where hardly a policy has numbers of its own. Every machine has `root`, as 0.
    fn id(ids: &RefCell<BTreeMap<String, u32>>, name: &str) -> Option<u32> {
        if name == "root" {
            return Some(0);
        }
        if never_a_name(name, AccountKind::User).is_some() {
            return None;
        }
        let mut ids = ids.borrow_mut();
        let next = (u32::MAX - 1).checked_sub(u32::try_from(ids.len()).ok()?)?;
        Some(*ids.entry(name.to_owned()).or_insert(next))
    }
}

impl NameService for SymbolicNames {
    fn uid(&self, name: &str) -> Option<u32> {
        Self::id(&self.users, name)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        Self::id(&self.groups, name)
    }

    fn gids_of(&self, _: &str) -> Vec<u32> {
        Vec::new()
    }

    fn hostname(&self) -> String {
        self.host.clone()
    }

    fn user_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn group_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_symbolic(&self) -> bool {
        true
    }
}
