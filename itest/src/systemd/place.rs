//! The unit in the boot order, and what systemd's own checks report.

use super::guarded::{bind_by, in_force};
use super::unit::{UNIT, command, journal, property, property_of};
use crate::harness::TestEnv;
use crate::harness::lines::DEADLINE;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Units that must start later. `guest.service`, in which this runs, is an ordinary service.
const LATER: [&str; 4] = [
    "network-pre.target",
    "sysinit.target",
    "systemd-resolved.service",
    "rpcbind.socket",
];

/// The daemon is started at boot and enforces before the first ordinary service starts.
pub(super) fn before_services(env: &TestEnv) -> anyhow::Result<()> {
    ensure!(
        property("ActiveState")? == "active",
        "not active in the first ordinary service\n{}",
        journal()?
    );
    in_force(env.grants())?;
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

/// systemd-analyze accepts the unit; its exposure level is printed.
pub(super) fn verify_and_exposure(_: &TestEnv) -> anyhow::Result<()> {
    // Guests have no man pages.
    let verify = command("systemd-analyze", &["verify", "--man=no", UNIT])?;
    let stderr = String::from_utf8_lossy(&verify.stderr);
    let ours: Vec<&str> = stderr.lines().filter(|line| line.contains(UNIT)).collect();
    ensure!(
        verify.status.success() && ours.is_empty(),
        "systemd-analyze verify: {stderr}"
    );
    let security = command("systemd-analyze", &["security", "--no-pager", UNIT])?;
    let stdout = String::from_utf8_lossy(&security.stdout);
    let overall = stdout
        .lines()
        .find_map(|line| line.split_once("exposure level for"));
    let (_, level) = overall.with_context(|| format!("systemd-analyze security: {stdout}"))?;
    println!("  exposure of{level}");
    let number = level.split_whitespace().find_map(|word| word.parse().ok());
    let number: f32 = number.with_context(|| format!("no number: {level}"))?;
    ensure!(number < 2.5, "more exposed than it was: {level}");
    Ok(())
}

/// The unit's journal has the decisions with their fields.
pub(super) fn decisions_in_journal(_: &TestEnv) -> anyhow::Result<()> {
    let until = Instant::now() + DEADLINE;
    loop {
        let errno = bind_by(0)?;
        ensure!(errno == libc::EACCES, "root's bind ended with {errno}");
        let arguments = ["-q", "-o", "json", "-u", UNIT, "PORTGUARD_RULE=nobody-else"];
        let output = command("journalctl", &arguments)?;
        let entries = String::from_utf8(output.stdout)?;
        let mut entries = entries
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let denied = |entry: Value| {
            entry["PORTGUARD_VERDICT"] == "deny"
                && entry["PORTGUARD_PORT"] == "80"
                && entry["PORTGUARD_UID"] == "0"
        };
        if entries.any(denied) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "no denial in the journal");
        std::thread::sleep(Duration::from_millis(100));
    }
}
