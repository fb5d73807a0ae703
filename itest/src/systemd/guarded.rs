//! Binds without a break, which are refused throughout: no moment unguarded.

use crate::harness::bind_load::BindLoad;
use crate::harness::probe::{Answer, Attempt, Probe};
use anyhow::ensure;

/// Root, to whom port 80 is denied, tries for it again and again while something is done; how many binds
/// were refused, which were all.
pub(super) fn meanwhile(done: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let hammer = BindLoad::start(8, 80, u64::MAX);
    done()?;
    let ended = hammer.stop()?;
    let refused = ended.get(&libc::EACCES).copied().unwrap_or(0);
    ensure!(
        ended.len() == 1 && refused > 10,
        "binds ended with {ended:?}"
    );
    Ok(refused)
}

/// What a bind of port 80 by this user ends with.
pub(super) fn bind_by(uid: u32) -> anyhow::Result<i32> {
    match Probe::user(uid).bind(Attempt::tcp(80)).run()?.as_slice() {
        [Answer::Bound(errno)] => Ok(*errno),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Root is denied port 80, and www-data has it where the kernel can grant.
pub(super) fn in_force(grants: bool) -> anyhow::Result<()> {
    let (root, web) = (bind_by(0)?, bind_by(33)?);
    ensure!(root == libc::EACCES, "root's bind ended with {root}");
    let granted = if grants { 0 } else { libc::EACCES };
    ensure!(web == granted, "www-data's bind ended with {web}");
    Ok(())
}
