//! A timer of the kernel. The runtime's own timers wake an idle process several times before they are due.

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Ticks at a period. Ticks that were missed are one.
pub(super) struct Pulse(AsyncFd<OwnedFd>);

impl Pulse {
    /// The first tick is one period from now. Must be called within the runtime.
    pub(super) fn new(period: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let period = Timespec::try_from(period).map_err(|_| io::ErrorKind::InvalidInput)?;
        let spec = Itimerspec {
            it_interval: period,
            it_value: period,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        // SAFETY: the descriptor is owned, and `AsyncFd` closes it.
        Ok(Self(unsafe { AsyncFd::register(timer) }?))
    }

    /// Waits for the next tick. Cancel-safe.
    pub(super) async fn tick(&self) {
        let Ok(mut ready) = self.0.readable().await else {
            // Never: the runtime outlives its tasks.
            return std::future::pending().await;
        };
        // How many ticks: they are one.
        let _ = rustix::io::read(ready.get_inner(), &mut [0; 8]);
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pulse_ticks_again_and_again() {
        let pulse = Pulse::new(Duration::from_millis(5)).expect("a timer");
        let begin = std::time::Instant::now();
        for _ in 0..3 {
            pulse.tick().await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(15));
    }

    #[tokio::test]
    async fn missed_ticks_are_one() {
        let pulse = Pulse::new(Duration::from_millis(200)).expect("a timer");
        std::thread::sleep(Duration::from_millis(450));
        pulse.tick().await;
        let soon = tokio::time::timeout(Duration::from_millis(1), pulse.tick());
        assert!(soon.await.is_err(), "the missed ticks were more than one");
    }
}
