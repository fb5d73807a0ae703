//! The daemon's end of the socket: accepts clients, up to a limit, and gives each a task.

use super::limits::{CLIENTS, FOR_ROOT, MONITORS, REPLIES};
use super::listener::SocketFile;
use super::peer::Peer;
use super::session::{Session, refuse};
use super::{ControlError, EventSender, PendingRequest, SOCKET_OPTION};
use crate::stderr::log_line;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// How long to wait after a failed accept: descriptors are short, and trying again at once would only take the
/// processor.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket, listening. It is removed when this, or the future of [`Server::serve`], is dropped.
pub struct Server {
    path: PathBuf,
    group: Option<u32>,
    /// Its name for errors, looked up once: a look-up may take a while.
    group_name: String,
    file: SocketFile,
    socket: OwnedFd,
}

impl Server {
    /// Listens at `path` for root and the members of `group`, and makes its directory where it is missing.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, ControlError> {
        let (file, socket) = SocketFile::take(path, group, SOCKET_OPTION)?;
        Ok(Self {
            path: path.into(),
            group,
            group_name: group.map_or_else(String::new, super::client::group_name),
            file,
            socket,
        })
    }

    /// Serves clients until it is dropped. The daemon's loop answers `requests`; monitors get what is sent to
    /// `events`.
    ///
    /// Where the event loop does not take the socket, this is logged, and no client is served.
    pub async fn serve(self, requests: mpsc::Sender<PendingRequest>, events: EventSender) {
        let listener = match UnixListener::from_std(StdListener::from(self.socket)) {
            Ok(listener) => listener,
            Err(source) => {
                let (what, path) = ("watch", self.path);
                log_line!("portguard: {}", ControlError::System { what, path, source });
                return;
            }
        };
        // Held until the end: its drop removes the socket.
        let _file = self.file;
        let replies = Arc::new(Semaphore::new(REPLIES));
        let monitors = Arc::new(Semaphore::new(MONITORS));
        let mut clients = JoinSet::new();
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                Some(_) = clients.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if !failing {
                        log_line!(
                            "portguard: cannot accept clients on {}: {error}; will retry",
                            self.path.display()
                        );
                    }
                    failing = true;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            failing = false;
            while clients.try_join_next().is_some() {}
            match admit(&stream, self.group, &self.group_name, clients.len()) {
                Ok(peer) => {
                    let session = Session {
                        stream,
                        root: peer.uid == 0,
                        requests: requests.clone(),
                        events: events.clone(),
                        replies: Arc::clone(&replies),
                        monitors: Arc::clone(&monitors),
                    };
                    clients.spawn(session.run());
                }
                Err(error) => refuse(&stream, error),
            }
        }
    }
}

/// The peer, where it has access and there is room; else the reason.
fn admit(
    stream: &UnixStream,
    group: Option<u32>,
    group_name: &str,
    clients: usize,
) -> Result<Peer, String> {
    let peer = Peer::of(stream).map_err(|errno| format!("cannot identify the client: {errno}"))?;
    if !peer.has_access(group) {
        let uid = peer.uid;
        return Err(match group {
            Some(_) => {
                format!("uid {uid} has no access: only root and the group {group_name} have")
            }
            None => format!("uid {uid} has no access: only root has"),
        });
    }
    let room = if peer.uid == 0 {
        CLIENTS
    } else {
        CLIENTS - FOR_ROOT
    };
    if clients >= room {
        return Err(format!("too many clients: there are {clients}, end some"));
    }
    Ok(peer)
}
