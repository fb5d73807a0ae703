//! The errors of pins, each with its fix.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why pins cannot be made, read or removed.
#[derive(Debug, Error)]
pub enum PinError {
    /// No bpffs.
    #[error(
        "{} is not a bpffs mount, so nothing can be pinned\n  mount -t bpf -o mode=0700 bpf {}, or run without --pin",
        path.display(),
        path.display()
    )]
    NoBpffs {
        /// Where it is looked for.
        path: PathBuf,
    },
    /// Others can replace what root has in bpffs.
    #[error(
        "{} has mode {mode:04o}, so that other users can replace pins in it: nothing in it is used or \
         removed\n  chmod 0700 {}, and mount it with -o mode=0700",
        path.display(),
        path.display()
    )]
    OpenBpffs {
        /// Where it is.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Something in the place of the pins is another user's, or could be.
    #[error(
        "{} {why}: it is not used, and nothing in it is removed\n  chmod 0700 /sys/fs/bpf, look at what is there, and \
         rm -r {}",
        path.display(),
        path.display()
    )]
    Untrusted {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another portguard holds them.
    #[error(
        "another portguard{} holds the pins in /sys/fs/bpf/portguard: stop it first (see `portguard status`)",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// Its process, where it is known.
        pid: Option<u32>,
    },
    /// An operation of the file system failed.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_errors_name_the_cause_and_the_fix() {
        let held = |pid| PinError::Held { pid }.to_string();
        assert_eq!(
            held(Some(7)),
            "another portguard (pid 7) holds the pins in /sys/fs/bpf/portguard: stop it first (see `portguard \
             status`)"
        );
        assert!(
            held(None).starts_with("another portguard holds the pins in /sys/fs/bpf/portguard")
        );
        assert_eq!(
            PinError::NoBpffs {
                path: "/sys/fs/bpf".into()
            }
            .to_string(),
            "/sys/fs/bpf is not a bpffs mount, so nothing can be pinned\n  mount -t bpf -o mode=0700 bpf /sys/fs/bpf, \
             or run without --pin"
        );
        assert_eq!(
            PinError::OpenBpffs {
                path: "/sys/fs/bpf".into(),
                mode: 0o777
            }
            .to_string(),
            "/sys/fs/bpf has mode 0777, so that other users can replace pins in it: nothing in it is used or \
             removed\n  chmod 0700 /sys/fs/bpf, and mount it with -o mode=0700"
        );
        let untrusted = PinError::Untrusted {
            path: "/sys/fs/bpf/portguard".into(),
            why: "belongs to uid 1000".into(),
        };
        assert_eq!(
            untrusted.to_string(),
            "/sys/fs/bpf/portguard belongs to uid 1000: it is not used, and nothing in it is removed\n  chmod 0700 \
             /sys/fs/bpf, look at what is there, and rm -r /sys/fs/bpf/portguard"
        );
        let file = PinError::File {
            what: "rename",
            path: "/sys/fs/bpf/portguard/v1".into(),
            source: io::Error::from_raw_os_error(libc::EBUSY),
        };
        assert_eq!(
            file.to_string(),
            "cannot rename /sys/fs/bpf/portguard/v1: Device or resource busy (os error 16)"
        );
    }
}
