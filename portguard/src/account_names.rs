//! Names of users by uid, remembered for a minute: a lookup may go over a network.

use crate::account_lookup::AccountLookup;
use lru::LruCache;
use std::collections::HashSet;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long a name is kept.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The most uids remembered: a process with a range of subordinate uids can bind as each of them. Those that no event
/// has had for longest are forgotten first.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// How long an event waits for the name of its user. Names in /etc/passwd and those that a directory's client has
/// cached take less.
const WAIT: Duration = Duration::from_millis(50);

/// A look-up that takes longer than this is slow. Of a name service that is slow each time, and many users, events
/// would be held up one after the other.
const SLOW: Duration = Duration::from_millis(5);

/// How long no event waits after a slow look-up.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the events of a [`PAUSE`] wait together: the look-ups of very many users are held up by nothing but their
/// number.
const WAIT_TOGETHER: Duration = Duration::from_millis(100);

/// A cache of user names.
pub struct AccountNames {
    known: LruCache<u32, Entry>,
    background: Option<Background>,
}

impl Default for AccountNames {
    fn default() -> Self {
        Self {
            known: LruCache::new(CAPACITY),
            background: None,
        }
    }
}

struct Entry {
    since: Instant,
    name: Option<OsString>,
}

/// Look-ups on the thread.
struct Background {
    lookup: AccountLookup,
    /// Uids that are being looked up. While there are any, nobody waits.
    pending: HashSet<u32>,
    patience: Patience,
    sender: Sender<(u32, Option<OsString>)>,
    answers: Receiver<(u32, Option<OsString>)>,
}

/// Whether an event may wait for a name.
struct Patience {
    /// Until then nobody waits.
    impatient_until: Instant,
    /// When the current [`PAUSE`]'s worth of waiting began, and how long events have waited in it.
    since: Instant,
    waited: Duration,
}

impl Patience {
    const fn new(now: Instant) -> Self {
        Self {
            impatient_until: now,
            since: now,
            waited: Duration::ZERO,
        }
    }

    fn may_wait(&self, now: Instant) -> bool {
        now >= self.impatient_until
    }

    /// An event has waited `time`, until `now`.
    fn waited(&mut self, time: Duration, now: Instant) {
        if now.duration_since(self.since) > PAUSE {
            (self.since, self.waited) = (now, Duration::ZERO);
        }
        self.waited += time;
        if time > SLOW || self.waited > WAIT_TOGETHER {
            self.impatient_until = now + PAUSE;
        }
    }
}

impl AccountNames {
    /// Looks up names on the thread, for a caller that must not wait long: a name that is not there in time is
    /// `None`, and known later.
    #[must_use]
    pub fn in_background(lookup: AccountLookup) -> Self {
        let (sender, answers) = channel();
        Self {
            known: LruCache::new(CAPACITY),
            background: Some(Background {
                lookup,
                pending: HashSet::new(),
                patience: Patience::new(Instant::now()),
                sender,
                answers,
            }),
        }
    }

    /// The name of a user, as the system has it; `None` where the uid has none.
    pub fn name(&mut self, uid: u32) -> Option<OsString> {
        self.name_by(uid, Instant::now(), name_of)
    }

    /// The name of a user, escaped for output.
    pub fn escaped(&mut self, uid: u32) -> Option<String> {
        let name = self.name(uid)?;
        Some(portguard_policy::escape::escape(name.as_encoded_bytes()))
    }

    /// Forgets all names: the accounts have changed.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    fn name_by(
        &mut self,
        uid: u32,
        now: Instant,
        look_up: impl FnOnce(u32) -> Option<OsString> + Send + 'static,
    ) -> Option<OsString> {
        let is_fresh = |entry: &Entry| now.duration_since(entry.since) < KEPT_FOR;
        self.take_answers(now);
        let old = self.known.get(&uid);
        if let Some(entry) = old
            && is_fresh(entry)
        {
            return entry.name.clone();
        }
        let Some(background) = &mut self.background else {
            let name = look_up(uid);
            self.remember(uid, now, name.clone());
            return name;
        };
        // Until the answer is there, the user is called what it was called before.
        let old = old.and_then(|entry| entry.name.clone());
        let begin = Instant::now();
        let wait = background.pending.is_empty() && background.patience.may_wait(begin);
        background.ask(uid, look_up);
        if !wait {
            return old;
        }
        let answer = background.answers.recv_timeout(WAIT);
        background.patience.waited(begin.elapsed(), Instant::now());
        let Ok((uid, name)) = answer else {
            return old;
        };
        background.pending.remove(&uid);
        self.remember(uid, now, name.clone());
        name
    }

    fn take_answers(&mut self, now: Instant) {
        let Some(background) = &mut self.background else {
            return;
        };
        let answers: Vec<_> = background.answers.try_iter().collect();
        for (uid, name) in answers {
            if let Some(background) = &mut self.background {
                background.pending.remove(&uid);
            }
            self.remember(uid, now, name);
        }
    }

    fn remember(&mut self, uid: u32, now: Instant, name: Option<OsString>) {
        self.known.put(uid, Entry { since: now, name });
    }
}

