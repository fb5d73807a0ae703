//! The places of pins in bpffs, and the errors of their files.

use crate::kernel::pin_error::PinError;
use portguard_common::ABI_VERSION;
use std::io;
use std::path::{Path, PathBuf};

/// Where bpffs is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Where portguard pins.
pub const PINS: &str = "/sys/fs/bpf/portguard";

/// The directory of this ABI below `root`.
pub(super) fn directory_of(root: &Path) -> PathBuf {
    root.join(format!("v{ABI_VERSION}"))
}

/// Where this ABI's maps and links are pinned.
pub(super) fn pinned_directory() -> PathBuf {
    directory_of(Path::new(PINS))
}

/// The pin of a program's link.
pub(super) fn link_path(directory: &Path, program: &str) -> PathBuf {
    directory.join(format!("link_{program}"))
}

/// Whether a pin has the name of a link.
pub(super) fn is_link(path: &Path) -> bool {
    let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes);
    name.is_some_and(|name| name.starts_with(b"link_"))
}

/// Makes an error of bpffs one that names what was tried, and on what.
pub(super) fn file_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> PinError + 'a {
    move |source| PinError::File {
        what,
        path: path.into(),
        source,
    }
}

/// Makes an error of pinning one that names the pin.
pub(super) fn pin_failed(path: &Path, error: aya::pin::PinError) -> PinError {
    file_error("pin", path)(match error {
        aya::pin::PinError::SyscallError(error) => error.io_error,
        other => io::Error::other(other.to_string()),
    })
}
