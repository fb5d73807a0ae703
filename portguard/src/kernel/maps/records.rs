//! Reads records from the ring buffer.

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use portguard_common::{CgroupRecord, Event, RecordKind};
use std::os::fd::{AsRawFd, RawFd};
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes;

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
}

/// The reading end of the ring buffer.
pub struct Records {
    ring: RingBuf<MapData>,
}

impl Records {
    pub(in crate::kernel) const fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
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
    if kind != RecordKind::Cgroup as u32 {
        return None;
    }
    let (record, _) = CgroupRecord::read_from_prefix(bytes).ok()?;
    let written = record.text.get(..usize::try_from(record.len).ok()?)?;
    let path: Vec<Vec<u8>> = written
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    Some(Record::Cgroup {
        id: record.cgroup_id,
        missing: (record.depth as usize).saturating_sub(path.len()),
        path,
    })
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
}
