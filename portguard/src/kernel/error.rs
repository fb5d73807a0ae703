//! Why the kernel side fails.

use super::btf::BtfError;
use super::offsets::OffsetError;
use super::pins::PinError;
use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
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
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object: {0}")]
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
    #[error("cannot write the map {name}: {source}")]
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
            other => other.to_string(),
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
