//! Binds that must be refused without a gap.

use super::unit::{main_pid, signal, wait_for_another};
use crate::harness::TestEnv;
use crate::harness::bind_load::BindLoad;
use crate::harness::probe::{Attempt, BindResult, Probe};
use anyhow::ensure;
use rustix::process::Signal;

/// Root, who is denied port 80, binds it continuously during an action: the number of binds, all of them refused.
pub(super) fn meanwhile(action: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let load = BindLoad::start(8, 80, u64::MAX);
    action()?;
    let ended = load.stop()?;
    let refused = ended.get(&libc::EACCES).copied().unwrap_or(0);
    ensure!(
        ended.len() == 1 && refused > 10,
        "binds ended with {ended:?}"
    );
    Ok(refused)
}

/// Kills the daemon, and waits until systemd has started another. Enforcement outlives it.
pub(super) fn killed(env: &TestEnv) -> anyhow::Result<()> {
    let daemon = main_pid()?;
    let refused = meanwhile(|| {
        signal(daemon, Signal::KILL)?;
        wait_for_another(daemon)
    })?;
    println!("  kill -9 and the restart: {refused} binds, all refused");
    in_force(env.grants())
}

/// The errno of a bind of port 80 by this user.
pub(super) fn bind_by(uid: u32) -> anyhow::Result<i32> {
    match Probe::user(uid).bind(Attempt::tcp(80)).run()?.as_slice() {
        [BindResult::Bound(errno)] => Ok(*errno),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Root is denied port 80, and www-data may bind it if the kernel can grant.
pub(super) fn in_force(grants: bool) -> anyhow::Result<()> {
    let (root, web) = (bind_by(0)?, bind_by(33)?);
    ensure!(root == libc::EACCES, "root's bind ended with {root}");
    let granted = if grants { 0 } else { libc::EACCES };
    ensure!(web == granted, "www-data's bind ended with {web}");
    Ok(())
}
