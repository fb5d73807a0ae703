//! The clock of the bench: the cost of one bind(2).
//!
//! In a guest under `-icount shift=0` a nanosecond of `CLOCK_MONOTONIC` is one instruction. Each bind is
//! timed alone on a new socket, the cost of reading the clock is subtracted, and the median excludes
//! binds that a timer interrupted.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

/// Binds of one figure, which is their median. Their events fit the ring buffer, so none is lost.
pub(super) const BINDS: usize = 201;

/// A protected port of every policy here.
pub(super) const PROTECTED: u16 = 700;
/// A port that no policy here protects.
pub(super) const OUTSIDE: u16 = 2000;

/// Starts a thread that sleeps, so that this process has more than one in every row.
///
/// bind(2) of a process with threads counts a reference to its descriptor (`fdget`), and the rows of portguard have
/// threads that read the daemon's output.
pub(super) fn become_threaded() {
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
}

/// The cost in nanoseconds of a bind of a TCP socket to `port`, which must end with `expected`.
pub(super) fn cost(port: u16, expected: Result<(), Errno>) -> anyhow::Result<f64> {
    cost_of(|_| port, expected)
}

/// The same of the port that each round has.
pub(super) fn cost_of(
    mut port: impl FnMut(usize) -> u16,
    expected: Result<(), Errno>,
) -> anyhow::Result<f64> {
    // The first bind fills caches of the kernel and the programs, and is not counted.
    let mut costs = Vec::with_capacity(BINDS);
    for round in 0..=BINDS {
        let port = port(round);
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        let start = Instant::now();
        let actual = bind(black_box(&fd), black_box(&address));
        let took = start.elapsed();
        anyhow::ensure!(
            actual == expected,
            "bind to port {port} ended with {actual:?}, expected {expected:?}"
        );
        if round > 0 {
            costs.push(took.as_nanos() as u64);
        }
    }
    Ok(median(&mut costs).saturating_sub(clock()) as f64)
}

/// The cost of reading the clock twice.
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
