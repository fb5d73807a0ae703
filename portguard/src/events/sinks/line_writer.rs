//! LineWriter into a descriptor, whole ones only: a line that a full disk cut is completed before the next.

use super::Format;
use super::SinkError;
use super::worker::{WriteResult, Writer};
use crate::events::SharedEvent;
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

/// The open end of a file, pipe or terminal.
pub(super) struct LineWriter<W> {
    out: W,
    format: Format,
    /// The rest of a line that was cut, and its number of decisions.
    rest: Vec<u8>,
    rest_count: u64,
}

impl LineWriter<File> {
    /// Standard output by its descriptor: `Stdout` keeps what it could not write, and so hides what was dropped.
    pub(super) fn stdout(format: Format) -> Result<Self, SinkError> {
        let descriptor = std::io::stdout().as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(|source| SinkError::System {
            sink: "stdout",
            what: "copy its descriptor",
            source,
        })?;
        let heading = format.heading().into_bytes();
        Ok(Self::new(File::from(descriptor), format, heading))
    }
}

impl<W: Target> LineWriter<W> {
    /// Writes to `out`, `first` before all else.
    pub(super) const fn new(out: W, format: Format, first: Vec<u8>) -> Self {
        Self {
            out,
            format,
            rest: first,
            rest_count: 0,
        }
    }

    /// Continues in another target, `first` before all else. The rest of a cut line is dropped.
    pub(super) fn switch(&mut self, out: W, first: Vec<u8>) -> WriteResult {
        self.out = out;
        self.rest = first;
        WriteResult {
            dropped: std::mem::take(&mut self.rest_count),
            ..WriteResult::default()
        }
    }

    /// Writes the rest of a cut line.
    fn complete(&mut self) -> WriteResult {
        let (written, error) = put(&mut self.out, &self.rest);
        self.rest.drain(..written);
        let written = if error.is_none() {
            std::mem::take(&mut self.rest_count)
        } else {
            0
        };
        WriteResult {
            written,
            dropped: 0,
            error,
        }
    }
}

impl<W: Target> Writer for LineWriter<W> {
    fn write(&mut self, event: &SharedEvent) -> WriteResult {
        let count = event.event().count;
        let mut result = self.complete();
        if result.error.is_some() {
            result.dropped = count;
            return result;
        }
        let text;
        let line = match self.format {
            Format::Json => event.json_line(),
            Format::Text(_) => {
                text = self.format.line(event.event());
                &text
            }
        };
        let (written, error) = put(&mut self.out, line.as_bytes());
        if error.is_none() {
            result.written += count;
        } else if written == 0 {
            result.dropped = count;
        } else {
            self.rest = line.as_bytes().get(written..).unwrap_or_default().to_vec();
            self.rest_count = count;
        }
        result.error = error;
        result
    }

    fn flush(&mut self) -> WriteResult {
        self.complete()
    }
}

/// A target of lines.
pub(super) trait Target: Write + Send {
    /// Waits until a non-blocking target is writable.
    fn ready(&self) -> io::Result<()>;
}

impl Target for File {
    fn ready(&self) -> io::Result<()> {
        poll(&mut [PollFd::new(self, PollFlags::OUT)], None)?;
        Ok(())
    }
}

/// Writes all bytes where it can. Returns how many were written, and the error.
fn put(out: &mut impl Target, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let failed = match out.write(rest) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => {
                written += more;
                Ok(())
            }
            // Another process with the same terminal or pipe may have made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => out.ready(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = failed {
            return (written, Some(error));
        }
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::DecisionEvent;
    use crate::events::sinks::text::tests::decided;
    use std::collections::VecDeque;

    /// Takes so many bytes a call; nothing is "no space left".
    #[derive(Default)]
    struct Disk {
        takes: VecDeque<usize>,
        has: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.takes.pop_front() {
                Some(0) => Err(io::ErrorKind::StorageFull.into()),
                takes => {
                    let taken = takes.unwrap_or(bytes.len()).min(bytes.len());
                    self.has.extend(&bytes[..taken]);
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for Disk {
        fn ready(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn counted(count: u64) -> SharedEvent {
        SharedEvent::new(DecisionEvent { count, ..decided() })
    }

    #[test]
    fn line_writer_completes_a_cut_line() {
        let disk = Disk {
            takes: [30, 0, 10, 0, 0].into(),
            ..Disk::default()
        };
        let mut lines = LineWriter::new(disk, Format::Json, Vec::new());
        // Cut: neither written nor dropped yet.
        let cut = lines.write(&counted(5));
        assert_eq!((cut.written, cut.dropped), (0, 0));
        assert!(cut.error.is_some());
        // A little more of it is written, and the next event is dropped.
        let dropped = lines.write(&counted(3));
        assert_eq!((dropped.written, dropped.dropped), (0, 3));
        assert!(lines.flush().error.is_some());
        let both = lines.write(&counted(7));
        assert_eq!((both.written, both.dropped), (12, 0));
        let has = String::from_utf8(lines.out.has.clone()).unwrap();
        assert_eq!(
            has,
            counted(5).json_line().to_owned() + counted(7).json_line()
        );
    }

    #[test]
    fn line_writer_drops_a_cut_line_on_switch() {
        let disk = Disk {
            takes: [30, 0].into(),
            ..Disk::default()
        };
        let mut lines = LineWriter::new(disk, Format::Json, Vec::new());
        lines.write(&counted(5));
        let switched = lines.switch(Disk::default(), Vec::new());
        assert_eq!((switched.written, switched.dropped), (0, 5));
        assert_eq!(lines.write(&counted(1)).written, 1);
        let has = String::from_utf8(lines.out.has.clone()).unwrap();
        assert_eq!(has, counted(1).json_line());
    }
}
