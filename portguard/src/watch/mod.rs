//! Policy files -> the moments at which they may have changed.
//!
//! Directories are watched, never files: a file that is replaced is another file under the old name. What
//! is told is that something happened on the way to the files; whether they say anything else now is
//! what a [`Fingerprint`](portguard_policy::policy::Fingerprint) tells.

mod error;
mod path_walk;

pub use error::WatchError;

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

/// How long nothing must happen before a change is told: an editor takes several steps.
pub const SETTLE: Duration = Duration::from_millis(100);

/// How long a change that never settles is kept back.
pub const LIMIT: Duration = Duration::from_secs(1);

/// Events read at once, twice the kernel's usual queue: a writer as fast as we are must not hold us here.
const AT_ONCE: usize = 1 << 15;

/// What the files of a policy say now: to be compared with what was last tried.
#[must_use]
pub fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    PolicyFiles::read(paths).fingerprint()
}

/// The eye on the files of a policy.
pub struct PolicyWatch {
    inotify: AsyncFd<OwnedFd>,
    /// The paths of the policy, absolute.
    paths: Vec<PathBuf>,
    /// What is watched, by the kernel's number for it.
    watched: HashMap<i32, WatchMask>,
    /// Something happened; kept here, so that a caller may drop [`PolicyWatch::changed`] and ask again.
    waiting: Option<Waiting>,
    problem: Option<WatchError>,
}

/// A time in which events gather.
#[derive(Clone, Copy)]
struct Waiting {
    /// When the policy was first concerned; none where only others' files were, so far.
    first: Option<Instant>,
    /// When to look again.
    until: Instant,
}

impl PolicyWatch {
    /// Watches the files and directories that a policy is loaded from, whether they are there or not.
    ///
    /// What changes from now on is told, so files that were read before this need a second look.
    ///
    /// # Errors
    /// Where the kernel has no inotify instance or watch left, or a directory on the way cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(paths: &[PathBuf]) -> Result<Self, WatchError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(WatchError::of_instance)?;
        // SAFETY: an `OwnedFd` is one open descriptor, the same for as long as it lives.
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
            waiting: None,
            problem: None,
        };
        watch.arm()?;
        Ok(watch)
    }

    /// Returns when the policy's files may have changed, and then nothing happened for [`SETTLE`], or
    /// things went on happening for [`LIMIT`]. May be dropped and called again: nothing is lost.
    pub async fn changed(&mut self) {
        loop {
            let Some(waiting) = self.waiting else {
                self.readable().await;
                let now = Instant::now();
                let first = self.drain().then_some(now);
                if first.is_some() {
                    self.arm_again();
                }
                let until = now + SETTLE;
                self.waiting = Some(Waiting { first, until });
                continue;
            };
            sleep_until(waiting.until).await;
            let now = Instant::now();
            let more = self.drain();
            let Some(first) = waiting.first.or(more.then_some(now)) else {
                self.waiting = None;
                continue;
            };
            // After the events, not before: what happens from here on is in the queue, what happened
            // before is read by the caller.
            self.arm_again();
            let last = first + LIMIT;
            if more && now < last {
                self.waiting = Some(Waiting {
                    first: Some(first),
                    until: last.min(now + SETTLE),
                });
                continue;
            }
            self.waiting = None;
            return;
        }
    }

    /// Why some changes will not be seen, where that is so: found when the way to the files was last looked
    /// at, and tried again with the next change that is seen.
    #[must_use]
    pub const fn problem(&self) -> Option<&WatchError> {
        self.problem.as_ref()
    }

    /// The kernel has events. [`Self::drain`] finds out when it has no more.
    async fn readable(&self) {
        match self.inotify.readable().await {
            Ok(mut guard) => guard.retain_ready(),
            // The runtime is about to end.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes the events there are; whether one concerns the policy.
    fn drain(&self) -> bool {
        let mut concerned = false;
        // An error is that there are no more, which tokio must hear of to wait for others.
        let _ = self.inotify.try_io(tokio::io::Interest::READABLE, |fd| {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = Reader::new(fd, &mut buffer);
            let mut taken = 0;
            while taken < AT_ONCE || !events.is_buffer_empty() {
                match events.next() {
                    Ok(event) => concerned |= self.concerns(&event),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                taken += 1;
            }
            Ok(())
        });
        concerned
    }

    fn concerns(&self, event: &Event<'_>) -> bool {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return true;
        }
        // Of a watch that was given up, events may still be in the queue.
        let Some(mask) = self.watched.get(&event.wd()) else {
            return false;
        };
        // Without a name it is about the directory itself.
        event
            .file_name()
            .is_none_or(|name| mask.has(OsStr::from_bytes(name.to_bytes())))
    }

    /// Follows the paths as they lead now, and watches what is on the way.
    fn arm(&mut self) -> Result<(), WatchError> {
        let mut walk = PathWalk::new(self.inotify.get_ref());
        let followed = self.paths.iter().try_for_each(|path| walk.policy(path));
        let before = std::mem::replace(&mut self.watched, walk.watched);
        for (number, mask) in before {
            if followed.is_err() {
                // What could not be followed may still lead where it led.
                self.watched.entry(number).or_insert(mask);
            } else if !self.watched.contains_key(&number) {
                // The kernel has given it up already where the directory is gone.
                let _ = inotify::remove_watch(self.inotify.get_ref(), number);
            }
        }
        followed
    }

    fn arm_again(&mut self) {
        self.problem = self.arm().err();
    }
}
