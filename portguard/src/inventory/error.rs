//! Why an inventory cannot be taken.

use super::diag::DiagError;
use rustix::io::Errno;
use thiserror::Error;

/// Why nobody can say who holds the ports.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// The kernel has no such list.
    #[error(
        "the kernel does not list its sockets (sock_diag): {0}; load the modules inet_diag, tcp_diag and udp_diag, or take a kernel with CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG"
    )]
    NoDiag(Errno),
    /// It has, and says what nobody understands.
    #[error("the kernel's list of sockets (sock_diag) makes no sense: {0}; please report this")]
    Garbled(String),
    /// A right is missing.
    #[error("{what}: run it as root, or with {capability}")]
    Rights {
        /// What cannot be done.
        what: String,
        /// What would do.
        capability: &'static str,
    },
    /// The namespace that `scope: host` means cannot be found.
    #[error(
        "network namespace {0}, which `scope: host` means, is neither that of process 1 nor our own: run it in the host's"
    )]
    NoHost(u32),
    /// There is no /proc.
    #[error("cannot read /proc: {0}; mount it: mount -t proc proc /proc")]
    Proc(std::io::Error),
    /// The system has no thread for us.
    #[error("cannot start a thread to enter a network namespace: {0}; raise the limit of tasks")]
    Thread(std::io::Error),
}

impl From<DiagError> for InventoryError {
    fn from(error: DiagError) -> Self {
        match error {
            DiagError::Refused(errno) => Self::NoDiag(errno),
            DiagError::Garbled(why) => Self::Garbled(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_and_the_mend() {
        let rights = InventoryError::Rights {
            what: "cannot enter network namespace 7: EPERM".into(),
            capability: "CAP_SYS_ADMIN",
        };
        let io = || std::io::Error::from_raw_os_error(2);
        let said = [
            (
                InventoryError::NoDiag(Errno::NOENT),
                ["does not list", "udp_diag"],
            ),
            (
                InventoryError::Garbled("short".into()),
                ["short", "please report"],
            ),
            (rights, ["namespace 7", "as root, or with CAP_SYS_ADMIN"]),
            (
                InventoryError::NoHost(9),
                ["namespace 9", "run it in the host's"],
            ),
            (InventoryError::Proc(io()), ["/proc", "mount -t proc"]),
            (InventoryError::Thread(io()), ["a thread", "limit of tasks"]),
        ];
        for (error, parts) in said {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
