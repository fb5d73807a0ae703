//! Watches policy files and reports when they may have changed.
//!
//! Directories are watched, never files: a replaced file is a different file under the old name. An event only means
//! that something happened along the path to the files; a [`Fingerprint`] shows whether their contents differ. A file
//! counts once it is closed, or comes by another name; while one is being written, changes wait.

mod error;
mod path_walk;
mod writers;

pub use error::WatchError;

use crate::stderr::log_line;
use path_walk::{PathWalk, WatchMask};
use portguard_policy::policy::{Fingerprint, PolicyFiles};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};
use writers::{Meaning, Stamps, Writers};

/// How long nothing must happen before a change is reported: an editor takes several steps.
pub const SETTLE: Duration = Duration::from_millis(100);

/// How long events that never end hold back a change, where no file differs from one moment to the next.
pub const LIMIT: Duration = Duration::from_secs(1);

/// How long a file may be written before that is logged.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events read at once, twice the kernel's usual queue: a fast writer must not keep the reader here.
const AT_ONCE: usize = 1 << 15;

/// The fingerprint of a policy's files now, to compare with that of the last reload.
#[must_use]
pub fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    PolicyFiles::read(paths).fingerprint()
}

/// Waits while a file was written a moment ago and may not be whole, for [`LIMIT`] at most: at a start there is no event
/// that says so.
pub fn wait_for_writers(paths: &[PathBuf]) {
    let mut before = Stamps::of(paths);
    let until = std::time::Instant::now() + LIMIT;
    while before.is_fresh(SETTLE) && std::time::Instant::now() < until {
        std::thread::sleep(SETTLE);
        let now = Stamps::of(paths);
        if now == before {
            return;
        }
        before = now;
    }
}

/// A watch on the files of a policy.
pub struct PolicyWatch {
    inotify: AsyncFd<OwnedFd>,
    /// The paths of the policy, absolute.
    paths: Vec<PathBuf>,
    /// The watched directories, by watch descriptor.
    watched: HashMap<i32, WatchMask>,
    writers: Writers,
    /// A change that has not settled; kept here so that a caller may drop [`PolicyWatch::changed`] and call it again.
    waiting: Option<Waiting>,
    problem: Option<WatchError>,
}

/// A period in which events are collected.
#[derive(Clone)]
struct Waiting {
    /// When the first event about the policy came; `None` while there were only events about other files.
    first: Option<Instant>,
    /// When to check again.
    until: Instant,
    /// The files when that time began.
    stamps: Stamps,
    /// It was logged that a file is still being written.
    logged: bool,
}

