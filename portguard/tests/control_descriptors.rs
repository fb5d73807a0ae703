//! The socket where the process has no descriptor left. A process of its own: the limit holds for all of it.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use portguard::control::{PendingRequest, Reply, Request, Server, ask, event_channel};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Processor time of this process.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

#[test]
fn control_server_waits_for_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let own = rustix::process::getegid().as_raw();
    let server = Server::bind(&path, Some(own)).unwrap();
    let (sender, mut requests) = tokio::sync::mpsc::channel::<PendingRequest>(1);
    // Ends with the process.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answers = async {
            while let Some(pending) = requests.recv().await {
                let _ = pending.reply.send(Reply::Reloaded {
                    policy: String::new(),
                    warnings: String::new(),
                    changes: String::new(),
                });
            }
        };
        runtime.block_on(async { tokio::join!(server.serve(sender, event_channel()), answers) });
    });
    // It is up, has all that it needs, and has closed its end of this by the time that we read the last of it.
    let mut first = UnixStream::connect(&path).unwrap();
    first.write_all(b"{\"request\":\"reload\"}\n").unwrap();
    first.read_to_string(&mut String::new()).unwrap();
    drop(first);
    let limits = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let low = Rlimit {
        current: Some(u64::try_from(open).unwrap() + 8),
        ..limits
    };
    setrlimit(Resource::Nofile, low).unwrap();
    let mut taken: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    // The client's own.
    taken.pop();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| ask(&path, &Request::Reload).unwrap());
        let (start, before) = (Instant::now(), used());
        while start.elapsed() < Duration::from_millis(1_500) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let busy = used() - before;
        assert!(busy < Duration::from_millis(500), "{busy:?}");
        assert!(!client.is_finished());
        taken.clear();
        setrlimit(Resource::Nofile, limits).unwrap();
        assert!(matches!(client.join().unwrap(), Reply::Reloaded { .. }));
    });
}
