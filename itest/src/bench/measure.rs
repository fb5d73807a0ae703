//! The clock of the bench: what one bind(2) costs.
//!
//! In a guest under `-icount shift=0` a nanosecond of `CLOCK_MONOTONIC` is one instruction. Each bind
//! is timed alone on a fresh socket, what reading the clock costs is taken off, and the median leaves
//! out those that a timer interrupt fell into.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

/// Binds a figure is the median of: their events fit any ring, so none is lost.
pub(super) const BINDS: usize = 201;

/// A protected port of every policy here.
pub(super) const PROTECTED: u16 = 700;
/// A port that no policy here protects.
pub(super) const OUTSIDE: u16 = 2000;

/// What a bind of a TCP socket to `port` costs, in nanoseconds, where it must end with `wanted`.
pub(super) fn cost(port: u16, wanted: Result<(), Errno>) -> anyhow::Result<f64> {
    cost_after(port, wanted, || ())
}

/// The same, with something done before each bind.
pub(super) fn cost_after(
    port: u16,
    wanted: Result<(), Errno>,
    mut before: impl FnMut(),
) -> anyhow::Result<f64> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    // The first bind fills caches, of the kernel and of the programs; it is not counted.
    let mut costs = Vec::with_capacity(BINDS);
    for round in 0..=BINDS {
        before();
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        let start = Instant::now();
        let got = bind(black_box(&fd), black_box(&address));
        let took = start.elapsed();
        anyhow::ensure!(
            got == wanted,
            "bind to port {port} ended with {got:?}, not {wanted:?}"
        );
        if round > 0 {
            costs.push(took.as_nanos() as u64);
        }
    }
    Ok(median(&mut costs).saturating_sub(clock()) as f64)
}

/// What reading the clock twice costs.
fn clock() -> u64 {
    let mut costs: Vec<u64> = (0..BINDS)
        .map(|_| {
            let start = Instant::now();
            black_box(());
            start.elapsed().as_nanos() as u64
        })
        .collect();
    median(&mut costs)
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
