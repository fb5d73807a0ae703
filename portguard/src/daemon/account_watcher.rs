//! Says when users and groups may have changed.

use super::pulse::Pulse;
use crate::watch::PolicyWatch;
use std::path::PathBuf;
use std::time::Duration;

/// How often names are looked up without a known change: a directory service, or a dynamic user of systemd, changes
/// no file.
const INTERVAL: Duration = Duration::from_secs(60);

/// The files of the accounts of this machine.
const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// The watch on the files, and the timer of the look-ups.
pub(super) struct AccountWatcher {
    /// `None` where the kernel refuses it; then there is only the interval.
    watch: Option<PolicyWatch>,
    /// `None` where the kernel refuses it; then only the files count.
    pulse: Option<Pulse>,
}

impl AccountWatcher {
    /// Begins to watch; must be called within the runtime.
    pub(super) fn open() -> Self {
        Self {
            watch: PolicyWatch::new(&FILES.map(PathBuf::from)).ok(),
            pulse: Pulse::new(INTERVAL).ok(),
        }
    }

    /// Returns when the names should be looked up again. Cancel-safe.
    pub(super) async fn due(&mut self) {
        let changed = async {
            match &mut self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let tick = async {
            match &self.pulse {
                Some(pulse) => pulse.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = tick => {}
        }
    }
}
