//! A file of JSON lines, reopened on SIGUSR1.

use super::line_writer::LineWriter;
use super::worker::{WriteResult, Writer};
use super::{Format, SinkError};
use crate::events::SharedEvent;
use crate::sandbox::Sandbox;
use crate::stderr::log_line;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// `file:PATH`.
pub(super) struct FileSink {
    path: PathBuf,
    /// Added to an error that confinement may cause.
    hint: &'static str,
    lines: LineWriter<File>,
}

impl FileSink {
    pub(super) fn open(path: &Path, sandbox: &Sandbox) -> Result<Self, SinkError> {
        let (file, first) = open(path).map_err(|error| match error {
            OpenError::System(source) => SinkError::File {
                path: path.into(),
                source,
            },
            OpenError::Refused(why) => SinkError::Refused {
                path: path.into(),
                why,
            },
        })?;
        Ok(Self {
            path: path.into(),
            hint: sandbox.hint(),
            lines: LineWriter::new(file, Format::Json, first),
        })
    }
}

impl Writer for FileSink {
    fn write(&mut self, event: &SharedEvent) -> WriteResult {
        self.lines.write(event)
    }

    fn flush(&mut self) -> WriteResult {
        self.lines.flush()
    }

    fn reopen(&mut self) -> WriteResult {
        match open(&self.path) {
            Ok((file, first)) => self.lines.switch(file, first),
            Err(error) => {
                let hint = match &error {
                    OpenError::System(error) if error.kind() == ErrorKind::PermissionDenied => {
                        self.hint
                    }
                    _ => "",
                };
                log_line!(
                    "portguard: sink file: cannot reopen {}: {error}; decisions still go to the open file; \
                     fix the path and send SIGUSR1 again{hint}",
                    self.path.display()
                );
                WriteResult::default()
            }
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        let parent = self.path.parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        vec![parent.unwrap_or(Path::new(".")).to_owned()]
    }
}

/// Why a file cannot be opened.
#[derive(Debug, Error)]
enum OpenError {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("{0}")]
    Refused(String),
}

/// Refuses a file that another user put or linked there: root must not write where another user says.
fn check(metadata: &Metadata) -> Result<(), OpenError> {
    let uid = metadata.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(OpenError::Refused(format!(
            "it belongs to uid {uid}: remove it or `chown root` it"
        )));
    }
    if metadata.is_file() && metadata.nlink() > 1 {
        return Err(OpenError::Refused(
            "it has another name (a hard link): remove it".to_owned(),
        ));
    }
    Ok(())
}

/// The file, and a newline where an earlier writer ended within a line.
fn open(path: &Path) -> Result<(File, Vec<u8>), OpenError> {
    let file = OpenOptions::new()
        // To see the last byte; and a FIFO without a reader would block us here.
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        // A terminal must not become the daemon's own.
        .custom_flags(libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => OpenError::Refused(
                "it is a symbolic link, which is not followed: remove it, or name the file that it leads to".to_owned(),
            ),
            _ => error.into(),
        })?;
    let metadata = file.metadata()?;
    check(&metadata)?;
    let mut first = Vec::new();
    if metadata.is_file() && metadata.len() > 0 {
        let mut last = [0];
        let read = file.read_at(&mut last, metadata.len() - 1)?;
        if read == 1 && last != *b"\n" {
            first.push(b'\n');
        }
    }
    Ok((file, first))
}
