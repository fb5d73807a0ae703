//! Names of users by uid, remembered for a minute: a lookup may go over a network.

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// How long a name is kept.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The most uids remembered: a process with a range of subordinate uids can bind as each of them.
const CAPACITY: usize = 4096;

/// A cache of user names.
#[derive(Default)]
pub struct AccountNames {
    known: HashMap<u32, Entry>,
}

struct Entry {
    since: Instant,
    name: Option<OsString>,
}

impl AccountNames {
    /// The name of a user, as the system has it; `None` where the uid has none.
    pub fn name(&mut self, uid: u32) -> Option<OsString> {
        self.name_by(uid, Instant::now(), |uid| {
            uzers::get_user_by_uid(uid).map(|user| user.name().to_owned())
        })
    }

    /// The name of a user, escaped for output.
    pub fn escaped(&mut self, uid: u32) -> Option<String> {
        let name = self.name(uid)?;
        Some(portguard_policy::escape::escape(name.as_encoded_bytes()))
    }

    fn name_by(
        &mut self,
        uid: u32,
        now: Instant,
        look_up: impl FnOnce(u32) -> Option<OsString>,
    ) -> Option<OsString> {
        let is_fresh = |entry: &Entry| now.duration_since(entry.since) < KEPT_FOR;
        if let Some(entry) = self.known.get(&uid)
            && is_fresh(entry)
        {
            return entry.name.clone();
        }
        if self.known.len() >= CAPACITY {
            self.known.retain(|_, entry| is_fresh(entry));
        }
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        let name = look_up(uid);
        let entry = Entry {
            since: now,
            name: name.clone(),
        };
        self.known.insert(uid, entry);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_name_is_looked_up_once_a_minute() {
        let mut names = AccountNames::default();
        let start = Instant::now();
        let name = |text: &str| Some(OsString::from(text));
        assert_eq!(names.name_by(7, start, |_| name("old")), name("old"));
        let later = start + KEPT_FOR - Duration::from_secs(1);
        assert_eq!(names.name_by(7, later, |_| name("new")), name("old"));
        assert_eq!(
            names.name_by(7, start + KEPT_FOR, |_| name("new")),
            name("new")
        );
    }

    #[test]
    fn account_name_is_remembered_where_there_is_none() {
        let mut names = AccountNames::default();
        let now = Instant::now();
        assert_eq!(names.name_by(7, now, |_| None), None);
        assert_eq!(names.name_by(7, now, |_| Some("late".into())), None);
    }

    #[test]
    fn account_names_are_bounded() {
        let mut names = AccountNames::default();
        let now = Instant::now();
        for uid in 0..3 * CAPACITY as u32 {
            names.name_by(uid, now, |_| None);
            assert!(names.known.len() <= CAPACITY);
        }
    }

    #[test]
    fn account_name_of_uid_0_is_root() {
        assert_eq!(AccountNames::default().escaped(0).as_deref(), Some("root"));
    }
}
