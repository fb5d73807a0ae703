//! The runner: named tests, which of them this machine can run, and what is printed of each.

use crate::harness::env::{Kind, TestEnv};
use crate::harness::shared::SharedInstance;
use anyhow::ensure;
use std::fmt;
use std::time::Instant;

/// What a test needs, besides portguard and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// The LSM hook.
    Lsm,
    /// A kernel that was booted without `bpf` in `lsm=`.
    NoLsm,
    /// Debian's userland.
    Native,
    /// A machine that nothing else uses.
    Guest,
}

/// A test that starts what it needs, or needs no daemon.
pub type TestFn = fn(&TestEnv) -> anyhow::Result<()>;

/// A test of decisions only: it reloads its policies into a daemon that other tests use too.
pub type SharedTestFn = fn(&TestEnv, &mut SharedInstance) -> anyhow::Result<()>;

/// A module's tests.
pub type Table = &'static [(&'static str, Needs, TestFn)];

/// A module's tests of decisions only.
pub type SharedTable = &'static [(&'static str, Needs, SharedTestFn)];

#[derive(Clone, Copy)]
pub enum Run {
    /// The shared daemon is stopped first: two daemons would both decide.
    Alone(TestFn),
    Shared(SharedTestFn),
}

pub struct Test {
    pub name: &'static str,
    pub needs: Needs,
    pub guests: Guests,
    pub run: Run,
}

/// The guests that run a test. Native runs and those with a filter run every test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guests {
    All,
    /// Those of the oldest kernel, the newest and one between: for long tests that depend on the kernel in what they
    /// create, pin, count or remove. Without the LSM, what this machine does not run, on the one between.
    Some,
    /// The same without the oldest: for tests of reloads and of what the kernel tells of sockets. None without the LSM.
    Two,
    /// The one between, with the LSM: for tests of load, order and messages.
    Between,
    /// What this machine does not run, on the one between with the LSM: for tests of what the daemon does with files,
    /// sockets and readers.
    One,
}

impl Guests {
    fn include(self, env: &TestEnv, needs: Needs) -> bool {
        let between = env.kernel == (6, 12);
        let native = matches!(needs, Needs::Nothing | Needs::Native);
        match (self, env.kind) {
            (Self::All, _) | (_, Kind::Native) => true,
            (Self::Some, Kind::Guest) => !matches!(env.kernel, (6, 1 | 18)),
            (Self::Two, Kind::Guest) => between || env.kernel == (7, 2),
            (Self::Some, Kind::GuestWithoutLsm) => between && !native,
            (Self::Between, Kind::Guest) => between,
            (Self::One, Kind::Guest) => between && !native,
            (Self::Two | Self::Between | Self::One, Kind::GuestWithoutLsm) => false,
        }
    }

    /// Where the test runs, as printed where it does not.
    const fn text(self) -> &'static str {
        match self {
            Self::All => "every guest",
            Self::Some => {
                "this machine, 5.10, 6.12 and 7.2; what this machine cannot, without the LSM on 6.12 too"
            }
            Self::Two => "this machine, and 6.12 and 7.2 with the LSM",
            Self::Between => "this machine, and 6.12 with the LSM",
            Self::One => "this machine; what it cannot, on 6.12 with the LSM",
        }
    }
}

/// Why a test does not apply to this kernel. A test returns it only for what it has observed.
#[derive(Debug)]
pub struct NotApplicable(pub String);

impl fmt::Display for NotApplicable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotApplicable {}

/// What this machine lacks for a test.
fn missing(env: &TestEnv, needs: Needs) -> Option<String> {
    match needs {
        Needs::Lsm => env.without_lsm.clone(),
        Needs::NoLsm if env.kind != Kind::GuestWithoutLsm => {
            Some("the kernel was not booted without bpf in lsm=".into())
        }
        Needs::Native if env.kind != Kind::Native => Some("a guest has no Debian userland".into()),
        Needs::Guest if env.kind == Kind::Native => {
            Some("other programs may use the ports of this machine".into())
        }
        _ => None,
    }
}

/// Runs the tests whose name contains `filter` and prints how each ended.
pub fn run(kind: Kind, filter: Option<&str>, tests: &[Test]) -> anyhow::Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "these tests need root"
    );
    let env = TestEnv::new(kind)?;
    let mut shared = SharedInstance::default();
    let (mut passed, mut failed) = (0, 0);
    for test in tests
        .iter()
        .filter(|test| filter.is_none_or(|part| test.name.contains(part)))
    {
        if filter.is_none() && !test.guests.include(&env, test.needs) {
            println!("n/a {}: runs on {}", test.name, test.guests.text());
            continue;
        }
        if let Some(reason) = missing(&env, test.needs) {
            println!("n/a {}: {reason}", test.name);
            continue;
        }
        let start = Instant::now();
        match run_one(&env, &mut shared, test.run) {
            Ok(()) => {
                passed += 1;
                println!("ok {} ({:.1})", test.name, start.elapsed().as_secs_f32());
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

fn run_one(env: &TestEnv, shared: &mut SharedInstance, run: Run) -> anyhow::Result<()> {
    match run {
        Run::Alone(test) => {
            shared.stop()?;
            test(env)
        }
        Run::Shared(test) => {
            let result = test(env, shared);
            if result.is_err() {
                // Whatever state it is in, the next test gets another.
                shared.kill();
            }
            result
        }
    }
}
