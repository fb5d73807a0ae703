//! The machine that the tests run on: its kernel, its hooks, and the errno of a denial.

use crate::harness::active_lsms;
use crate::harness::cgroups::cgroup_root;
use anyhow::Context as _;
use std::path::PathBuf;
use std::time::Duration;

/// The kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A machine with other users, by the hooks that it has.
    Native,
    /// A guest whose kernel runs BPF LSM programs.
    Guest,
    /// A guest booted without `bpf` in `lsm=`.
    GuestWithoutLsm,
}

pub struct TestEnv {
    pub kind: Kind,
    /// Major and minor version.
    pub kernel: (u32, u32),
    /// The mount point of the cgroup v2 tree.
    pub cgroups: PathBuf,
    /// Why no BPF LSM program runs here, if none does.
    pub without_lsm: Option<String>,
}

impl TestEnv {
    pub fn new(kind: Kind) -> anyhow::Result<Self> {
        Ok(Self {
            kind,
            kernel: kernel_version()?,
            cgroups: cgroup_root()?,
            without_lsm: match kind {
                Kind::Guest => None,
                Kind::GuestWithoutLsm => Some("this guest has no bpf in lsm=".into()),
                Kind::Native => active_lsms::without_bpf(),
            },
        })
    }

    /// Whether long tests are whole here: on this machine, and in one guest. In the others they repeat less often.
    #[must_use]
    pub fn repeats_fully(&self) -> bool {
        self.kind == Kind::Native || (self.kind == Kind::Guest && self.kernel == (6, 12))
    }

    /// How long portguard may take until it is ready: emulated machines are slow.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(if self.kind == Kind::Native { 30 } else { 120 })
    }

    /// Whether `allow` can skip the capability check.
    #[must_use]
    pub fn grants(&self) -> bool {
        self.kernel >= (5, 12)
    }

    /// The hook that `--hook auto` must choose.
    #[must_use]
    pub fn auto_hook(&self) -> &'static str {
        if self.without_lsm.is_none() {
            "lsm"
        } else {
            "cgroup"
        }
    }

    /// The arguments of `--hook` that must work here; where tests are not whole, one of those that mean the same.
    #[must_use]
    pub fn hooks(&self) -> &'static [&'static str] {
        match (self.without_lsm.is_none(), self.repeats_fully()) {
            (true, true) => &["auto", "lsm", "cgroup"],
            (true, false) => &["auto", "cgroup"],
            (false, true) => &["auto", "cgroup"],
            (false, false) => &["auto"],
        }
    }

    /// The hooks that a test of each hook uses here. Every kernel has two guests, and in the one without the LSM the
    /// cgroup hooks decide.
    pub fn deciding_hooks(&self) -> impl Iterator<Item = &'static str> {
        let hooks: &[_] = match (self.kind, &self.without_lsm) {
            (_, Some(_)) => &["cgroup"],
            (Kind::Guest, None) => &["lsm"],
            (_, None) => &["lsm", "cgroup"],
        };
        hooks.iter().copied()
    }

    /// The errno of a denial by this hook whose rule does not say one.
    #[must_use]
    pub fn denial(&self, hook: &str) -> i32 {
        self.denial_with(hook, "EACCES")
    }

    /// The errno of a denial by this hook with this `errno:`.
    #[must_use]
    pub fn denial_with(&self, hook: &str, errno: &str) -> i32 {
        match errno {
            _ if hook == "cgroup" && self.kernel < (5, 18) => libc::EPERM,
            "EPERM" => libc::EPERM,
            "EADDRINUSE" => libc::EADDRINUSE,
            _ => libc::EACCES,
        }
    }

    /// What a bind ends with when this verdict is enforced, where the kernel alone would end it with `by_kernel`.
    #[must_use]
    pub fn enforced(&self, hook: &str, verdict: &str, grantable: bool, by_kernel: i32) -> i32 {
        match verdict {
            "deny" => self.denial(hook),
            "allow" if grantable && self.grants() => 0,
            _ => by_kernel,
        }
    }
}

/// What a bind ends with without portguard: a process has the capability while its effective uid is 0.
#[must_use]
pub fn by_kernel(euid: u32, port: u16) -> i32 {
    if (1..1024).contains(&port) && euid != 0 {
        libc::EACCES
    } else {
        0
    }
}

fn kernel_version() -> anyhow::Result<(u32, u32)> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .with_context(|| format!("kernel {release}"))
}
