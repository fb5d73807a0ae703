//! The daemon's end of the socket: takes clients, as many as it can bear, and gives each a task.

use super::listener::SocketFile;
use super::peer::Peer;
use super::session::{Session, refuse};
use super::{ControlError, PendingRequest, Published};
use crate::stderr::log_line;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::JoinSet;

/// Clients at a time.
pub const CLIENTS: usize = 256;

/// Of these, kept for root: a group's clients cannot lock it out.
const FOR_ROOT: usize = 32;

/// Monitors at a time: they stay, and however many root has, it can still ask how it stands.
pub const MONITORS: usize = CLIENTS - 16;

/// Replies that wait for the daemon or for slow readers at a time; root's are not counted. A reply can be large.
const REPLIES: usize = 8;

/// How long no client is taken after one could not be: descriptors are short, and to ask at once again
/// would only take the processor.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket, listening. It is removed when this, or the future of [`Server::serve`], is dropped.
pub struct Server {
    path: PathBuf,
    group: Option<u32>,
    file: SocketFile,
    socket: OwnedFd,
}

impl Server {
    /// Takes `path` for root and the members of `group`, making its directory where it is missing.
    ///
    /// # Errors
    /// Where another daemon is there, the path is not fit for a socket, or the system refuses.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, ControlError> {
        let (file, socket) = SocketFile::take(path, group)?;
        Ok(Self {
            path: path.into(),
            group,
            file,
            socket,
        })
    }

    /// Serves clients until it is dropped. `asks` takes what the daemon's loop must answer; monitors get
    /// what is published to `events`. It sleeps while nobody asks.
    ///
    /// Where the event loop does not take the socket, that is said, and nobody is served.
    pub async fn serve(
        self,
        asks: mpsc::Sender<PendingRequest>,
        events: broadcast::Sender<Arc<Published>>,
    ) {
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
                            "portguard: cannot take clients on {}: {error}",
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
            match admit(&stream, self.group, clients.len()) {
                Ok(peer) => {
                    let session = Session {
                        stream,
                        root: peer.uid == 0,
                        asks: asks.clone(),
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

/// The peer, if it may ask and there is room; else why not.
fn admit(stream: &UnixStream, group: Option<u32>, clients: usize) -> Result<Peer, String> {
    let peer = Peer::of(stream).map_err(|errno| format!("cannot tell who asks: {errno}"))?;
    if !peer.may_ask(group) {
        let uid = peer.uid;
        return Err(match group {
            Some(gid) => {
                let group = super::client::group_name(gid);
                format!("uid {uid} may not ask: only root and the group {group} may")
            }
            None => format!("uid {uid} may not ask: only root may"),
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
