//! Standard output as a sink.

use super::line_writer::LineWriter;
use super::{Format, SinkError};
use std::fs::File;
use std::os::fd::AsFd as _;

/// Its descriptor and not `Stdout`, which keeps what it could not write and so hides what was dropped.
pub(super) fn open(format: Format) -> Result<LineWriter<File>, SinkError> {
    let descriptor = std::io::stdout().as_fd().try_clone_to_owned();
    let descriptor = descriptor.map_err(|source| SinkError::System {
        sink: "stdout",
        what: "copy its descriptor",
        source,
    })?;
    let heading = format.heading().into_bytes();
    Ok(LineWriter::new(File::from(descriptor), format, heading))
}
