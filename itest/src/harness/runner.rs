//! The harness: named tests, which of them a machine can run, and what is printed of each.

use crate::harness::active_lsms;
use crate::harness::bind_runner::{cgroup_root, kernel_version};
use anyhow::ensure;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On a machine that others use too, by the hooks that it has.
    Native,
    /// In a guest whose kernel runs BPF LSM programs.
    Guest,
    /// In a guest that was booted without `bpf` in `lsm=`.
    GuestWithoutLsm,
}

/// What a test needs, beside portguard and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing more.
    Nothing,
    /// The LSM hook.
    Lsm,
    /// A kernel that was booted without it.
    NoLsm,
    /// Debian's userland.
    Native,
    /// A machine with nobody else in it.
    Guest,
}

/// A test.
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Whether it is about a daemon's life more than about the kernel's doing.
    pub lifecycle: bool,
    /// What it does.
    pub run: fn(&TestEnv) -> anyhow::Result<()>,
}

/// The machine as the tests must know it.
pub struct TestEnv {
    /// Where the tests run.
    pub kind: Kind,
    /// Version of the kernel.
    pub kernel: (u32, u32),
    /// Where the cgroup v2 tree is mounted.
    pub cgroups: PathBuf,
    /// Why no BPF LSM program runs here, where none does.
    pub without_lsm: Option<String>,
}

impl TestEnv {
    fn new(kind: Kind) -> anyhow::Result<Self> {
        Ok(Self {
            kind,
            kernel: kernel_version()?,
            cgroups: cgroup_root()?,
            without_lsm: match kind {
                // Whoever booted a guest chose it.
                Kind::Guest => None,
                Kind::GuestWithoutLsm => Some("this guest has no bpf in lsm=".into()),
                Kind::Native => active_lsms::without_bpf(),
            },
        })
    }

    /// How long portguard may take until it is ready: an emulated machine is slow.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(if self.kind == Kind::Native { 30 } else { 120 })
    }

    /// `allow` skips the capability check.
    #[must_use]
    pub fn grants(&self) -> bool {
        self.kernel >= (5, 12)
    }

    /// The hook that `--hook auto` must take.
    #[must_use]
    pub fn auto_hook(&self) -> &'static str {
        if self.without_lsm.is_none() {
            "lsm"
        } else {
            "cgroup"
        }
    }

    /// The arguments of `--hook` that must work here.
    #[must_use]
    pub fn hooks(&self) -> &'static [&'static str] {
        if self.without_lsm.is_none() {
            &["auto", "lsm", "cgroup"]
        } else {
            &["auto", "cgroup"]
        }
    }

    /// The hooks that a test of every hook tries here. Guests come in twos, and the one booted without the
    /// LSM has the cgroup hooks decide.
    pub fn deciding_hooks(&self) -> impl Iterator<Item = &'static str> {
        let hooks: &[_] = match (self.kind, &self.without_lsm) {
            (_, Some(_)) => &["cgroup"],
            (Kind::Guest, None) => &["lsm"],
            (_, None) => &["lsm", "cgroup"],
        };
        hooks.iter().copied()
    }

    /// What a denial by this hook ends with.
    #[must_use]
    pub fn denial(&self, hook: &str) -> i32 {
        if hook == "cgroup" && self.kernel < (5, 18) {
            libc::EPERM
        } else {
            libc::EACCES
        }
    }

    /// A daemon's lives take long, and differ by its kernel least: the guests with the oldest kernel, the newest and
    /// one between have them, without the LSM only the last.
    fn lives(&self) -> bool {
        match self.kind {
            Kind::Native => true,
            Kind::Guest => !matches!(self.kernel, (6, 1 | 18)),
            Kind::GuestWithoutLsm => self.kernel == (6, 12),
        }
    }

    fn lacks(&self, needs: Needs) -> Option<String> {
        match needs {
            Needs::Lsm => self.without_lsm.clone(),
            Needs::NoLsm if self.kind != Kind::GuestWithoutLsm => {
                Some("the kernel was not booted without bpf in lsm=".into())
            }
            Needs::Native if self.kind != Kind::Native => {
                Some("a guest has no Debian userland".into())
            }
            Needs::Guest if self.kind == Kind::Native => {
                Some("others may use the ports of this machine".into())
            }
            _ => None,
        }
    }
}

/// Why a test says nothing on this kernel: found out, never assumed.
#[derive(Debug)]
pub struct NotApplicable(pub String);

impl fmt::Display for NotApplicable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotApplicable {}

/// Soaks this guest for so long, in ten parts.
pub fn soak(long: Duration) -> anyhow::Result<()> {
    let env = TestEnv::new(Kind::Guest)?;
    crate::soak::run(&env, 10, long / 10)
}

/// Runs the tests whose name contains `filter` and prints how each ended.
pub fn run(kind: Kind, filter: Option<&str>, tests: &[Test]) -> anyhow::Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "these tests need root"
    );
    let env = TestEnv::new(kind)?;
    let (mut passed, mut failed) = (0, 0);
    for test in tests
        .iter()
        .filter(|test| filter.is_none_or(|part| test.name.contains(part)))
    {
        if test.lifecycle && filter.is_none() && !env.lives() {
            println!(
                "n/a {}: lives are lived on 5.10, 6.12 and 7.2, without the LSM on 6.12",
                test.name
            );
            continue;
        }
        if let Some(reason) = env.lacks(test.needs) {
            println!("n/a {}: {reason}", test.name);
            continue;
        }
        let began = Instant::now();
        match (test.run)(&env) {
            Ok(()) => {
                passed += 1;
                println!("ok {} ({:.1})", test.name, began.elapsed().as_secs_f32());
            }
            Err(error) => match error.downcast_ref::<NotApplicable>() {
                Some(reason) => println!("n/a {}: {reason}", test.name),
                None => {
                    failed += 1;
                    println!("FAIL {}: {error:#}", test.name);
                }
            },
        }
    }
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "{failed} tests failed");
    ensure!(passed > 0, "no test ran");
    Ok(())
}
