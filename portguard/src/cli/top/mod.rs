//! `portguard monitor --top`: a live table.
//!
//! [`tally`] counts, [`view`] says what is shown, [`screen`] draws it; here is what makes them go.

mod rows;
mod screen;
mod tally;
#[cfg(test)]
mod tests;
mod view;

use super::Exit;
use crate::control::{ControlError, Filter, Heard, Monitor, Reply, Request, ask};
use crate::events::DecisionEvent;
use crate::status::Status;
use crate::stderr::log_line;
use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use view::View;

/// How often the screen is drawn where nobody presses a key.
const DRAW: Duration = Duration::from_millis(500);

/// How often the daemon is asked how it stands.
const ASK: Duration = Duration::from_secs(3);

/// How long to wait before a daemon that is gone is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// What may wait to be counted: where it is not enough, the daemon drops and tells.
const WAITING: usize = 4_096;

/// What the threads tell.
enum Told {
    DecisionEvent(Box<DecisionEvent>),
    Dropped(u64),
    Status(Box<Status>),
    /// The daemon is there.
    Here,
    /// It is not, and why.
    Gone(String),
    Terminal(Event),
    /// The terminal is gone.
    NoTerminal,
}

/// # Errors
/// Where the terminal cannot be used.
pub(super) fn run(path: &Path, filter: &Filter) -> anyhow::Result<Exit> {
    if !std::io::stdout().is_terminal() {
        log_line!("portguard: --top needs a terminal; omit it to print decisions");
        return Ok(Exit::Environment);
    }
    let monitor = match Monitor::open(path, filter.clone()) {
        Ok(monitor) => monitor,
        Err(error) => return Err(error.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?;
    let (tell, told) = mpsc::channel(WAITING);
    let _entered = runtime.enter();
    let ends = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let ends = ends.map(signal).into_iter().collect::<Result<Vec<_>, _>>();
    let ends = ends.context("handling signals")?;
    // Restored on a panic too.
    let mut terminal = ratatui::try_init().context("taking the terminal")?;
    start(path, filter, monitor, &tell);
    let ended = runtime.block_on(watch(&mut terminal, told, ends));
    let restored = ratatui::try_restore().context("giving the terminal back");
    ended.and(restored)?;
    Ok(Exit::Success)
}

/// Starts the threads; they end with the process.
fn start(path: &Path, filter: &Filter, monitor: Monitor, tell: &mpsc::Sender<Told>) {
    let (path, filter, tell) = (path.to_owned(), filter.clone(), tell.clone());
    {
        let (path, tell) = (path.clone(), tell.clone());
        std::thread::spawn(move || {
            while look(&path, &tell) {
                std::thread::sleep(ASK);
            }
        });
    }
    {
        let tell = tell.clone();
        std::thread::spawn(move || while read_terminal(&tell) {});
    }
    std::thread::spawn(move || {
        let mut next = Ok(monitor);
        loop {
            let error = match next {
                Ok(monitor) => listen(monitor, &tell),
                Err(error) => Some(error),
            };
            let Some(error) = error else { return };
            if tell.blocking_send(Told::Gone(error.to_string())).is_err() {
                return;
            }
            std::thread::sleep(AGAIN);
            next = Monitor::open(&path, filter.clone());
        }
    });
}

/// Hands on what the daemon says until it ends; `None` where nobody listens to us.
fn listen(mut monitor: Monitor, tell: &mpsc::Sender<Told>) -> Option<ControlError> {
    tell.blocking_send(Told::Here).ok()?;
    loop {
        let told = match monitor.hear() {
            Ok(Heard::DecisionEvent(decided, _)) => Told::DecisionEvent(decided),
            Ok(Heard::Dropped(dropped)) => Told::Dropped(dropped),
            Err(error) => return Some(error),
        };
        tell.blocking_send(told).ok()?;
    }
}

/// Asks how the daemon stands; false where nobody listens to us. That it is gone is told by [`listen`].
fn look(path: &Path, tell: &mpsc::Sender<Told>) -> bool {
    match ask(path, &Request::Status) {
        Ok(Reply::Status(status)) => tell.blocking_send(Told::Status(status)).is_ok(),
        _ => !tell.is_closed(),
    }
}

/// Hands on a key or a new size; false where there will be no more.
fn read_terminal(tell: &mpsc::Sender<Told>) -> bool {
    let told = match event::read() {
        Ok(event) => Told::Terminal(event),
        Err(_) => Told::NoTerminal,
    };
    let last = matches!(told, Told::NoTerminal);
    tell.blocking_send(told).is_ok() && !last
}

async fn watch(
    terminal: &mut DefaultTerminal,
    mut told: mpsc::Receiver<Told>,
    mut ends: Vec<Signal>,
) -> anyhow::Result<()> {
    let mut view = View::new();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // The first comes at once.
    seconds.tick().await;
    let mut draws = interval(DRAW);
    draws.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let [interrupt, terminate, hangup] = &mut ends[..] else {
        return Ok(());
    };
    loop {
        let draw = tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = seconds.tick() => {
                view.tally.tick();
                false
            }
            _ = draws.tick() => true,
            heard = told.recv() => match heard {
                Some(Told::Terminal(event)) => {
                    if !view.press(&event) {
                        return Ok(());
                    }
                    true
                }
                Some(Told::NoTerminal) | None => return Ok(()),
                Some(told) => {
                    view.take(told);
                    false
                }
            },
        };
        if draw {
            terminal
                .draw(|frame| screen::draw(frame, &mut view))
                .context("drawing on the terminal")?;
        }
    }
}
