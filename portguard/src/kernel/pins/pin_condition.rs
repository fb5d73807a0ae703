//! Whether `run --pin` has a place for its pins that is root's alone, as `doctor` prints it.

use crate::kernel::pin_error::PinError;
use crate::kernel::pins::pin_paths::BPFFS;
use crate::kernel::pins::pin_root::Bpffs;
use crate::kernel::preflight::condition::{Condition, Severity};
use std::path::Path;

/// What makes bpffs root's alone. A remount does not change its mode.
const CLOSE: &str = "chmod 0700 /sys/fs/bpf, and mount it with -o mode=0700";

/// The mode and owner of bpffs and of the directory of pins. `run` without `--pin` needs neither.
#[must_use]
pub fn pins_condition() -> Condition {
    let (severity, found, fix) = match place() {
        Ok(mode) if mode & 0o022 == 0 => (
            Severity::Good,
            format!("/sys/fs/bpf, mode {mode:04o}"),
            None,
        ),
        Ok(mode) => (
            Severity::Warning,
            format!(
                "/sys/fs/bpf has mode {mode:04o}: other users can make /sys/fs/bpf/portguard first, and then `run --pin` refuses it"
            ),
            Some(CLOSE.to_owned()),
        ),
        Err(error) => {
            let text = error.to_string();
            let (found, fix) = text.split_once("\n  ").unwrap_or((&text, ""));
            let fix = (!fix.is_empty()).then(|| fix.to_owned());
            (Severity::Warning, found.to_owned(), fix)
        }
    };
    Condition {
        name: "pins are out of reach of other users",
        severity,
        found,
        fix,
    }
}

/// The mode of bpffs, where it and the directory of pins are root's.
fn place() -> Result<u32, PinError> {
    let bpffs = Bpffs::open(Path::new(BPFFS))?;
    if bpffs.has_root() {
        bpffs.root()?;
    }
    bpffs.check_lock()?;
    bpffs.mode()
}
