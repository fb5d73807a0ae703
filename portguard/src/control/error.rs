//! The errors of both ends of the socket, each with its fix.

use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why the socket cannot be made or used.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Another process listens there.
    #[error(
        "{who} already listens on {}: stop it, or give another socket with {option}",
        path.display()
    )]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The option that gives the path.
        option: &'static str,
        /// The process.
        who: String,
    },
    /// Another daemon has the lock and no socket yet, or no longer.
    #[error("another daemon at {} is starting or ending: try again in a moment", path.display())]
    Between {
        /// The socket.
        path: PathBuf,
    },
    /// The path exists and is something else.
    #[error("{} is not a socket: remove it, or give another path with {option}", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
        /// The option that gives the path.
        option: &'static str,
    },
    /// The path does not fit into a socket address.
    #[error(
        "a socket path has at most 107 bytes, {} has {}: give a shorter one with {option}",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// The option that gives the path.
        option: &'static str,
    },
    /// The socket's directory is missing.
    #[error(
        "the directory of {} does not exist: create it, or give another path with {option}",
        path.display()
    )]
    NoDirectory {
        /// The socket.
        path: PathBuf,
        /// The option that gives the path.
        option: &'static str,
    },
    /// Others could put another file in place of the socket or its lock.
    #[error(
        "{} {why}, so that other users could replace the socket: correct that, or give another path with --socket",
        path.display()
    )]
    Untrusted {
        /// The directory or file.
        path: PathBuf,
        /// Whose it is, or its mode.
        why: String,
    },
    /// The system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    System {
        /// The failed step.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// No process listens.
    #[error(
        "no daemon at {}: start `portguard run`, or give its socket with --socket",
        path.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// The socket's mode does not permit it.
    #[error("no permission to connect to {}: {fix}", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// Who has access.
        fix: String,
    },
    /// The daemon refused the request.
    #[error("the daemon at {} refuses: {error}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The daemon's message.
        error: String,
    },
    /// The daemon does not answer.
    #[error(
        "the daemon at {} has not answered for {} s: check whether it is stopped",
        path.display(),
        waited.as_secs()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long the client waited.
        waited: Duration,
    },
    /// The reply is not a line of the protocol.
    #[error(
        "the process at {} is not portguard, or is another version: {source}",
        path.display()
    )]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the line.
        source: serde_json::Error,
    },
    /// The daemon closed the connection.
    #[error("the daemon at {} has ended", path.display())]
    Ended {
        /// The socket.
        path: PathBuf,
    },
}
