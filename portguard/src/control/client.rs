//! The client's end of the socket.

use super::{ControlError, Dropped, Filter, Reply, Request, SOCKET_OPTION};
use crate::events::DecisionEvent;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::Deserialize;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a reply may take: a large reload takes a second on a busy machine.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a reply, at most.
const MAX_REPLY: u64 = 64 * 1024 * 1024;

/// Sends a request to the daemon at `path`, and waits for the reply.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, ControlError> {
    let mut connection = Connection::open(path, request)?;
    let line = connection.line()?;
    connection.parse(&line)
}

/// A line of a monitor.
#[derive(Clone, Debug)]
pub enum MonitorItem {
    /// A decision and its line, without the newline.
    DecisionEvent(Box<DecisionEvent>, String),
    /// This many decisions were dropped: this reader is too slow.
    Dropped(u64),
}

/// Decisions as they are made.
pub struct Monitor(Connection);

impl Monitor {
    /// Once this returns, every decision is received or counted as dropped.
    pub fn open(path: &Path, filter: Filter) -> Result<Self, ControlError> {
        let mut connection = Connection::open(path, &Request::Monitor { filter })?;
        let line = connection.line()?;
        match connection.parse(&line)? {
            Reply::Monitoring => {}
            Reply::Failed { error } => {
                let path = connection.path;
                return Err(ControlError::Refused { path, error });
            }
            Reply::Status(_) | Reply::Reloaded { .. } | Reply::Detached => {
                let source = serde::de::Error::custom("a reply to another request");
                return Err(connection.garbled(source));
            }
        }
        // Hours may pass between two decisions.
        set_socket_timeout(connection.reader.get_ref(), Timeout::Recv, None)
            .map_err(|errno| connection.failed(errno.into()))?;
        Ok(Self(connection))
    }

    /// Waits for the next line.
    pub fn recv(&mut self) -> Result<MonitorItem, ControlError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Line {
            Dropped(Dropped),
            DecisionEvent(Box<DecisionEvent>),
        }
        let line = self.0.line()?;
        Ok(match self.0.parse(&line)? {
            Line::Dropped(Dropped { dropped }) => MonitorItem::Dropped(dropped),
            Line::DecisionEvent(decided) => MonitorItem::DecisionEvent(decided, line),
        })
    }

    /// Whether another line has arrived already.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.0.reader.buffer().contains(&b'\n')
    }
}

struct Connection {
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

impl Connection {
    fn open(path: &Path, request: &Request) -> Result<Self, ControlError> {
        let socket = dial(path, REPLY_TIMEOUT).map_err(|errno| not_connected(path, errno))?;
        let connection = Self {
            path: path.into(),
            reader: BufReader::new(UnixStream::from(socket)),
        };
        let socket = connection.reader.get_ref();
        set_socket_timeout(socket, Timeout::Recv, Some(REPLY_TIMEOUT))
            .map_err(|errno| connection.failed(errno.into()))?;
        let mut line = serde_json::to_vec(request).map_err(|source| connection.garbled(source))?;
        line.push(b'\n');
        let mut unsent = &line[..];
        while !unsent.is_empty() {
            match rustix::net::send(socket, unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => unsent = unsent.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // It has closed already, and sent the reason before.
                Err(Errno::PIPE | Errno::CONNRESET) => break,
                Err(errno) => return Err(connection.failed(errno.into())),
            }
        }
        Ok(connection)
    }

    /// The next line, without its newline.
    fn line(&mut self) -> Result<String, ControlError> {
        let mut line = String::new();
        match (&mut self.reader).take(MAX_REPLY).read_line(&mut line) {
            Ok(_) if line.pop() == Some('\n') => Ok(line),
            // A killed daemon may leave half a line.
            Ok(_) => Err(ControlError::Ended {
                path: self.path.clone(),
            }),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn parse<'a, T: Deserialize<'a>>(&self, line: &'a str) -> Result<T, ControlError> {
        serde_json::from_str(line).map_err(|source| self.garbled(source))
    }

    fn garbled(&self, source: serde_json::Error) -> ControlError {
        let path = self.path.clone();
        ControlError::Garbled { path, source }
    }

    fn failed(&self, source: std::io::Error) -> ControlError {
        let path = self.path.clone();
        match Errno::from_io_error(&source) {
            Some(Errno::AGAIN) => ControlError::Silent {
                path,
                waited: REPLY_TIMEOUT,
            },
            Some(Errno::CONNRESET | Errno::PIPE) => ControlError::Ended { path },
            _ => ControlError::System {
                what: "talk to",
                path,
                source,
            },
        }
    }
}

/// Connects. A listener that does not accept within `timeout` gives `EAGAIN`.
pub(super) fn dial(path: &Path, timeout: Duration) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn not_connected(path: &Path, errno: Errno) -> ControlError {
    let path = path.to_path_buf();
    match errno {
        Errno::NOENT | Errno::CONNREFUSED => ControlError::NoDaemon { path },
        Errno::AGAIN => ControlError::Silent {
            path,
            waited: REPLY_TIMEOUT,
        },
        Errno::NAMETOOLONG => ControlError::TooLong {
            path,
            option: SOCKET_OPTION,
        },
        Errno::ACCESS | Errno::PERM => {
            let fix = match path.metadata() {
                Ok(socket) if socket.gid() != 0 && socket.mode() & 0o060 == 0o060 => format!(
                    "only root and the group {} have access",
                    group_name(socket.gid())
                ),
                _ => {
                    "only root has access; `portguard run --socket-group NAME` gives it to a group"
                        .into()
                }
            };
            ControlError::Denied { path, fix }
        }
        errno => ControlError::System {
            what: "connect to",
            path,
            source: errno.into(),
        },
    }
}

/// A group's name, or its number where it has none.
pub(super) fn group_name(gid: u32) -> String {
    match uzers::get_group_by_gid(gid) {
        Some(group) => portguard_policy::escape::escape(group.name().as_encoded_bytes()),
        None => gid.to_string(),
    }
}
