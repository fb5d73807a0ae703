//! Closes a socket that a policy denies, by the kernel's `SOCK_DESTROY`.

use super::diag::{Diag, DiagError, State};
use super::error::InventoryError;
use super::holder::Holder;
use super::processes::Owners;
use rustix::io::Errno;
use std::time::Duration;
use thiserror::Error;

/// What became of a socket that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is gone.
    Gone,
    /// It accepts no more; others get the port once its program closes it or ends.
    NotAccepting,
}

/// Why a socket could not be closed.
#[derive(Debug, Error)]
pub enum DestroyError {
    /// The kernel was built without it.
    #[error(
        "this kernel closes no sockets of others (CONFIG_INET_DIAG_DESTROY, or the protocol has no such thing): stop the program"
    )]
    Unsupported,
    /// A right is missing.
    #[error("no right to close sockets of others: run it as root, or with CAP_NET_ADMIN")]
    Rights,
    /// Told to, it stays.
    #[error(
        "the kernel has told its program that the socket is aborted, and leaves it the port: stop the program"
    )]
    Stays,
    /// It does not listen, and the kernel closes no TCP socket that is bound only.
    #[error(
        "it is bound and does not listen, and such a socket the kernel does not close: stop the program"
    )]
    Idle,
    /// Anything else that the kernel says.
    #[error("the kernel does not close it: {0}; stop the program")]
    Refused(Errno),
    /// Nobody can look whether it is closed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

/// How long a program may take to close a socket that was aborted: looks, and the time between them.
const LOOKS: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(20);

impl Holder {
    /// Closes this socket and no other, and looks whether it is closed.
    ///
    /// # Errors
    /// Where the kernel cannot or may not, or where the socket keeps its port none the less.
    pub fn destroy(&self) -> Result<Closed, DestroyError> {
        let told = self.kept.within(|| Diag::open()?.destroy(&self.socket))?;
        match told {
            // What is not found may be gone, or be one that it does not look for.
            Ok(()) | Err(DiagError::Refused(Errno::NOENT)) => {}
            Err(DiagError::Refused(Errno::OPNOTSUPP)) => return Err(DestroyError::Unsupported),
            Err(DiagError::Refused(Errno::PERM | Errno::ACCESS)) => {
                return Err(DestroyError::Rights);
            }
            Err(DiagError::Refused(errno)) => return Err(DestroyError::Refused(errno)),
            Err(DiagError::Garbled(why)) => return Err(InventoryError::Garbled(why).into()),
        }
        let mut state = self.state_now()?;
        for _ in 1..LOOKS {
            match state {
                Some(now) if now == self.state => std::thread::sleep(BETWEEN),
                _ => break,
            }
            state = self.state_now()?;
        }
        match (self.state, state) {
            // A kernel before 6.8 does not show it any more; its program has it none the less.
            (State::Listen, None) if self.socket.is_tcp() && self.is_open() => {
                Ok(Closed::NotAccepting)
            }
            (_, None) => Ok(Closed::Gone),
            (State::Listen, Some(State::Bound)) => Ok(Closed::NotAccepting),
            (State::Bound, Some(_)) if self.socket.is_tcp() => Err(DestroyError::Idle),
            (_, Some(_)) => Err(DestroyError::Stays),
        }
    }

    /// What it does now; `None` where it is no longer listed.
    fn state_now(&self) -> Result<Option<State>, InventoryError> {
        let listed = self.kept.sockets(|port| port == self.port)?;
        let mut listed = listed.iter();
        let same = listed.find(|socket| socket.cookie() == self.cookie);
        Ok(same.map(|socket| socket.state))
    }

    /// Whether any of its processes still has it open.
    fn is_open(&self) -> bool {
        let open = Owners::find(&[self.inode].into());
        open.is_ok_and(|owners| !owners.of(self.inode).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_the_mend() {
        let said = [
            (DestroyError::Unsupported, "CONFIG_INET_DIAG_DESTROY"),
            (DestroyError::Rights, "as root, or with CAP_NET_ADMIN"),
            (DestroyError::Stays, "leaves it the port: stop the program"),
            (DestroyError::Idle, "does not listen"),
            (DestroyError::Refused(Errno::BUSY), "stop the program"),
        ];
        for (error, part) in said {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
