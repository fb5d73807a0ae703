//! A daemon with a socket and nothing else.

use portguard::control::{
    EventSender, PendingRequest, Reply, Request, Server, event_channel, publish,
};
use portguard::events::{DecisionEvent, SharedEvent};
use portguard::status::{
    DaemonStatus, Decisions, Enforcing, PolicyInForce, Reloads, RuleHits, Status,
};
use portguard_common::{Hook, Verdict};
use portguard_policy::policy::{Mode, Scope};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

pub(crate) const MISTAKE: &str = "web.yaml:7:5: unknown key `prots`
  |
7 |     prots: [80]
  |     ^^^^^ did you mean `ports`?
";

/// The socket's directory and the daemon's thread; both end with this.
pub(crate) struct Daemon {
    directory: TempDir,
    events: EventSender,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// For root, and for the user of the tests.
    pub(crate) fn start() -> Self {
        let own = rustix::process::getegid().as_raw();
        Self::answering(Some(own), answer)
    }

    pub(crate) fn of_group(group: Option<u32>) -> Self {
        Self::answering(group, answer)
    }

    pub(crate) fn answering(
        group: Option<u32>,
        answer: impl Fn(&Request) -> Option<Reply> + Send + 'static,
    ) -> Self {
        let directory = directory();
        let events = event_channel();
        let server = Server::bind(&directory.path().join("socket"), group).unwrap();
        let (end, ended) = oneshot::channel();
        let (sender, requests) = mpsc::channel(4);
        let serving = server.serve(sender, events.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {},
                    () = answers(requests, answer) => {},
                    _ = ended => {},
                }
            });
        });
        Self {
            directory,
            events,
            end: Some(end),
            thread: Some(thread),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn publish(&self, decided: DecisionEvent) {
        publish(&self.events, &Arc::new(SharedEvent::new(decided)));
    }

    pub(crate) fn monitors(&self) -> usize {
        self.events.receiver_count()
    }

    /// Ends it; the directory stays.
    pub(crate) fn end(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

async fn answers(
    mut requests: mpsc::Receiver<PendingRequest>,
    answer: impl Fn(&Request) -> Option<Reply>,
) {
    while let Some(pending) = requests.recv().await {
        if let Some(reply) = answer(&pending.request) {
            // The client may have gone.
            let _ = pending.reply.send(reply);
        }
    }
}

fn answer(request: &Request) -> Option<Reply> {
    match request {
        Request::Status => Some(Reply::Status(Box::new(status()))),
        Request::Reload => Some(Reply::Reloaded {
            policy: "b7b9142ff996".into(),
            warnings: "web.yaml:3:5: warning: odd\n".into(),
            changes: "rules +2 -1, ports no longer protected: 80; weaker than before".into(),
        }),
        Request::Detach => Some(Reply::Detached),
        Request::Monitor { .. } => None,
    }
}

/// A directory that everyone may look into.
pub(crate) fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    directory
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn status() -> Status {
    Status {
        enforcing: Enforcing::Enforce,
        hook: Some(Hook::Lsm),
        daemon: Some(DaemonStatus {
            pid: 4242,
            version: "0.1.0".into(),
            since: "2026-01-02T03:04:05.678901234Z".into(),
            uptime: 273_605,
            usage: None,
        }),
        kernel: "6.12.0".into(),
        policy: Some(policy()),
        rules: vec![
            rule(
                Some("web"),
                Verdict::Allow,
                Some("/etc/portguard/web.yaml:5"),
                12,
            ),
            RuleHits {
                audit: true,
                ..rule(
                    Some("rest"),
                    Verdict::Deny,
                    Some("/etc/portguard/web.yaml:10"),
                    3,
                )
            },
            rule(None, Verdict::Kernel, None, 0),
        ],
        decisions: Decisions {
            allow: 12,
            deny: 3,
            kernel: 0,
        },
        dropped: [("ring_full".to_owned(), 0), ("uid_quota".to_owned(), 0)].into(),
        events: Some(15),
        programs: Vec::new(),
        reloads: Some(Reloads {
            done: 2,
            failed: 0,
            last_success: Some("2026-01-03T00:00:00Z".into()),
            last: Some("2026-01-03T00:00:00.1Z".into()),
            error: None,
        }),
        pins: Some("/sys/fs/bpf/portguard".into()),
        problems: Vec::new(),
        reattached: 0,
        fallback: None,
        violations: Some(0),
        hardening: None,
    }
}

fn policy() -> PolicyInForce {
    PolicyInForce {
        hash: "b7b9142ff996".into(),
        revision: "fedcba987654".into(),
        origin: vec!["/etc/portguard/policies".into()],
        generation: 3,
        since: "2026-01-03T00:00:00.1Z".into(),
        mode: Mode::Enforce,
        default: Verdict::Kernel,
        protect: "1-1023".into(),
        scope: Scope::Host,
    }
}

fn rule(name: Option<&str>, verdict: Verdict, origin: Option<&str>, hits: u64) -> RuleHits {
    RuleHits {
        name: name.map(str::to_owned),
        verdict,
        origin: origin.map(str::to_owned),
        audit: false,
        hits,
    }
}

/// A made-up decision; `pid` tells it from others.
pub(crate) fn decided(pid: u32) -> DecisionEvent {
    DecisionEvent {
        policy: "b7b9142ff996".into(),
        euid: 1000,
        pid: Some(pid),
        cgroup: Some("/system.slice/nginx.service/worker".into()),
        ..serde_json::from_str(include_str!("../event.json")).unwrap()
    }
}
