//! Why an inventory cannot be taken.

use super::diag::DiagError;
use rustix::io::Errno;
use thiserror::Error;

/// Why the sockets or their processes cannot be listed.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// The kernel cannot list sockets.
    #[error(
        "the kernel cannot list its sockets (sock_diag): {0}; load the modules inet_diag, tcp_diag and udp_diag, or use a kernel with CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG"
    )]
    NoDiag(Errno),
    /// The list cannot be parsed.
    #[error("cannot parse the kernel's list of sockets (sock_diag): {0}; please report this")]
    Garbled(String),
    /// A privilege is missing.
    #[error("{what}: run as root, or with {capability}")]
    Rights {
        /// What cannot be done.
        what: String,
        /// A capability that suffices.
        capability: &'static str,
    },
    /// The namespace that `scope: host` means cannot be found.
    #[error(
        "network namespace {0}, which `scope: host` means, is neither that of process 1 nor portguard's own: run in the host's"
    )]
    NoHost(u32),
    /// /proc cannot be read.
    #[error("cannot read /proc: {0}; mount -t proc proc /proc")]
    Proc(std::io::Error),
    /// No thread can be started.
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
    fn inventory_errors_name_the_cause_and_the_fix() {
        let rights = InventoryError::Rights {
            what: "cannot enter network namespace 7: EPERM".into(),
            capability: "CAP_SYS_ADMIN",
        };
        let io = || std::io::Error::from_raw_os_error(2);
        let cases = [
            (
                InventoryError::NoDiag(Errno::NOENT),
                ["cannot list", "udp_diag"],
            ),
            (
                InventoryError::Garbled("short".into()),
                ["short", "please report"],
            ),
            (rights, ["namespace 7", "as root, or with CAP_SYS_ADMIN"]),
            (
                InventoryError::NoHost(9),
                ["namespace 9", "run in the host's"],
            ),
            (InventoryError::Proc(io()), ["/proc", "mount -t proc"]),
            (InventoryError::Thread(io()), ["a thread", "limit of tasks"]),
        ];
        for (error, parts) in cases {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
