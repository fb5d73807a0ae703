//! What can go wrong at either end of the socket, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why there is no socket, or nothing comes over it.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Somebody else answers there.
    #[error(
        "{who} listens on {} already: end it first, or name another socket by --socket",
        path.display()
    )]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The process.
        who: String,
    },
    /// Another daemon has the lock and no socket: it comes or goes.
    #[error("another daemon at {} is starting or ending: try again in a moment", path.display())]
    Between {
        /// The socket.
        path: PathBuf,
    },
    /// The path is in use for something else.
    #[error("{} is no socket: remove it, or name another path by --socket", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The kernel takes no such path.
    #[error(
        "the path of a socket has 107 bytes at most, {} has {}: name a shorter one by --socket",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody listens.
    #[error(
        "no daemon at {}: start `portguard run`, or name its socket by --socket",
        path.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// The socket's mode keeps us out.
    #[error("no right to connect to {}: {mend}", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// Who has the right.
        mend: String,
    },
    /// The daemon does not want us.
    #[error("the daemon at {} refuses: {error}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// In its words.
        error: String,
    },
    /// The daemon does not answer.
    #[error(
        "the daemon at {} has not answered for {} s: is it stopped?",
        path.display(),
        patience.as_secs()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long we waited.
        patience: Duration,
    },
    /// What came is none of our lines.
    #[error(
        "what answers at {} is no portguard, or one of another version: {source}",
        path.display()
    )]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the line.
        source: serde_json::Error,
    },
    /// The daemon went.
    #[error("the daemon at {} has ended", path.display())]
    Ended {
        /// The socket.
        path: PathBuf,
    },
}