impl Background {
    fn ask(&mut self, uid: u32, look_up: impl FnOnce(u32) -> Option<OsString> + Send + 'static) {
        if self.pending.contains(&uid) {
            return;
        }
        let sender = self.sender.clone();
        let job = move || {
            // The daemon may have ended.
            let _ = sender.send((uid, look_up(uid)));
        };
        if self.lookup.send(job) {
            self.pending.insert(uid);
        }
    }
}

fn name_of(uid: u32) -> Option<OsString> {
    uzers::get_user_by_uid(uid).map(|user| user.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn name(text: &str) -> Option<OsString> {
        Some(OsString::from(text))
    }

    #[test]
    fn account_name_is_looked_up_once_a_minute() {
        let mut names = AccountNames::default();
        let start = Instant::now();
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
        names.forget();
        assert_eq!(names.name_by(7, now, |_| name("late")), name("late"));
    }

    #[test]
    fn account_names_are_bounded_and_keep_those_in_use() {
        let mut names = AccountNames::default();
        let now = Instant::now();
        let mut look_ups = 0;
        for uid in 1..=40_000 {
            names.name_by(uid, now, |_| None);
            assert!(names.known.len() <= CAPACITY.get());
            // A user that has events all the time is looked up once, however many others have one each.
            if names.known.peek(&0).is_none() {
                look_ups += 1;
            }
            assert_eq!(names.name_by(0, now, |_| name("root")), name("root"));
        }
        assert_eq!(look_ups, 1);
    }

    #[test]
    fn events_of_many_users_wait_for_a_part_of_each_second() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        let each = Duration::from_micros(180);
        let mut waits = 0;
        // As fast as they come, for ten seconds.
        let mut now = start;
        while now < start + 10 * PAUSE {
            let waited = patience.may_wait(now);
            now += each;
            if waited {
                waits += 1;
                patience.waited(each, now);
            }
        }
        assert!(each * waits <= 11 * (WAIT_TOGETHER + each), "{waits}");
        // A few names are all waited for.
        let mut patience = Patience::new(start);
        for second in 0..1_000 {
            let now = start + second * 2 * PAUSE;
            assert!(patience.may_wait(now));
            patience.waited(each, now);
        }
        // A slow one ends that for a while.
        let now = start + 2_000 * PAUSE;
        patience.waited(2 * SLOW, now);
        assert!(!patience.may_wait(now + PAUSE / 2) && patience.may_wait(now + PAUSE));
    }

    #[test]
    fn account_name_of_uid_0_is_root() {
        assert_eq!(AccountNames::default().escaped(0).as_deref(), Some("root"));
        let lookup = AccountLookup::start().unwrap_or_else(|error| panic!("{error}"));
        let mut names = AccountNames::in_background(lookup);
        let patience = Instant::now() + Duration::from_secs(10);
        while names.escaped(0).as_deref() != Some("root") {
            assert!(Instant::now() < patience, "no name");
        }
    }

    /// A directory service that takes a while for each user delays one event a second.
    #[test]
    fn account_names_do_not_wait_for_many_lookups() {
        let lookup = AccountLookup::start().unwrap_or_else(|error| panic!("{error}"));
        let mut names = AccountNames::in_background(lookup);
        let start = Instant::now();
        for uid in 0..100 {
            names.name_by(uid, start, |_| {
                std::thread::sleep(Duration::from_millis(100));
                name("slow")
            });
            std::thread::sleep(Duration::from_millis(1));
        }
        // All of them would take ten seconds.
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    /// A directory service that does not answer delays one event, by little; then it answers.
    #[test]
    fn account_names_do_not_wait_for_a_slow_lookup() {
        let lookup = AccountLookup::start().unwrap_or_else(|error| panic!("{error}"));
        let mut names = AccountNames::in_background(lookup);
        let start = Instant::now();
        names.remember(1, start, name("before"));
        let late = start + KEPT_FOR;
        let (end, ended) = sync_channel::<()>(0);
        let slow = move |_| {
            let _ = ended.recv();
            name("after")
        };
        assert_eq!(names.name_by(1, late, slow), name("before"));
        for uid in 1..1000 {
            let expected = if uid == 1 { name("before") } else { None };
            assert_eq!(names.name_by(uid, late, |_| name("other")), expected);
        }
        assert!(start.elapsed() < WAIT + Duration::from_secs(2));
        drop(end);
        let patience = Instant::now() + Duration::from_secs(10);
        for (uid, answer) in [(1, name("after")), (2, name("other"))] {
            while names.name_by(uid, late, |_| name("again")) != answer {
                assert!(Instant::now() < patience, "no name");
            }
        }
    }
}
