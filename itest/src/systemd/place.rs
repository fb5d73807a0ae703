//! The unit's place among others, and what systemd itself says of it.

use super::guarded::in_force;
use super::unit::{UNIT, command, journal, property, property_of};
use crate::harness::World;
use anyhow::{Context as _, ensure};

/// What must come later; `guest.service`, in which this runs, is an ordinary service.
const LATER: [&str; 4] = [
    "network-pre.target",
    "sysinit.target",
    "systemd-resolved.service",
    "rpcbind.socket",
];

/// Started at boot, and in force before the first ordinary service began.
pub(super) fn before_services(world: &World) -> anyhow::Result<()> {
    ensure!(
        property("ActiveState")? == "active",
        "not active in the first ordinary service\n{}",
        journal()?
    );
    in_force(world.grants())?;
    let before = property("Before")?;
    for unit in LATER {
        ensure!(
            before.split_whitespace().any(|other| other == unit),
            "not before {unit}, only before {before}"
        );
    }
    let microseconds = |text: String| text.parse::<u64>().context(text);
    let ready = microseconds(property("ActiveEnterTimestampMonotonic")?)?;
    let basic = microseconds(property_of(
        "basic.target",
        "ActiveEnterTimestampMonotonic",
    )?)?;
    let service = microseconds(property_of(
        "guest.service",
        "ExecMainStartTimestampMonotonic",
    )?)?;
    ensure!(
        0 < ready && ready < basic && basic <= service,
        "ready at {ready} us, basic.target at {basic} us, the first service at {service} us"
    );
    println!(
        "  ready {} ms before basic.target, {} ms before the first ordinary service",
        (basic - ready) / 1000,
        (service - ready) / 1000
    );
    Ok(())
}

/// systemd has nothing against the unit; how exposed it finds the service is printed.
pub(super) fn verify_and_exposure(_: &World) -> anyhow::Result<()> {
    // The manual is not in a guest.
    let verify = command("systemd-analyze", &["verify", "--man=no", UNIT])?;
    let said = String::from_utf8_lossy(&verify.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains(UNIT)).collect();
    ensure!(
        verify.status.success() && ours.is_empty(),
        "systemd-analyze verify: {said}"
    );
    let security = command("systemd-analyze", &["security", "--no-pager", UNIT])?;
    let said = String::from_utf8_lossy(&security.stdout);
    let overall = said
        .lines()
        .find_map(|line| line.split_once("exposure level for"));
    let (_, level) = overall.with_context(|| format!("systemd-analyze security: {said}"))?;
    println!("  exposure of{level}");
    let number = level.split_whitespace().find_map(|word| word.parse().ok());
    let number: f32 = number.with_context(|| format!("no number: {level}"))?;
    ensure!(number < 4.0, "more exposed than it was: {level}");
    Ok(())
}
