//! The errors of the kernel side.

use crate::kernel::pin_error::PinError;
use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why enforcement cannot start or continue.
#[derive(Debug, Error)]
pub enum KernelError {
    /// BTF is missing or damaged.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel's structures are unknown.
    #[error(transparent)]
    Offsets(#[from] OffsetError),
    /// This binary was built without the object.
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
        /// Its name.
        name: &'static str,
        /// The error, and the last lines of the verifier's log.
        reason: String,
    },
    /// A map operation failed.
    #[error("cannot write the map {name}: {}", chain(source.as_ref()))]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<MapError>,
    },
    /// A map cannot be opened a second time, or a slot of it cannot be cleared.
    #[error("cannot use the map {name}: {source}")]
    Slot {
        /// Its name.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The object lacks a program or a map.
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
    /// The canary bind failed.
    #[error("cannot make the canary bind on 127.0.0.1: {0}")]
    Canary(#[source] std::io::Error),
    /// The LSM programs are attached and never called.
    #[error(
        "the LSM programs are attached, but the kernel does not call them: `bpf` is not an active LSM\n  boot with {0}"
    )]
    LsmNotRunning(String),
    /// The cgroup programs are attached and never called.
    #[error("the cgroup programs are attached, but the kernel does not call them")]
    CgroupNotRunning,
}

/// Why a structure cannot be looked up.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are not BTF.
    #[error("BTF is damaged: {0}")]
    Damaged(&'static str),
    /// The kernel has no such structure or member.
    #[error("the kernel's BTF has no {0}")]
    Unknown(String),
}

/// A structure that this version of portguard does not know.
#[derive(Debug, Error)]
#[error("portguard does not know this kernel's structures: {0}")]
pub struct OffsetError(#[from] BtfError);

impl KernelError {
    /// The error, with its fix where a resource ran out.
    #[must_use]
    pub fn with_fix(&self) -> String {
        match fix_for(self) {
            Some(fix) => format!("{self}; {fix}"),
            None => self.to_string(),
        }
    }
}

/// The fix of an error that comes from a resource that ran out; `None` for any other error.
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
                return Some("the host has no descriptors left: raise the sysctl fs.file-max");
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

/// An error with its causes. Some errors already print theirs; those are not printed twice.
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

/// Lines of the verifier's log to show: the last ones name the reason.
const LOG_LINES: usize = 4;

/// Makes an error of the program `name`.
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

/// Makes an error of the map `name`.
pub(super) fn map_error(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map {
        name,
        source: Box::new(source),
    }
}

/// Makes an error of a slot of the map `name`, or of its one value.
pub(super) fn slot_error(name: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Slot { name, source }
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
    fn map_error_shows_errno_and_fix() {
        for (number, words) in [
            (
                libc::EMFILE,
                "Too many open files (os error 24); raise the limit of open files (`ulimit -n`, \
                 LimitNOFILE= of a unit)",
            ),
            (
                libc::ENFILE,
                "Too many open files in system (os error 23); the host has no descriptors left: raise the \
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

    #[test]
    fn kernel_errors_name_the_cause() {
        let name = "bind4";
        let source = || io::Error::from_raw_os_error(libc::EACCES);
        let denied = "Permission denied (os error 13)";
        for (error, text) in [
            (
                KernelError::NoObject,
                "this portguard was built without its eBPF programs: build it with `cargo xtask build`"
                    .to_owned(),
            ),
            (
                KernelError::Slot {
                    name: "POLICY",
                    source: source(),
                },
                format!("cannot use the map POLICY: {denied}"),
            ),
            (
                KernelError::Missing(name),
                "the eBPF object has no bind4: rebuild with `cargo xtask build`".to_owned(),
            ),
            (
                KernelError::Cgroup {
                    path: "/sys/fs/cgroup".into(),
                    source: source(),
                },
                format!("cannot open the cgroup v2 tree at /sys/fs/cgroup: {denied}"),
            ),
            (
                KernelError::Canary(source()),
                format!("cannot make the canary bind on 127.0.0.1: {denied}"),
            ),
            (
                KernelError::LsmNotRunning("lsm=yama,bpf".into()),
                "the LSM programs are attached, but the kernel does not call them: `bpf` is not an active LSM\n  \
                 boot with lsm=yama,bpf"
                    .to_owned(),
            ),
            (
                KernelError::CgroupNotRunning,
                "the cgroup programs are attached, but the kernel does not call them".to_owned(),
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn structure_errors_name_the_structure() {
        let unknown = || BtfError::Unknown("task_struct.cred".into());
        let source = io::Error::from_raw_os_error(libc::EACCES);
        let cases: [(KernelError, &str); 3] = [
            (
                BtfError::Read {
                    path: "/sys/kernel/btf/vmlinux".into(),
                    source,
                }
                .into(),
                "cannot read /sys/kernel/btf/vmlinux: Permission denied (os error 13)",
            ),
            (unknown().into(), "the kernel's BTF has no task_struct.cred"),
            (
                OffsetError::from(unknown()).into(),
                "portguard does not know this kernel's structures: the kernel's BTF has no task_struct.cred",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn program_error_ends_with_the_last_lines_of_the_verifier_log() {
        let error = ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EACCES),
            verifier_log: aya_obj::VerifierLog::new("1\n2\n3\n\n4\nR1 invalid\n".to_owned()),
        };
        assert_eq!(
            refused("bind4")(error).to_string(),
            "the kernel refused the program bind4: Permission denied (os error 13)\n  2\n  3\n  4\n  R1 invalid"
        );
    }
}
