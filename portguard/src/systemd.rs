//! Notifies the service manager: ready, reloading, stopping, status and watchdog.
//!
//! The protocol is sd_notify(3): datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.
//! Without it nothing is sent. A manager that does not read must not delay enforcement, so nothing here waits: what
//! the socket does not take goes with the next message, and while enforcement is degraded the watchdog gets none.
//! The `sd-notify` crate has the words of the protocol and neither of these.

use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager that started the daemon, if one did.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// What was not sent yet: the last value of each name.
    unsent: Vec<(&'static str, String)>,
    degraded: bool,
}

impl Manager {
    /// The manager that the environment names.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let pid = variable("WATCHDOG_PID");
        let watchdog = variable("WATCHDOG_USEC").filter(|timeout| *timeout > 0);
        Self::new(
            std::env::var_os("NOTIFY_SOCKET").as_deref(),
            // The variables are inherited; another process's watchdog is not ours.
            watchdog
                .filter(|_| pid.is_none_or(|pid| pid == u64::from(std::process::id())))
                .map(Duration::from_micros),
        )
    }

    /// The manager at this socket, a path or `@` and an abstract name, that expects a message within `watchdog`.
    #[must_use]
    pub fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        Self {
            socket: socket.and_then(socket_to),
            watchdog,
            ..Self::default()
        }
    }

    /// The interval of [`Self::watchdog`]: half of the time that the manager allows. `None` without a watchdog.
    #[must_use]
    pub fn watchdog_period(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|all| all / 2)
    }

    /// The daemon enforces: after the start, and after each reload, successful or not.
    pub fn ready(&mut self, status: &str) {
        self.unsent
            .retain(|(name, _)| !matches!(*name, "RELOADING" | "MONOTONIC_USEC"));
        self.send(&[("READY", "1"), ("STATUS", status)]);
    }

    /// A reload begins; [`Self::ready`] ends it.
    pub fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        let status = "reloading the policy";
        self.send(&[
            ("RELOADING", "1"),
            ("MONOTONIC_USEC", &microseconds.to_string()),
            ("STATUS", status),
        ]);
    }

    /// A status line, which `systemctl status` shows.
    pub fn status(&mut self, status: &str) {
        self.send(&[("STATUS", status)]);
    }

    /// Something is missing, and the daemon could not restore it. The protocol has no word for that: the status says
    /// it, and the watchdog gets no message until [`Self::recovered`], so that the manager restarts the daemon.
    pub fn degraded(&mut self, why: &str) {
        self.degraded = true;
        self.send(&[("STATUS", &format!("degraded: {why}"))]);
    }

    /// What was missing is restored.
    pub fn recovered(&mut self, status: &str) {
        self.degraded = false;
        self.status(status);
    }

    /// The daemon's loop runs.
    pub fn watchdog(&mut self) {
        if self.degraded || self.watchdog.is_none() {
            self.flush("");
        } else {
            self.flush("WATCHDOG=1\n");
        }
    }

    /// The daemon ends.
    pub fn stopping(&mut self) {
        self.send(&[("STOPPING", "1"), ("STATUS", "stopping")]);
    }

    fn send(&mut self, assignments: &[(&'static str, &str)]) {
        if self.socket.is_none() {
            return;
        }
        for (name, value) in assignments {
            self.unsent.retain(|(before, _)| before != name);
            // A line break would end the assignment and begin another.
            let line = value.replace(char::is_control, " ");
            self.unsent.push((name, line));
        }
        self.flush("");
    }

    /// Sends what was not sent yet, and `more`, which is not kept.
    fn flush(&mut self, more: &str) {
        let Some((socket, manager)) = &self.socket else {
            return;
        };
        let unsent = self
            .unsent
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"));
        let message = unsent.chain([more.to_owned()]).collect::<String>();
        if message.is_empty() {
            return;
        }
        // The manager is gone or its socket full: the lines stay for the next message.
        if socket.send_to_addr(message.as_bytes(), manager).is_ok() {
            self.unsent.clear();
        }
    }
}

/// A non-blocking socket, and the manager's address.
fn socket_to(manager: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match manager.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(manager),
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A manager's end of the protocol, at a path of its own.
    struct Fake {
        socket: UnixDatagram,
        _directory: tempfile::TempDir,
        manager: Manager,
    }

    fn fake(watchdog: Option<Duration>) -> Fake {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("a flag");
        Fake {
            socket,
            _directory: directory,
            manager: Manager::new(Some(path.as_os_str()), watchdog),
        }
    }

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[test]
    fn manager_sends_one_datagram_per_state() {
        let mut fake = fake(Some(Duration::from_secs(2)));
        fake.manager.ready("enforces");
        assert_eq!(
            received(&fake.socket).as_deref(),
            Some("READY=1\nSTATUS=enforces\n")
        );
        fake.manager.status("two\nREADY=0");
        assert_eq!(
            received(&fake.socket).as_deref(),
            Some("STATUS=two READY=0\n")
        );
        fake.manager.watchdog();
        assert_eq!(received(&fake.socket).as_deref(), Some("WATCHDOG=1\n"));
        fake.manager.stopping();
        assert_eq!(
            received(&fake.socket).as_deref(),
            Some("STOPPING=1\nSTATUS=stopping\n")
        );
        assert_eq!(received(&fake.socket), None);
    }

    #[test]
    fn manager_sends_monotonic_time_of_reload() {
        let microseconds = || {
            let now = clock_gettime(ClockId::Monotonic);
            now.tv_sec * 1_000_000 + now.tv_nsec / 1000
        };
        let mut fake = fake(None);
        let before = microseconds();
        fake.manager.reloading();
        let after = microseconds();
        let message = received(&fake.socket).expect("a message");
        let time: i64 = message
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="))
            .and_then(|time| time.parse().ok())
            .expect("a time");
        assert!((before..=after).contains(&time), "{message}");
        assert!(message.starts_with("RELOADING=1\n"), "{message}");
    }

    #[test]
    fn manager_connects_to_abstract_socket() {
        let name = format!("portguard-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        let mut manager = Manager::new(Some(OsStr::new(&format!("@{name}"))), None);
        manager.ready("here");
        assert_eq!(received(&socket).as_deref(), Some("READY=1\nSTATUS=here\n"));
    }

    #[test]
    fn manager_resends_last_state_after_full_socket() {
        let mut fake = fake(Some(Duration::from_secs(2)));
        let began = Instant::now();
        for number in 0..100_000 {
            fake.manager.status(&format!("state {number}"));
        }
        fake.manager.reloading();
        fake.manager.ready("loaded");
        assert!(began.elapsed() < Duration::from_secs(60));
        while received(&fake.socket).is_some_and(|said| !said.contains("loaded")) {}
        fake.manager.watchdog();
        // RELOADING is not sent after READY.
        assert_eq!(
            received(&fake.socket).as_deref(),
            Some("READY=1\nSTATUS=loaded\nWATCHDOG=1\n")
        );
        fake.manager.watchdog();
        assert_eq!(received(&fake.socket).as_deref(), Some("WATCHDOG=1\n"));
    }

    #[test]
    fn manager_ignores_missing_socket() {
        for socket in [
            None,
            Some(""),
            Some("relative"),
            Some("/nonexistent/notify"),
        ] {
            let mut manager = Manager::new(socket.map(OsStr::new), Some(Duration::from_secs(2)));
            manager.ready("x");
            manager.watchdog();
            manager.stopping();
        }
        let mut fake = fake(None);
        drop(fake.socket);
        fake.manager.ready("x");
    }

    #[test]
    fn manager_withholds_watchdog_while_degraded() {
        let mut fake = fake(Some(Duration::from_secs(2)));
        fake.manager.degraded("the LSM program was detached");
        assert_eq!(
            received(&fake.socket).as_deref(),
            Some("STATUS=degraded: the LSM program was detached\n")
        );
        fake.manager.watchdog();
        assert_eq!(received(&fake.socket), None);
        // A reload in between does not change that.
        fake.manager.ready("another policy");
        assert!(received(&fake.socket).is_some());
        fake.manager.watchdog();
        assert_eq!(received(&fake.socket), None);
        fake.manager.recovered("enforces");
        assert_eq!(received(&fake.socket).as_deref(), Some("STATUS=enforces\n"));
        fake.manager.watchdog();
        assert_eq!(received(&fake.socket).as_deref(), Some("WATCHDOG=1\n"));
    }

    #[test]
    fn manager_halves_the_watchdog_period() {
        let fake = fake(Some(Duration::from_secs(60)));
        assert_eq!(
            fake.manager.watchdog_period(),
            Some(Duration::from_secs(30))
        );
        let nobody = Manager::new(None, Some(Duration::from_secs(60)));
        assert_eq!(nobody.watchdog_period(), None);
    }
}
