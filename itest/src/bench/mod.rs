//! `portguard-itest bench`: the cost of portguard in a bind(2), beside what others cost.
//!
//! For a guest of one CPU under `-icount shift=0`, where figures are instructions and repeat to a few in a
//! thousand. Each is also given as a ratio to a bare bind of the same boot. A row is
//! `bench: ROW<TAB>INSTRUCTIONS<TAB>RATIO<TAB>TARGET<TAB>BARE`, where BARE is the cost of a bare bind, and `-` in rows
//! that do not measure portguard. A missed target is not a failure.

mod measure;
mod policies;
mod rivals;
mod rows;

use measure::become_threaded;
use rivals::{Cost, Empty};

/// The numbers of ports of the Landlock domains, and of rules of portguard's policies.
const SIZES: [u16; 3] = [1, 1000, 4096];

/// The numbers of rules of systemd's program, of which 128 are the most.
const SYSTEMD_RULES: [u32; 4] = [1, 8, 32, 128];

/// The verb `bench`; `bench landlock PORTS` is the part that needs its own process.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    match args {
        [] => all(),
        [verb, ports] if verb == "landlock" => rivals::in_landlock(ports.parse()?),
        _ => anyhow::bail!("bench takes no arguments"),
    }
}

/// The figures to compare with, as far as they could be measured.
struct Yardsticks {
    bare: Cost,
    empty_lsm: Option<Cost>,
    both_empty: Option<Cost>,
    landlock: [Option<f64>; SIZES.len()],
}

fn all() -> anyhow::Result<()> {
    become_threaded();
    let yard = yardsticks()?;
    rows::all(&yard);
    Ok(())
}

fn row(name: &str, insns: f64, bare: f64, target: &str) {
    let ratio = insns / bare;
    println!("bench: {name}\t{insns:.0}\t{ratio:.3}\t{target}\t{bare:.0}");
}

/// Prints a row that does not measure portguard.
fn yardstick(name: &str, insns: f64, bare: f64) {
    println!("bench: {name}\t{insns:.0}\t{:.3}\t\t-", insns / bare);
}

/// The figure; or prints a row with the reason why there is none.
fn measured<T>(name: &str, figure: anyhow::Result<T>) -> Option<T> {
    figure
        .inspect_err(|error| println!("bench: {name}\t-\t-\tnot measured: {error:#}"))
        .ok()
}

fn yardsticks() -> anyhow::Result<Yardsticks> {
    let bare = Cost::measure()?;
    let both_ports = |name: &str, cost: Cost| {
        yardstick(name, cost.protected, bare.protected);
        let name = format!("{name}, port not privileged");
        yardstick(&name, cost.outside, bare.outside);
    };
    both_ports("bare bind", bare);
    let empty = |name, which| {
        measured(name, rivals::empty_programs(which)).inspect(|cost| both_ports(name, *cost))
    };
    let empty_lsm = empty("empty LSM program", Empty::Lsm);
    empty("empty cgroup program", Empty::Cgroup);
    let both_empty = empty("both empty programs", Empty::Both);
    let one = |name: &str, figure| {
        measured(name, figure).inspect(|insns| yardstick(name, *insns, bare.protected))
    };
    let landlock = SIZES.map(|ports| {
        one(
            &format!("Landlock, ports: {ports}"),
            rivals::landlock(ports),
        )
    });
    for rules in SYSTEMD_RULES {
        one(
            &format!("systemd's SocketBindAllow=, rules: {rules}"),
            rivals::systemd(rules),
        );
    }
    Ok(Yardsticks {
        bare,
        empty_lsm,
        both_empty,
        landlock,
    })
}
