//! `portguard monitor --top`: a live table.
//!
//! [`tally`] counts, [`view`] holds what is shown, [`screen`] draws it; this module runs the event loop.

mod rows;
mod screen;
mod tally;
#[cfg(test)]
mod tests;
mod view;

use crate::control::{ControlError, Filter, Monitor, MonitorItem, Reply, Request, ask};
use crate::events::DecisionEvent;
use crate::exit::Exit;
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

/// Interval between screen updates.
const DRAW: Duration = Duration::from_millis(500);

/// Interval between status requests to the daemon.
const STATUS_INTERVAL: Duration = Duration::from_secs(3);

/// Delay before reconnecting to the daemon.
const RECONNECT: Duration = Duration::from_secs(1);

/// Messages that may wait to be counted; beyond that the daemon drops events and reports how many.
const QUEUE: usize = 4_096;

/// A message to the event loop.
enum Message {
    DecisionEvent(Box<DecisionEvent>),
    Dropped(u64),
    Status(Box<Status>),
    /// The daemon is connected.
    Connected,
    /// The daemon is not reachable, and why.
    Disconnected(String),
    Terminal(Event),
    /// The terminal was closed.
    TerminalClosed,
}

pub(super) fn run(path: &Path, filter: &Filter) -> anyhow::Result<Exit> {
    if !std::io::stdout().is_terminal() {
        log_line!("portguard: --top needs a terminal; omit it to print decisions");
        return Ok(Exit::Environment);
    }
    let monitor = Monitor::open(path, filter.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?;
    let (messages, receiver) = mpsc::channel(QUEUE);
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
    start(path, filter, monitor, &messages);
    let ended = runtime.block_on(watch(&mut terminal, receiver, ends));
    let restored = ratatui::try_restore().context("giving the terminal back");
    ended.and(restored)?;
    Ok(Exit::Success)
}

/// Starts the threads; they end with the process.
fn start(path: &Path, filter: &Filter, monitor: Monitor, messages: &mpsc::Sender<Message>) {
    let (path, filter, messages) = (path.to_owned(), filter.clone(), messages.clone());
    {
        let (path, messages) = (path.clone(), messages.clone());
        std::thread::spawn(move || {
            while request_status(&path, &messages) {
                std::thread::sleep(STATUS_INTERVAL);
            }
        });
    }
    {
        let messages = messages.clone();
        std::thread::spawn(move || while read_terminal(&messages) {});
    }
    std::thread::spawn(move || {
        let mut next = Ok(monitor);
        loop {
            let error = match next {
                Ok(monitor) => listen(monitor, &messages),
                Err(error) => Some(error),
            };
            let Some(error) = error else { return };
            if messages
                .blocking_send(Message::Disconnected(error.to_string()))
                .is_err()
            {
                return;
            }
            std::thread::sleep(RECONNECT);
            next = Monitor::open(&path, filter.clone());
        }
    });
}

/// Forwards events until the daemon exits; `None` once the event loop has ended.
fn listen(mut monitor: Monitor, messages: &mpsc::Sender<Message>) -> Option<ControlError> {
    messages.blocking_send(Message::Connected).ok()?;
    loop {
        let message = match monitor.recv() {
            Ok(MonitorItem::DecisionEvent(decided, _)) => Message::DecisionEvent(decided),
            Ok(MonitorItem::Dropped(dropped)) => Message::Dropped(dropped),
            Err(error) => return Some(error),
        };
        messages.blocking_send(message).ok()?;
    }
}

/// Requests the status; false once the event loop has ended. [`listen`] reports a daemon that is gone.
fn request_status(path: &Path, messages: &mpsc::Sender<Message>) -> bool {
    match ask(path, &Request::Status) {
        Ok(Reply::Status(status)) => messages.blocking_send(Message::Status(status)).is_ok(),
        _ => !messages.is_closed(),
    }
}

/// Forwards a key or a new size; false after the last one.
fn read_terminal(messages: &mpsc::Sender<Message>) -> bool {
    let message = match event::read() {
        Ok(event) => Message::Terminal(event),
        Err(_) => Message::TerminalClosed,
    };
    let last = matches!(message, Message::TerminalClosed);
    messages.blocking_send(message).is_ok() && !last
}

async fn watch(
    terminal: &mut DefaultTerminal,
    mut receiver: mpsc::Receiver<Message>,
    mut ends: Vec<Signal>,
) -> anyhow::Result<()> {
    let mut view = View::new();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // The first tick is immediate.
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
            received = receiver.recv() => match received {
                Some(Message::Terminal(event)) => {
                    if !view.press(&event) {
                        return Ok(());
                    }
                    true
                }
                Some(Message::TerminalClosed) | None => return Ok(()),
                Some(message) => {
                    view.take(message);
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
