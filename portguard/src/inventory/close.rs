//! Closes a socket that a policy denies, by `SOCK_DESTROY`.

use super::diag::{Diag, DiagError, State};
use super::error::InventoryError;
use super::holder::{By, Holder};
use super::processes::Owners;
use rustix::io::Errno;
use std::time::Duration;
use thiserror::Error;

/// The state of a socket after it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is gone.
    Gone,
    /// It no longer accepts connections; its port is free once its program closes it or ends.
    NotAccepting,
}

/// Why a socket could not be closed.
#[derive(Debug, Error)]
pub enum DestroyError {
    /// The kernel does not support it.
    #[error(
        "kernel lacks SOCK_DESTROY support (CONFIG_INET_DIAG_DESTROY) or does not offer it for this protocol: stop the program"
    )]
    Unsupported,
    /// A privilege is missing.
    #[error(
        "no permission to close sockets of other processes: run as root, or with CAP_NET_ADMIN"
    )]
    Rights,
    /// The kernel aborted it, and it keeps its port.
    #[error("the kernel aborted the socket, which keeps its port: stop the program")]
    Stays,
    /// It does not listen, and the kernel does not close TCP sockets that are only bound.
    #[error(
        "it is bound but does not listen, and the kernel does not close such sockets: stop the program"
    )]
    Idle,
    /// Any other errno.
    #[error("cannot close the socket: {0}; stop the program")]
    Refused(Errno),
    /// Whether it is closed is unknown.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

/// How long a program may take to close a socket that was aborted: checks, and the time between them.
const CHECKS: u32 = 10;
const INTERVAL: Duration = Duration::from_millis(20);

impl Holder {
    /// Closes this socket and no other, and checks that it is closed.
    pub fn destroy(&self) -> Result<Closed, DestroyError> {
        let result = self.kept.within(|| Diag::open()?.destroy(&self.socket))?;
        match result {
            // One that is not found is gone, or of a kind that the kernel does not search for.
            Ok(()) | Err(DiagError::Refused(Errno::NOENT)) => {}
            Err(DiagError::Refused(Errno::OPNOTSUPP)) => return Err(DestroyError::Unsupported),
            Err(DiagError::Refused(Errno::PERM | Errno::ACCESS)) => {
                return Err(DestroyError::Rights);
            }
            Err(DiagError::Refused(errno)) => return Err(DestroyError::Refused(errno)),
            Err(DiagError::Garbled(why)) => return Err(InventoryError::Garbled(why).into()),
        }
        let mut state = self.state_now()?;
        for _ in 1..CHECKS {
            match state {
                Some(now) if now == self.state => std::thread::sleep(INTERVAL),
                _ => break,
            }
            state = self.state_now()?;
        }
        match (self.state, state) {
            // Kernels before 6.8 no longer list it, though its program still has it open.
            (State::Listen, None) if self.socket.is_tcp() && self.is_open() => {
                Ok(Closed::NotAccepting)
            }
            (_, None) => Ok(Closed::Gone),
            (State::Listen, Some(State::Bound)) => Ok(Closed::NotAccepting),
            (State::Bound, Some(_)) if self.socket.is_tcp() => Err(DestroyError::Idle),
            (_, Some(_)) => Err(DestroyError::Stays),
        }
    }

    /// Its state now; `None` where it is no longer listed.
    fn state_now(&self) -> Result<Option<State>, InventoryError> {
        let listed = self.kept.sockets(|port| port == self.port)?;
        let mut listed = listed.iter();
        let same = listed.find(|socket| socket.cookie() == self.cookie);
        Ok(same.map(|socket| socket.state))
    }

    /// Whether any of its processes still has it open. One that is in flight stays.
    fn is_open(&self) -> bool {
        if self.by != By::Process {
            return true;
        }
        let open = Owners::find(&[self.inode].into());
        open.is_ok_and(|owners| !owners.of(self.inode).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destroy_errors_name_the_fix() {
        let cases = [
            (DestroyError::Unsupported, "CONFIG_INET_DIAG_DESTROY"),
            (DestroyError::Rights, "as root, or with CAP_NET_ADMIN"),
            (DestroyError::Stays, "keeps its port: stop the program"),
            (DestroyError::Idle, "does not listen"),
            (DestroyError::Refused(Errno::BUSY), "stop the program"),
        ];
        for (error, part) in cases {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
