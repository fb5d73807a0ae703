//! Reads records from the ring buffer.

use crate::kernel::error::{KernelError, map_error};
use aya::maps::{HashMap, MapData, MapError, RingBuf};
use aya_log::EbpfLogger;
use portguard_common::{CgroupRecord, Event, ExecutableRecord, RecordKind};
use std::os::fd::{AsRawFd, RawFd};
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes;

/// The map of ids.
pub(in crate::kernel) const EXECUTABLES: &str = "EXECUTABLES";

/// A record of the ring buffer.
pub enum Record {
    /// A decision.
    Decision(Event),
    /// The path of a cgroup: its id and its components from the root down.
    Cgroup {
        /// Id of the cgroup.
        id: u64,
        /// Components below the root; the first ones, if some are missing.
        path: Vec<Vec<u8>>,
        /// Levels below these that were not recorded.
        missing: usize,
    },
    /// The path of a program: its id and its names from the root down.
    Executable {
        /// Its id in events.
        id: u64,
        /// The names.
        path: Vec<Vec<u8>>,
        /// Whether names before these were not recorded.
        rootless: bool,
        /// Names after these that were not recorded.
        missing: usize,
    },
}

/// The reading end of the ring buffer.
pub struct Records {
    ring: RingBuf<MapData>,
    /// Ids of the programs whose paths were sent.
    sent: HashMap<MapData, u64, u64>,
}

impl Records {
    /// Has the programs send all paths again: another daemon may have read them.
    pub(in crate::kernel) fn new(
        ring: RingBuf<MapData>,
        sent: HashMap<MapData, u64, u64>,
    ) -> Result<Self, KernelError> {
        let mut records = Self { ring, sent };
        let ids: Vec<u64> = records.sent.keys().filter_map(Result::ok).collect();
        for id in ids {
            records.send_path_again(id)?;
        }
        Ok(records)
    }

    /// Has the programs send the path of a program with its next event.
    pub fn send_path_again(&mut self, id: u64) -> Result<(), KernelError> {
        match self.sent.remove(&id) {
            // It may have been evicted.
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(map_error(EXECUTABLES)(error)),
        }
    }

    /// The next record, or `None` where the ring is empty. Skips bytes that are not a record.
    pub fn next_record(&mut self) -> Option<Record> {
        while let Some(item) = self.ring.next() {
            if let Some(record) = parse_record(&item) {
                return Some(record);
            }
        }
        None
    }
}

/// Becomes readable when the kernel has written records.
pub fn watch(records: Records) -> std::io::Result<AsyncFd<Records>> {
    // SAFETY: the ring owns its descriptor as long as it exists, and never replaces it.
    unsafe { AsyncFd::register(records) }.map_err(Into::into)
}

/// The log of the programs.
pub type FaultLog = EbpfLogger<&'static dyn log::Log>;

/// Becomes readable when a program has logged something.
pub fn watch_faults(log: FaultLog) -> std::io::Result<AsyncFd<FaultLog>> {
    // SAFETY: the logger owns its ring's descriptor as long as it exists, and never replaces it.
    unsafe { AsyncFd::register(log) }.map_err(Into::into)
}

impl AsRawFd for Records {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Parses one record; `None` where the bytes are not a known record.
#[must_use]
pub fn parse_record(bytes: &[u8]) -> Option<Record> {
    let kind = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    if kind == RecordKind::Decision as u32 {
        return Event::read_from_prefix(bytes)
            .ok()
            .map(|(event, _)| Record::Decision(event));
    }
    if kind == RecordKind::Executable as u32 {
        let (record, _) = ExecutableRecord::read_from_prefix(bytes).ok()?;
        let path = names(&record.text, record.len)?;
        return Some(Record::Executable {
            id: record.id,
            rootless: record.rootless != 0,
            missing: usize::try_from(record.names)
                .ok()?
                .saturating_sub(path.len()),
            path,
        });
    }
    if kind != RecordKind::Cgroup as u32 {
        return None;
    }
    let (record, _) = CgroupRecord::read_from_prefix(bytes).ok()?;
    let path = names(&record.text, record.len)?;
    Some(Record::Cgroup {
        id: record.cgroup_id,
        missing: (record.depth as usize).saturating_sub(path.len()),
        path,
    })
}

/// The NUL-terminated names in the first `len` bytes.
fn names(text: &[u8], len: u64) -> Option<Vec<Vec<u8>>> {
    let written = text.get(..usize::try_from(len).ok()?)?;
    let names = written.split(|byte| *byte == 0);
    Some(
        names
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    #[test]
    fn path_begins_at_the_root_and_lacks_its_end() {
        let mut record = CgroupRecord::new_zeroed();
        record.kind = RecordKind::Cgroup as u32;
        record.depth = 5;
        record.cgroup_id = 7;
        let text = b"a\0b\0";
        record.text[..text.len()].copy_from_slice(text);
        record.len = text.len() as u64;
        let Some(Record::Cgroup { id, path, missing }) = parse_record(record.as_bytes()) else {
            panic!("no record");
        };
        assert_eq!((id, missing), (7, 3));
        assert_eq!(path, [b"a".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn path_of_a_program_says_what_is_missing() {
        let mut record = ExecutableRecord::new_zeroed();
        record.kind = RecordKind::Executable as u32;
        record.names = 4;
        record.rootless = 1;
        record.id = 9;
        let text = b"usr\0sbin\0nginx\0";
        record.text[..text.len()].copy_from_slice(text);
        record.len = text.len() as u64;
        let read = parse_record(record.as_bytes());
        let Some(Record::Executable {
            id,
            path,
            rootless,
            missing,
        }) = read
        else {
            panic!("no record");
        };
        assert_eq!((id, rootless, missing), (9, true, 1));
        assert_eq!(
            path,
            ["usr", "sbin", "nginx"].map(|name| name.as_bytes().to_vec())
        );
        record.len = u64::MAX;
        assert!(parse_record(record.as_bytes()).is_none());
    }
}