impl PolicyWatch {
    /// Watches the files and directories that a policy is loaded from, whether they exist or not.
    ///
    /// Changes from now on are reported; files that were read before this need to be compared once more.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(paths: &[PathBuf]) -> Result<Self, WatchError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(WatchError::of_instance)?;
        // SAFETY: an `OwnedFd` is the same open descriptor as long as it exists.
        let inotify = unsafe { AsyncFd::register(inotify) }
            .map_err(|error| WatchError::Register(error.into()))?;
        let paths = paths
            .iter()
            .map(|path| std::path::absolute(path).map_err(WatchError::of_path(path)))
            .collect::<Result<_, _>>()?;
        let mut watch = Self {
            inotify,
            paths,
            watched: HashMap::new(),
            writers: Writers::default(),
            waiting: None,
            problem: None,
        };
        watch.arm()?;
        Ok(watch)
    }

    /// Returns when the policy's files may have changed and then nothing happened for [`SETTLE`], or other events
    /// continued for [`LIMIT`]. While a file is open for writing, or differs from what it was [`SETTLE`] ago, it waits
    /// without a limit. Cancel-safe: it may be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            let Some(mut waiting) = self.waiting.clone() else {
                self.readable().await;
                let now = Instant::now();
                let first = self.drain().then_some(now);
                if first.is_some() {
                    self.arm_again();
                }
                self.waiting = Some(Waiting {
                    first,
                    until: now + SETTLE,
                    stamps: Stamps::of(&self.paths),
                    logged: false,
                });
                continue;
            };
            sleep_until(waiting.until).await;
            let now = Instant::now();
            let more = self.drain();
            let Some(first) = waiting.first.or(more.then_some(now)) else {
                self.waiting = None;
                continue;
            };
            // After the events, not before: later changes are in the queue, earlier ones are read by the caller.
            self.arm_again();
            let stamps = Stamps::of(&self.paths);
            let is_written = self.writers.any().is_some() || stamps != waiting.stamps;
            let last = first + LIMIT;
            if !is_written && (!more || now >= last) {
                self.waiting = None;
                return;
            }
            if is_written && now >= first + PATIENCE && !waiting.logged {
                waiting.logged = true;
                self.log_writer();
            }
            self.waiting = Some(Waiting {
                first: Some(first),
                until: now + SETTLE,
                stamps,
                logged: waiting.logged,
            });
        }
    }

    /// Whether nothing has happened since the last change was reported, so that what was read meanwhile is whole. If
    /// not, a change is reported again.
    pub fn is_quiet(&mut self) -> bool {
        let mut more = false;
        let (fd, watched) = (self.inotify.get_ref(), &self.watched);
        // Not by tokio, which may not have seen the events yet. It ends with an error when there are no more.
        let _ = read_events(fd, watched, &mut self.writers, &mut more);
        let is_quiet = !more && self.writers.any().is_none();
        if !is_quiet && self.waiting.is_none() {
            let now = Instant::now();
            self.waiting = Some(Waiting {
                first: Some(now),
                until: now + SETTLE,
                stamps: Stamps::of(&self.paths),
                logged: false,
            });
        }
        is_quiet
    }

    /// Says why a change is not reported.
    fn log_writer(&self) {
        let name = self.writers.any().map(OsStr::as_encoded_bytes);
        let name = name.map_or_else(|| "a file".to_owned(), portguard_policy::escape::escape);
        log_line!(
            "portguard: {name} is still being written: changes of the policy wait until it is closed; `portguard \
             reload` does not wait"
        );
    }

    /// Why some changes will not be noticed, if so. Found when the paths were last followed, which is retried with the
    /// next change.
    #[must_use]
    pub const fn problem(&self) -> Option<&WatchError> {
        self.problem.as_ref()
    }

    /// Waits until the kernel has events. [`Self::drain`] finds out when it has no more.
    async fn readable(&self) {
        match self.inotify.readable().await {
            Ok(mut guard) => guard.retain_ready(),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        }
    }

    /// Reads the pending events; whether one is a change of the policy.
    fn drain(&mut self) -> bool {
        let mut changed = false;
        let (watched, writers) = (&self.watched, &mut self.writers);
        // The error at the end means that there are no more, which tokio must see to wait for others.
        let _ = self.inotify.try_io(tokio::io::Interest::READABLE, |fd| {
            read_events(fd, watched, writers, &mut changed)
        });
        changed
    }

    /// Follows the paths as they are now, and watches the directories along them.
    fn arm(&mut self) -> Result<(), WatchError> {
        let mut walk = PathWalk::new(self.inotify.get_ref());
        let followed = self.paths.iter().try_for_each(|path| walk.policy(path));
        let before = std::mem::replace(&mut self.watched, walk.watched);
        for (number, mask) in before {
            if followed.is_err() {
                // A path that could not be followed may still lead where it did.
                self.watched.entry(number).or_insert(mask);
            } else if !self.watched.contains_key(&number) {
                // The kernel has already removed it where the directory is gone.
                let _ = inotify::remove_watch(self.inotify.get_ref(), number);
            }
        }
        let watched = &self.watched;
        self.writers.retain(|number| watched.contains_key(&number));
        followed
    }

    fn arm_again(&mut self) {
        self.problem = self.arm().err();
    }
}

/// Reads the pending events; `changed` is set where one is a change of the policy.
fn read_events(
    fd: &OwnedFd,
    watched: &HashMap<i32, WatchMask>,
    writers: &mut Writers,
    changed: &mut bool,
) -> std::io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(fd, &mut buffer);
    let mut taken = 0;
    while taken < AT_ONCE || !events.is_buffer_empty() {
        match events.next() {
            Ok(event) => *changed |= is_change(&event, watched, writers),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        taken += 1;
    }
    Ok(())
}

/// Whether an event is a change of the policy.
fn is_change(event: &Event<'_>, watched: &HashMap<i32, WatchMask>, writers: &mut Writers) -> bool {
    let flags = event.events();
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        writers.forget();
        return true;
    }
    // Events of a removed watch may still be in the queue.
    let Some(mask) = watched.get(&event.wd()) else {
        return false;
    };
    // An event without a name is about the directory itself.
    let Some(name) = event.file_name() else {
        return true;
    };
    let name = OsStr::from_bytes(name.to_bytes());
    mask.has(name) && writers.note(flags, event.wd(), name, &mask.directory) == Meaning::Change
}
