//! One client: its request, and what comes of it.

use super::filter::EventFilter;
use super::server::MONITORS;
use super::{Dropped, Filter, PendingRequest, Published, Reply, Request};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::time::timeout;

/// How long a client may take to ask, and to read an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a request.
const REQUEST: usize = 16 * 1024;

/// Bytes that go to a monitor in one write, if so many are waiting; one line can be longer.
const BATCH: usize = 4 * 1024;

/// Bytes that the kernel keeps for a monitor that does not read: the kernel's own default, for every
/// client there may be, is more memory than the daemon may take.
const UNREAD: usize = 32 * 1024;

/// A client that may ask.
pub(super) struct Session {
    pub(super) stream: UnixStream,
    pub(super) root: bool,
    pub(super) asks: mpsc::Sender<PendingRequest>,
    pub(super) events: broadcast::Sender<Arc<Published>>,
    pub(super) replies: Arc<Semaphore>,
    /// The places of those that stay.
    pub(super) monitors: Arc<Semaphore>,
}

impl Session {
    pub(super) async fn run(mut self) {
        let request = match timeout(PATIENCE, request(&mut self.stream)).await {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return refuse(&self.stream, error),
            Err(_) => {
                let error = format!("no request within {} s", PATIENCE.as_secs());
                return refuse(&self.stream, error);
            }
        };
        match request {
            Request::Monitor { filter } => self.monitor(filter).await,
            // Whoever may read what is decided may not end it.
            Request::Detach if !self.root => refuse(&self.stream, "only root may detach".into()),
            request => {
                let replies = Arc::clone(&self.replies);
                let _counted = if self.root {
                    None
                } else {
                    replies.acquire().await.ok()
                };
                let reply = self.ask(request).await;
                // A client that does not read its answer goes without.
                let _ = timeout(PATIENCE, self.stream.write_all(line(&reply).as_bytes())).await;
            }
        }
    }

    async fn ask(&self, request: Request) -> Reply {
        let (answer, answered) = oneshot::channel();
        let reply = match self.asks.send(PendingRequest { request, answer }).await {
            Ok(()) => answered.await.ok(),
            Err(_) => None,
        };
        reply.unwrap_or_else(|| Reply::Failed {
            error: "the daemon is ending".into(),
        })
    }

    async fn monitor(mut self, filter: Filter) {
        let wanted = match EventFilter::new(filter) {
            Ok(wanted) => wanted,
            Err(error) => return refuse(&self.stream, error),
        };
        let Ok(_place) = Arc::clone(&self.monitors).try_acquire_owned() else {
            let error = format!("too many monitors: there are {MONITORS}, end some");
            return refuse(&self.stream, error);
        };
        // Where the kernel does not take it, its default holds.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&self.stream, UNREAD);
        let mut events = self.events.subscribe();
        // This one's own sender must not keep the channel open.
        drop(self.events);
        let mut batch = line(&Reply::Monitoring);
        loop {
            if !batch.is_empty() && self.stream.write_all(batch.as_bytes()).await.is_err() {
                return;
            }
            batch.clear();
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => add(&mut batch, &wanted, &event),
                    Err(RecvError::Lagged(dropped)) => batch.push_str(&line(&Dropped { dropped })),
                    Err(RecvError::Closed) => return,
                },
                // It goes, or says what nobody asked it.
                _ = self.stream.read_u8() => return,
            }
            while batch.len() < BATCH {
                match events.try_recv() {
                    Ok(event) => add(&mut batch, &wanted, &event),
                    Err(TryRecvError::Lagged(dropped)) => {
                        batch.push_str(&line(&Dropped { dropped }))
                    }
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
    }
}

fn add(batch: &mut String, wanted: &EventFilter, event: &Published) {
    if wanted.has(event.decided()) {
        batch.push_str(event.line());
    }
}

/// The request; `None` where the client goes without a word.
///
/// # Errors
/// In words, for the client.
async fn request(stream: &mut UnixStream) -> Result<Option<Request>, String> {
    let mut read = Vec::new();
    let line = loop {
        let before = read.len();
        // A client that is gone has no use for an error.
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            break &read[..];
        }
        let newline = read[before..].iter().position(|byte| *byte == b'\n');
        if let Some(newline) = newline.filter(|at| before + at <= REQUEST) {
            break &read[..before + newline];
        }
        if read.len() > REQUEST {
            return Err(format!("the request is longer than {REQUEST} bytes"));
        }
    };
    if line.is_empty() {
        return Ok(None);
    }
    let request =
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    Ok(Some(request))
}

/// Tells a client why not. It has read nothing yet, so there is room; one that has gone is not missed.
pub(super) fn refuse(stream: &UnixStream, error: String) {
    let _ = stream.try_write(line(&Reply::Failed { error }).as_bytes());
}

fn line(value: &impl Serialize) -> String {
    // Plain strings and numbers always serialise.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}
