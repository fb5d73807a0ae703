//! The users and groups that a policy names, looked up for the daemon: within a deadline, and again when the accounts
//! change.

use crate::account_lookup::AccountLookup;
use portguard_policy::policy::{AccountKind, NameService, SystemNames};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the look-ups of one policy may take together: less than `portguard reload` waits.
pub const DEADLINE: Duration = Duration::from_secs(25);

/// How long one look-up may take. After one that takes longer the others are not waited for.
const DEADLINE_OF_ONE: Duration = Duration::from_secs(5);

/// What names were found to be; `None` for a name that the host does not have.
pub type Resolved = BTreeMap<(AccountKind, String), Option<u32>>;

/// Looks up names on the thread. A name without an answer in time keeps the id that it had, if it had one.
pub struct PolicyNames<'a> {
    lookup: &'a AccountLookup,
    before: &'a Resolved,
    until: Cell<Instant>,
    found: RefCell<Found>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Found {
    /// The names and their ids.
    pub resolved: Resolved,
    /// How many names had no answer in time.
    pub late: usize,
}

impl<'a> PolicyNames<'a> {
    /// The names were `before` when they were last looked up.
    #[must_use]
    pub fn new(lookup: &'a AccountLookup, before: &'a Resolved, within: Duration) -> Self {
        Self {
            lookup,
            before,
            until: Cell::new(Instant::now() + within),
            found: RefCell::default(),
        }
    }

    /// What was found.
    #[must_use]
    pub fn into_found(self) -> Found {
        self.found.into_inner()
    }

    /// The id of a name.
    pub fn id(&self, kind: AccountKind, name: &str) -> Option<u32> {
        self.id_by(kind, name, |kind, name| match kind {
            AccountKind::User => SystemNames::LOCAL.uid(name),
            AccountKind::Group => SystemNames::LOCAL.gid(name),
        })
    }

    fn id_by(
        &self,
        kind: AccountKind,
        name: &str,
        look_up: impl FnOnce(AccountKind, &str) -> Option<u32> + Send + 'static,
    ) -> Option<u32> {
        let mut found = self.found.borrow_mut();
        let key = (kind, name.to_owned());
        if let Some(id) = found.resolved.get(&key) {
            return *id;
        }
        let left = self.until.get().saturating_duration_since(Instant::now());
        let name = name.to_owned();
        let answer = match left.is_zero() {
            true => None,
            false => self
                .lookup
                .ask(left.min(DEADLINE_OF_ONE), move || look_up(kind, &name)),
        };
        let id = answer.unwrap_or_else(|| {
            found.late += 1;
            // The thread hangs: each further name would wait in vain.
            self.until.set(Instant::now());
            self.before.get(&key).copied().flatten()
        });
        found.resolved.insert(key, id);
        id
    }
}

impl NameService for PolicyNames<'_> {
    fn uid(&self, name: &str) -> Option<u32> {
        self.id(AccountKind::User, name)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        self.id(AccountKind::Group, name)
    }

    /// Only tests of a policy need them, which the daemon does not run.
    fn gids_of(&self, _: &str) -> Vec<u32> {
        Vec::new()
    }

    fn hostname(&self) -> String {
        SystemNames::LOCAL.hostname()
    }

    fn user_names(&self) -> Vec<String> {
        SystemNames::LOCAL.user_names()
    }

    fn group_names(&self) -> Vec<String> {
        SystemNames::LOCAL.group_names()
    }
}

/// Looks up names again. Returns how each differs, in a line, and how many had no answer in time.
#[must_use]
pub fn changes(lookup: &AccountLookup, before: &Resolved) -> (Vec<String>, usize) {
    let names = PolicyNames::new(lookup, before, DEADLINE);
    let text = |id: Option<u32>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let changed = before.iter().filter_map(|((kind, name), old)| {
        let new = names.id(*kind, name);
        (new != *old).then(|| {
            let name = portguard_policy::escape::escape(name.as_bytes());
            format!("{} {name}: {} -> {}", kind.word(), text(*old), text(new))
        })
    });
    (changed.collect(), names.into_found().late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccountKind::{Group, User};
    use std::sync::mpsc::sync_channel;

    fn lookup() -> AccountLookup {
        AccountLookup::start().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn policy_names_keep_their_ids_while_lookups_hang() {
        let lookup = lookup();
        let before = Resolved::from([((User, "alice".to_owned()), Some(1000))]);
        let within = Duration::from_millis(50);
        let names = PolicyNames::new(&lookup, &before, within);
        let (end, ended) = sync_channel::<()>(0);
        let start = Instant::now();
        let hang = move |_: AccountKind, _: &str| {
            let _ = ended.recv();
            None
        };
        assert_eq!(names.id_by(User, "alice", hang), Some(1000));
        for i in 0..1000 {
            assert_eq!(names.id_by(Group, &format!("g{i}"), |_, _| Some(1)), None);
        }
        assert!(start.elapsed() < within + Duration::from_secs(2));
        assert_eq!(names.into_found().late, 1001);
        drop(end);
    }

    #[test]
    fn policy_name_is_looked_up_once() {
        let (lookup, before) = (lookup(), Resolved::new());
        let names = PolicyNames::new(&lookup, &before, Duration::from_secs(10));
        assert_eq!(names.id_by(User, "bob", |_, _| Some(7)), Some(7));
        assert_eq!(names.id_by(User, "bob", |_, _| Some(8)), Some(7));
        assert_eq!(names.id_by(Group, "bob", |_, _| None), None);
        let found = names.into_found();
        assert_eq!(found.late, 0);
        let ids: Vec<Option<u32>> = found.resolved.into_values().collect();
        assert_eq!(ids, [Some(7), None]);
    }

    #[test]
    fn changes_name_what_each_account_was_and_is() {
        let before = Resolved::from([
            ((User, "root".to_owned()), Some(0)),
            ((Group, "root".to_owned()), None),
            ((User, "no-such-user-here".to_owned()), Some(5)),
        ]);
        let (found, late) = changes(&lookup(), &before);
        assert_eq!(late, 0);
        let expected = ["user no-such-user-here: 5 -> none", "group root: none -> 0"];
        assert_eq!(found, expected);
    }
}
