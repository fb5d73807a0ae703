//! Why the kernel side fails.

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why nothing is enforced.
#[derive(Debug, Error)]
pub enum KernelError {
    /// BTF is missing or damaged.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// A structure is unknown.
    #[error(transparent)]
    Offsets(#[from] OffsetError),
    /// The build had no object to embed.
    #[error(
        "this portguard was built without its eBPF programs: build it with `cargo xtask build`"
    )]
    NoObject,
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object: {}", chain(.0.as_ref()))]
    Object(#[source] Box<EbpfError>),
    /// A program was refused.
    #[error("the kernel refused the program {name}: {reason}")]
    Program {
        /// Which.
        name: &'static str,
        /// What the kernel said, and the end of what its verifier said.
        reason: String,
    },
    /// A map operation failed.
    #[error("cannot write the map {name}: {}", chain(source.as_ref()))]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<MapError>,
    },
    /// A map cannot be opened again, or a slot of it not emptied.
    #[error("cannot use the map {name}: {source}")]
    Slot {
        /// Which.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The pins.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The object is not the one this binary was built with.
    #[error("the eBPF object has no {0}: rebuild with `cargo xtask build`")]
    Missing(&'static str),
    /// The root of the cgroup v2 tree cannot be opened.
    #[error("cannot open the cgroup v2 tree at {}: {source}", path.display())]
    Cgroup {
        /// Its mount point.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The canary bind itself failed.
    #[error("cannot make the canary bind on 127.0.0.1: {0}")]
    Canary(#[source] std::io::Error),
    /// The LSM programs are attached and never called.
    #[error(
        "the LSM programs are attached, but the kernel never calls them: `bpf` is not among the active LSMs\n  boot with {0}"
    )]
    LsmNotRunning(String),
    /// The cgroup programs are attached and never called.
    #[error("the cgroup programs are attached, but the kernel does not call them")]
    CgroupNotRunning,
}

/// Why BTF could not answer.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not BTF.
    #[error("BTF is damaged: {0}")]
    Damaged(&'static str),
    /// The kernel has no such structure or member.
    #[error("the kernel's BTF has no {0}")]
    Unknown(String),
}

/// A structure that is not as portguard knows it.
#[derive(Debug, Error)]
#[error("this kernel's structures are not as portguard knows them: {0}")]
pub struct OffsetError(#[from] BtfError);

/// Why pins cannot be made, read or removed.
#[derive(Debug, Error)]
pub enum PinError {
    /// No bpffs.
    #[error(
        "/sys/fs/bpf is no bpffs, so nothing can be pinned\n  mount -t bpf bpf /sys/fs/bpf, or run without --pin"
    )]
    NoBpffs,
    /// Another portguard has them.
    #[error(
        "another portguard{} has the pins in /sys/fs/bpf/portguard: stop it first (`portguard status` tells of it)",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// Its process, where it is known.
        pid: Option<u32>,
    },
    /// The file system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl KernelError {
    /// The error, and what to do about it where it is a shortage.
    #[must_use]
    pub fn with_fix(&self) -> String {
        match fix_for(self) {
            Some(fix) => format!("{self}; {fix}"),
            None => self.to_string(),
        }
    }
}

/// What to do about an error that a shortage of the process or the machine is behind; `None` where none is.
#[must_use]
pub fn fix_for(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(cause) = next {
        let number = cause.downcast_ref::<io::Error>();
        match number.and_then(io::Error::raw_os_error) {
            Some(libc::EMFILE) => {
                return Some("raise the limit of open files (`ulimit -n`, LimitNOFILE= of a unit)");
            }
            Some(libc::ENFILE) => {
                return Some("the host has no descriptor left: raise the sysctl fs.file-max");
            }
            Some(libc::ENOMEM) => {
                return Some(
                    "free memory, or raise the limit of portguard's cgroup (MemoryMax= of a unit)",
                );
            }
            _ => next = cause.source(),
        }
    }
    None
}

/// An error with what is behind it: some say it themselves, and then it is not said twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let behind = cause.to_string();
        if !text.ends_with(&behind) {
            text = format!("{text}: {behind}");
        }
        next = cause.source();
    }
    text
}

/// Lines of the verifier's log to show: the last ones say what it disliked.
const LOG_LINES: usize = 4;

/// Says of a program's error that it is the program `name`'s.
pub(super) fn refused(name: &'static str) -> impl Fn(ProgramError) -> KernelError {
    move |error| KernelError::Program {
        name,
        reason: match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = verifier_log.to_string();
                let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
                let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
                [&[io_error.to_string().as_str()], last]
                    .concat()
                    .join("\n  ")
            }
            other => chain(&other),
        },
    }
}

/// Says of a map's error that it is the map `name`'s.
pub(super) fn map_error(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map {
        name,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creating(number: i32) -> MapError {
        MapError::CreateError {
            name: "POLICY".into(),
            io_error: io::Error::from_raw_os_error(number),
        }
    }

    #[test]
    fn an_error_of_a_map_says_the_number_and_the_mend() {
        for (number, words) in [
            (
                libc::EMFILE,
                "Too many open files (os error 24); raise the limit of open files (`ulimit -n`, \
                 LimitNOFILE= of a unit)",
            ),
            (
                libc::ENFILE,
                "Too many open files in system (os error 23); the host has no descriptor left: raise the \
                 sysctl fs.file-max",
            ),
            (
                libc::ENOMEM,
                "Cannot allocate memory (os error 12); free memory, or raise the limit of portguard's \
                 cgroup (MemoryMax= of a unit)",
            ),
            (libc::EPERM, "Operation not permitted (os error 1)"),
        ] {
            let error = map_error("POLICY")(creating(number));
            assert_eq!(
                error.with_fix(),
                format!("cannot write the map POLICY: failed to create map `POLICY`: {words}")
            );
        }
        let object = KernelError::Object(Box::new(EbpfError::MapError(creating(libc::EMFILE))));
        assert_eq!(
            object.to_string(),
            "cannot load the eBPF object: map error: failed to create map `POLICY`: Too many open files (os \
             error 24)"
        );
    }
}
