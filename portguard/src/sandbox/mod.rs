//! What the daemon gives up: after its start it has no right that its later work does not need.
//!
//! - The whole process gets `no_new_privs` and a filter of system calls, before it has a second thread or reads a policy.
//! - Threads that look up accounts, read policies and write decisions have no capabilities, or one, and Landlock lets them
//!   write to their own directories only.
//! - The event loop keeps a few capabilities once the hooks are attached and the sockets are bound.

mod capabilities;
mod files;
mod system_calls;

use crate::status::Hardening;
use crate::stderr::log_line;
use rustix::thread::CapabilitySet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Looks up users and groups, by code of the host.
    Accounts,
    /// Reads, compiles and keeps policies.
    Policy,
    /// Writes decisions.
    Sink,
}

/// The confinement of a process: on, or off by `--no-sandbox`. Each thread takes it at its start.
#[derive(Clone, Debug, Default)]
pub struct Sandbox(Option<Arc<Confined>>);

#[derive(Debug, Default)]
struct Confined {
    seccomp: bool,
    landlock: bool,
    /// What could not be had.
    missing: Mutex<Vec<String>>,
}

impl Sandbox {
    /// No confinement.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether there is any.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Filters the system calls of this process, which has one thread. What the kernel lacks is logged and shown by
    /// [`Self::hardening`], and is no reason not to go on.
    #[must_use]
    pub fn enter() -> Self {
        let filtered = system_calls::filter();
        let landlock = files::is_available();
        let confined = Confined {
            seccomp: filtered.is_ok(),
            landlock,
            missing: Mutex::default(),
        };
        if let Err(error) = filtered {
            confined.lacks(error);
        }
        if !landlock {
            confined.lacks(NO_LANDLOCK.to_owned());
        }
        Self(Some(Arc::new(confined)))
    }

    /// Confines this thread, at its start; it may write below `directories`.
    pub fn confine_thread(&self, role: Role, directories: &[PathBuf]) {
        let Some(confined) = &self.0 else { return };
        if confined.landlock
            && let Err(error) = files::write_only_below(directories)
        {
            confined.lacks(format!("Landlock does not confine a thread: {error}"));
        }
        confined.keep(match role {
            Role::Policy => capabilities::POLICY,
            Role::Accounts | Role::Sink => CapabilitySet::empty(),
        });
    }

    /// Drops the capabilities that this thread, the event loop, does not need once it has attached its hooks and bound its
    /// sockets. Threads that it starts later have no others. `enters_namespaces` is for a policy with `scope: all`.
    pub fn drop_capabilities(&self, enters_namespaces: bool) {
        let Some(confined) = &self.0 else { return };
        let mut wanted = capabilities::DAEMON;
        if enters_namespaces {
            wanted |= capabilities::ENTER_NETNS;
        }
        confined.keep(wanted);
    }

    /// Why something may be refused that root could do; empty without confinement.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        if self.is_on() { HINT } else { "" }
    }

    /// What holds now, for the thread that asks.
    #[must_use]
    pub fn hardening(&self) -> Hardening {
        let confined = self.0.as_deref();
        let missing = confined.map(|confined| {
            let missing = confined.missing.lock();
            missing.unwrap_or_else(PoisonError::into_inner).clone()
        });
        Hardening {
            sandbox: confined.is_some(),
            capabilities: capabilities::names(),
            no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
            seccomp: confined.is_some_and(|confined| confined.seccomp),
            landlock: confined.is_some_and(|confined| confined.landlock),
            missing: missing.unwrap_or_default(),
        }
    }
}

const NO_LANDLOCK: &str =
    "Landlock is not available: Linux 5.13 or later with `landlock` in `lsm=`";

const HINT: &str = "; portguard runs with few capabilities since its start, and writes only to directories that were there \
    then: restart it, or start it with --no-sandbox";

impl Confined {
    fn keep(&self, wanted: CapabilitySet) {
        if let Err(error) = capabilities::keep(wanted) {
            self.lacks(format!("capabilities cannot be dropped: {error}"));
        }
    }

    /// Remembers what could not be had, and logs it once.
    fn lacks(&self, what: String) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.contains(&what) {
            return;
        }
        if what == NO_LANDLOCK {
            // Older kernels never have it.
            log::debug!("sandbox: {what}");
        } else {
            log_line!("portguard: sandbox: {what}");
        }
        missing.push(what);
    }
}

/// What this kernel lacks for the sandbox of `run`; empty where it lacks nothing.
#[must_use]
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !std::path::Path::new("/proc/sys/kernel/seccomp").exists() {
        missing.push("seccomp is not available: a kernel with CONFIG_SECCOMP_FILTER".to_owned());
    }
    if !files::is_available() {
        missing.push(NO_LANDLOCK.to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;

    /// Runs `work` on a confined thread.
    fn confined<T: Send>(
        role: Role,
        directories: &[PathBuf],
        work: impl FnOnce() -> T + Send,
    ) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let sandbox = Sandbox::enter();
                sandbox.confine_thread(role, directories);
                work()
            });
            thread.join().unwrap()
        })
    }

    fn line(status: &str, name: &str) -> String {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{status}")).trim().to_owned()
    }

    #[test]
    fn confined_thread_has_no_capabilities_and_a_filter() {
        let status = confined(Role::Sink, &[], || {
            fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            assert_eq!(line(&status, set), "0000000000000000", "{set}");
        }
        assert_eq!(line(&status, "NoNewPrivs:"), "1");
        assert_eq!(line(&status, "Seccomp:"), "2");
    }

    #[test]
    fn confined_thread_writes_to_its_directory_only() {
        if !files::is_available() {
            return;
        }
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = other.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        confined(Role::Policy, &[own.path().to_owned()], || {
            let path = own.path().join("next");
            fs::write(&path, "new").unwrap();
            fs::rename(&path, own.path().join("kept")).unwrap();
            fs::remove_file(own.path().join("kept")).unwrap();
            for refused in [
                fs::write(other.path().join("new"), "new"),
                fs::write(&kept, "changed"),
                fs::remove_file(&kept),
            ] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
            }
            assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        });
    }

    /// Why the event loop cannot have Landlock rules.
    #[test]
    fn confined_thread_sees_no_program_of_other_processes() {
        if !files::is_available() {
            return;
        }
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let exe = format!("/proc/{}/exe", child.id());
        let seen = confined(Role::Sink, &[], || fs::read_link(&exe));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn hardening_names_what_holds() {
        let off = Sandbox::off().hardening();
        assert!(!off.sandbox && !off.seccomp && !off.landlock && off.missing.is_empty());
        assert_eq!(Sandbox::off().hint(), "");
        let now = std::thread::spawn(|| {
            let sandbox = Sandbox::enter();
            sandbox.drop_capabilities(false);
            (sandbox.hardening(), sandbox.hint())
        });
        let (now, hint) = now.join().unwrap();
        assert!(now.sandbox && now.seccomp && now.no_new_privs, "{now:?}");
        assert!(
            !now.capabilities.contains(&"CAP_SYS_ADMIN".to_owned()),
            "{now:?}"
        );
        assert!(hint.ends_with("start it with --no-sandbox"));
        let expected = if now.landlock {
            &[][..]
        } else {
            &[NO_LANDLOCK.to_owned()][..]
        };
        assert_eq!(now.missing, expected);
    }
}
