//! One client: its request and the reply, or the events of a monitor.

use super::broadcast::Received;
use super::filter::EventFilter;
use super::limits::MONITORS;
use super::{Dropped, EventSender, Filter, PendingRequest, Reply, Request};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// How long a client may take to send its request, and to read the reply.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request, at most.
const REQUEST: usize = 16 * 1024;

/// Bytes written to a monitor at once, where so many wait; one line can be longer.
const BATCH: usize = 4 * 1024;

/// Bytes that the kernel buffers for a monitor that does not read: its default, times all clients, is more
/// memory than the daemon may take.
const SEND_BUFFER: usize = 32 * 1024;

/// A client with access.
pub(super) struct Session {
    pub(super) stream: UnixStream,
    pub(super) root: bool,
    pub(super) requests: mpsc::Sender<PendingRequest>,
    pub(super) events: EventSender,
    pub(super) replies: Arc<Semaphore>,
    /// Limits how many stay.
    pub(super) monitors: Arc<Semaphore>,
}

impl Session {
    pub(super) async fn run(mut self) {
        let request = match timeout(CLIENT_TIMEOUT, request(&mut self.stream)).await {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return refuse(&self.stream, error),
            Err(_) => {
                let error = format!("no request within {} s", CLIENT_TIMEOUT.as_secs());
                return refuse(&self.stream, error);
            }
        };
        match request {
            Request::Monitor { filter } => self.monitor(filter).await,
            // The group may read decisions, but not end enforcement.
            Request::Detach if !self.root => refuse(&self.stream, "only root may detach".into()),
            request => {
                let replies = Arc::clone(&self.replies);
                let _counted = if self.root {
                    None
                } else {
                    replies.acquire().await.ok()
                };
                let reply = self.reply(request).await;
                // A client that does not read its reply loses it.
                let _ = timeout(
                    CLIENT_TIMEOUT,
                    self.stream.write_all(line(&reply).as_bytes()),
                )
                .await;
            }
        }
    }

    async fn reply(&self, request: Request) -> Reply {
        let (reply, replied) = oneshot::channel();
        let reply = match self.requests.send(PendingRequest { request, reply }).await {
            Ok(()) => replied.await.ok(),
            Err(_) => None,
        };
        reply.unwrap_or_else(|| Reply::Failed {
            error: "the daemon is ending".into(),
        })
    }

    async fn monitor(mut self, filter: Filter) {
        let filter = match EventFilter::new(filter) {
            Ok(filter) => filter,
            Err(error) => return refuse(&self.stream, error),
        };
        let Ok(_permit) = Arc::clone(&self.monitors).try_acquire_owned() else {
            let error = format!("too many monitors: there are {MONITORS}, end some");
            return refuse(&self.stream, error);
        };
        // If this fails, the kernel's default holds.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&self.stream, SEND_BUFFER);
        let mut events = self.events.subscribe();
        // This one's own sender must not keep the channel open.
        drop(self.events);
        let mut batch = line(&Reply::Monitoring);
        loop {
            if !batch.is_empty() && self.stream.write_all(batch.as_bytes()).await.is_err() {
                return;
            }
            batch.clear();
            let first = tokio::select! {
                received = events.recv() => received,
                // It has closed, or sends more than a request.
                _ = self.stream.read_u8() => return,
            };
            let Some(first) = first else { return };
            let mut next = Some(first);
            let mut dropped = 0;
            while let Some(received) = next {
                match received {
                    Received::Dropped(more) => dropped += more,
                    Received::Event(event) => {
                        batch.push_str(&lost(&mut dropped));
                        if filter.matches(event.event()) {
                            batch.push_str(event.json_line());
                        }
                    }
                }
                next = (batch.len() < BATCH).then(|| events.try_recv()).flatten();
            }
            batch.push_str(&lost(&mut dropped));
        }
    }
}

/// The line about events that were dropped since the last; empty where none was.
fn lost(dropped: &mut u64) -> String {
    match std::mem::take(dropped) {
        0 => String::new(),
        dropped => line(&Dropped { dropped }),
    }
}

/// The request; `None` where the client closes without one. The error is for the client.
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

/// Sends a client the reason. It has read nothing yet, so there is room; one that has gone misses nothing.
pub(super) fn refuse(stream: &UnixStream, error: String) {
    let _ = stream.try_write(line(&Reply::Failed { error }).as_bytes());
}

fn line(value: &impl Serialize) -> String {
    // Plain strings and numbers always serialise.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}
