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
mod session;

use measure::become_threaded;
use rivals::{Cost, Empty};

/// The numbers of ports of the Landlock domains, and of rules of portguard's policies.
const SIZES: [u16; 3] = [1, 1000, 4096];

/// The numbers of rules of systemd's program, of which 128 are the most.
const SYSTEMD_RULES: [u16; 4] = [1, 8, 32, 128];

/// The verb `bench`, or `bench only TEXT` for the rows of portguard whose name contains the text; `bench landlock PORTS`
/// is the part that needs its own process.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    match args {
        [] => all(""),
        [verb, text] if verb == "only" => all(text),
        [verb, ports] if verb == "landlock" => rivals::in_landlock(ports.parse()?),
        _ => anyhow::bail!("bench takes no arguments, or `only TEXT`"),
    }
}

/// The figures to compare with, as far as they could be measured.
struct Yardsticks {
    bare: Cost,
    empty_lsm: Option<Cost>,
    both_empty: Option<Cost>,
    landlock: [Option<f64>; SIZES.len()],
    systemd: [Option<f64>; SYSTEMD_RULES.len()],
    /// Part of the name of the rows to measure.
    only: String,
}

impl Yardsticks {
    /// Whether to measure a row.
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

fn all(only: &str) -> anyhow::Result<()> {
    become_threaded();
    let yard = yardsticks(only)?;
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

fn yardsticks(only: &str) -> anyhow::Result<Yardsticks> {
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
    let systemd = SYSTEMD_RULES.map(|rules| {
        let name = format!("systemd's SocketBindAllow=, rules: {rules}");
        one(&name, rivals::systemd(rules))
    });
    Ok(Yardsticks {
        bare,
        empty_lsm,
        both_empty,
        landlock,
        systemd,
        only: only.to_owned(),
    })
}
