//! A sink's thread and its bounded queue: decisions that do not fit are counted as dropped.

use super::SinkError;
use super::failure_notice::{FailureNotice, log};
use crate::events::SharedEvent;
use crate::sandbox::{Role, Sandbox};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Events that may wait for a slow reader.
const WAITING: usize = 8_192;

/// Their bytes, at most: a process chooses its own path and may make it long.
const WAITING_BYTES: usize = 4 << 20;

/// The result of a call to a writer: decisions now written or dropped, and the error.
#[derive(Debug, Default)]
pub(super) struct WriteResult {
    pub(super) written: u64,
    pub(super) dropped: u64,
    pub(super) error: Option<io::Error>,
}

/// Writes a sink's decisions, on the sink's thread, where it may block.
pub(super) trait Writer: Send {
    /// Writes a decision, or keeps it to be written with the next.
    fn write(&mut self, event: &SharedEvent) -> WriteResult;

    /// Writes what was kept: no other decision waits.
    fn flush(&mut self) -> WriteResult {
        WriteResult::default()
    }

    /// Reopens its target.
    fn reopen(&mut self) -> WriteResult {
        WriteResult::default()
    }

    /// Where it makes files.
    fn directories(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

enum Message {
    /// An event and its weight.
    Event(Arc<SharedEvent>, usize),
    Reopen,
}

#[derive(Default)]
struct Shared {
    /// Bytes that wait.
    waiting: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    /// A request to reopen that the queue had no room for.
    reopen: AtomicBool,
    /// Nothing more is written: what waits counts as dropped.
    stop: AtomicBool,
}

/// The thread's handle and counters.
pub(super) struct Worker {
    name: &'static str,
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// Decisions that the queue took.
    accepted: u64,
    /// Those that it had no room for.
    refused: u64,
}

impl Worker {
    pub(super) fn start(
        name: &'static str,
        mut writer: Box<dyn Writer>,
        sandbox: &Sandbox,
    ) -> Result<Self, SinkError> {
        let sandbox = sandbox.clone();
        let (sender, receiver) = sync_channel(WAITING);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("sink-{name}"))
            .spawn(move || {
                sandbox.confine_thread(Role::Sink, &writer.directories());
                work(
                    &receiver,
                    writer.as_mut(),
                    &theirs,
                    FailureNotice::new(name),
                )
            })
            .map_err(|source| SinkError::System {
                sink: name,
                what: "start its thread",
                source,
            })?;
        Ok(Self {
            name,
            sender: Some(sender),
            thread: Some(thread),
            shared,
            accepted: 0,
            refused: 0,
        })
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Queues a decision, or counts it as dropped; never waits.
    /// `line_waits` says whether the event's line may be made while the event waits.
    pub(super) fn send(&mut self, event: &Arc<SharedEvent>, line_waits: bool) {
        let count = event.event().count;
        if self.offer(event, line_waits) {
            self.accepted += count;
        } else {
            self.refused += count;
        }
    }

    fn offer(&self, event: &Arc<SharedEvent>, line_waits: bool) -> bool {
        let Some(sender) = &self.sender else {
            return false;
        };
        let weight = weight(event, line_waits);
        // Only this thread adds, so it cannot be exceeded in between.
        if self.shared.waiting.load(Ordering::Relaxed) + weight > WAITING_BYTES {
            return false;
        }
        self.shared.waiting.fetch_add(weight, Ordering::Relaxed);
        let sent = sender.try_send(Message::Event(Arc::clone(event), weight));
        if sent.is_err() {
            self.shared.waiting.fetch_sub(weight, Ordering::Relaxed);
        }
        sent.is_ok()
    }

    /// Decisions dropped by this sink.
    pub(super) fn dropped(&self) -> u64 {
        if self.sender.is_some() || self.thread.is_some() {
            return self.refused + self.shared.dropped.load(Ordering::Relaxed);
        }
        // At the end what was not written is dropped, in the queue or in the middle of a line.
        self.refused + self.accepted - self.shared.written.load(Ordering::Relaxed)
    }

    /// Requests that the target is reopened.
    pub(super) fn reopen(&self) {
        let Some(sender) = &self.sender else { return };
        if sender.try_send(Message::Reopen).is_err() {
            self.shared.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// Lets the thread end once its queue is empty.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    /// Waits for that until `end`, and then stops the thread before its next decision: what it would write later is
    /// counted as dropped. A thread that is blocked is left behind.
    pub(super) fn wait(&mut self, end: Instant) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if !ended(&thread, end) {
            self.shared.stop.store(true, Ordering::Relaxed);
            ended(&thread, Instant::now() + STOPS_WITHIN);
        }
    }
}

/// How long a thread that is not blocked may take for one decision.
const STOPS_WITHIN: Duration = Duration::from_millis(500);

/// Waits for the thread, until `end` at the latest; whether it has ended.
fn ended(thread: &JoinHandle<()>, end: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Bytes of a line but for its texts: names of the fields, numbers, words.
const LINE_BASE: usize = 640;

/// Roughly what an event takes in memory, with its line where that waits too.
fn weight(event: &SharedEvent, line_waits: bool) -> usize {
    let event = event.event();
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = event.time.len()
        + event.policy.len()
        + event.host.len()
        + optional(&event.comm)
        + optional(&event.rule)
        + optional(&event.user)
        + optional(&event.exe)
        + optional(&event.cgroup)
        + optional(&event.unit)
        + optional(&event.container_id)
        + optional(&event.pod_uid)
        + optional(&event.boot_id);
    let line = if line_waits { LINE_BASE + texts } else { 0 };
    size_of::<SharedEvent>() + texts + line
}

fn work(
    receiver: &Receiver<Message>,
    writer: &mut dyn Writer,
    shared: &Shared,
    mut notice: FailureNotice,
) {
    let mut record = |result: WriteResult| {
        shared.written.fetch_add(result.written, Ordering::Relaxed);
        shared.dropped.fetch_add(result.dropped, Ordering::Relaxed);
        match result.error {
            Some(error) => log(notice.failed(&error, result.dropped, Instant::now())),
            None if result.written > 0 => log(notice.recovered()),
            None => {}
        }
    };
    loop {
        let message = match receiver.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                record(writer.flush());
                match receiver.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            }
        };
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if shared.reopen.swap(false, Ordering::Relaxed) {
            record(writer.reopen());
        }
        match message {
            Message::Reopen => record(writer.reopen()),
            Message::Event(event, weight) => {
                shared.waiting.fetch_sub(weight, Ordering::Relaxed);
                record(writer.write(&event));
            }
        }
    }
    record(writer.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::sinks::text::tests::decided;

    /// Counts what it writes, slowly.
    struct Slow(Arc<AtomicU64>);

    impl Writer for Slow {
        fn write(&mut self, event: &SharedEvent) -> WriteResult {
            std::thread::sleep(Duration::from_millis(10));
            self.0.fetch_add(event.event().count, Ordering::Relaxed);
            WriteResult {
                written: event.event().count,
                ..WriteResult::default()
            }
        }
    }

    #[test]
    fn worker_writes_nothing_that_it_counted_as_dropped() -> Result<(), SinkError> {
        let written = Arc::new(AtomicU64::new(0));
        let writer = Box::new(Slow(Arc::clone(&written)));
        let mut worker = Worker::start("slow", writer, &Sandbox::off())?;
        let event = Arc::new(SharedEvent::new(decided()));
        for _ in 0..200 {
            worker.send(&event, true);
        }
        worker.close();
        worker.wait(Instant::now() + Duration::from_millis(50));
        let all = 200 * event.event().count;
        let dropped = worker.dropped();
        assert!(dropped > 0, "all were written");
        // Longer than a write takes.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(written.load(Ordering::Relaxed) + dropped, all);
        Ok(())
    }
}
