//! The map `META` beside the pinned links, which records what they are.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, map_error};
use crate::kernel::object::attach::Programs;
use crate::kernel::object::embedded::object_digest;
use crate::kernel::object::hook::{Features, Hook, LSM_PROGRAMS, all_programs};
use crate::kernel::pins::pin_paths::{link_path, pin_failed};
use aya::maps::{Array, Map, MapData};
use portguard_common::ABI_VERSION;
use rustix::fd::AsFd as _;
use std::io;
use std::path::Path;
use thiserror::Error;

const META: &str = "META";
const META_WORDS: u32 = 16;

/// What the links in a directory are, as the daemon that pinned them recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct PinManifest {
    /// SHA-256 of the object that the programs came from.
    pub(in crate::kernel) object: [u64; 4],
    /// The hook that decides.
    pub(in crate::kernel) hook: Hook,
    /// What the cgroup programs can do.
    pub(in crate::kernel) features: Features,
    /// Ids of the programs, in the order of [`all_programs`]; 0 for one that is not attached.
    pub(in crate::kernel) programs: [u32; 4],
    /// The process that wrote this.
    pub(in crate::kernel) pid: u32,
}

impl PinManifest {
    /// What the links of these programs are.
    pub(super) fn of(programs: &Programs) -> Self {
        Self {
            object: object_digest(),
            hook: programs.hook(),
            features: programs.features(),
            programs: programs.ids(),
            pid: std::process::id(),
        }
    }

    /// The word that is 1 where the others are complete: ABI, object (4), hook, features, programs (4) and pid.
    const COMPLETE: u32 = 12;

    /// Reads the manifest of a directory; `None` where there is none, or it is incomplete.
    pub(in crate::kernel) fn read(directory: &Path) -> Option<Self> {
        let map = MapData::from_pin(directory.join(META)).ok()?;
        let map = Map::from_map_data(map).ok()?;
        let map: Array<_, u64> = Array::try_from(&map).ok()?;
        let mut words = [0; META_WORDS as usize];
        for (index, word) in (0..).zip(&mut words) {
            *word = map.get(&index, 0).ok()?;
        }
        let [
            abi,
            a,
            b,
            c,
            d,
            hook,
            features,
            p,
            q,
            r,
            s,
            pid,
            complete,
            ..,
        ] = words;
        if complete != 1 || abi != u64::from(ABI_VERSION) {
            return None;
        }
        Some(Self {
            object: [a, b, c, d],
            hook: if hook == 1 { Hook::Lsm } else { Hook::Cgroup },
            features: Features {
                grants: features & 1 != 0,
                set_errno: features & 2 != 0,
            },
            programs: [p, q, r, s].map(|id| id as u32),
            pid: pid as u32,
        })
    }

    /// Writes it; the last word makes it complete.
    pub(in crate::kernel) fn write(&self, directory: &Path) -> Result<(), KernelError> {
        let mut map = Self::open(directory)?;
        let [a, b, c, d] = self.object;
        let [p, q, r, s] = self.programs.map(u64::from);
        let features = u64::from(self.features.grants) | u64::from(self.features.set_errno) << 1;
        let hook = u64::from(self.hook == Hook::Lsm);
        let pid = u64::from(self.pid);
        let abi = u64::from(ABI_VERSION);
        let words = [abi, a, b, c, d, hook, features, p, q, r, s, pid, 1];
        for (index, word) in (0..).zip(words) {
            map.set(index, word, 0).map_err(map_error(META))?;
        }
        Ok(())
    }

    /// Marks it incomplete, before links change.
    pub(in crate::kernel) fn invalidate(directory: &Path) -> Result<(), KernelError> {
        Self::open(directory)?
            .set(Self::COMPLETE, 0u64, 0)
            .map_err(map_error(META))
    }

    fn open(directory: &Path) -> Result<Array<MapData, u64>, KernelError> {
        let path = directory.join(META);
        let pinned = || {
            let map = MapData::from_pin(&path).and_then(Map::from_map_data)?;
            Array::try_from(map)
        };
        if let Ok(map) = pinned() {
            return Ok(map);
        }
        // It is missing, or has another type.
        let _ = std::fs::remove_file(&path);
        Array::<MapData, u64>::create(META_WORDS, 0)
            .map_err(map_error(META))?
            .pin(&path)
            .map_err(|error| pin_failed(&path, error))?;
        pinned().map_err(map_error(META))
    }

    /// Every pinned link that is not as recorded.
    pub(in crate::kernel) fn mismatches(&self, directory: &Path) -> Vec<LinkMismatch> {
        let attached = all_programs().zip(self.programs);
        let attached = attached.filter(|(_, id)| *id != 0);
        attached
            .filter_map(|(program, id)| check_link(directory, program, id).err())
            .collect()
    }
}

/// How a pinned link differs from the manifest.
#[derive(Debug, Error)]
pub(in crate::kernel) enum LinkMismatch {
    /// It has no pin.
    #[error("the pin of {program}'s link is gone")]
    Unpinned {
        /// The program.
        program: &'static str,
    },
    /// The pin cannot be opened.
    #[error("cannot open the pin of {program}'s link: {source}")]
    Unreadable {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The pin holds something else.
    #[error("the pin of {program}'s link belongs to another program")]
    Replaced {
        /// The program.
        program: &'static str,
    },
    /// The kernel no longer runs the program at this link.
    #[error("the link of {program} was detached, though its pin remains")]
    Detached {
        /// The program.
        program: &'static str,
    },
}

/// Checks that the pinned link of a program is of program number `id` and attached.
fn check_link(directory: &Path, program: &'static str, id: u32) -> Result<(), LinkMismatch> {
    let is_lsm = LSM_PROGRAMS.contains(&program);
    let kind = if is_lsm {
        bpf_sys::LINK_TRACING
    } else {
        bpf_sys::LINK_CGROUP
    };
    let link = bpf_sys::open_pin(&link_path(directory, program));
    match link.and_then(|link| bpf_sys::link_info(link.as_fd())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(LinkMismatch::Unpinned { program })
        }
        Err(source) => Err(LinkMismatch::Unreadable { program, source }),
        Ok(info) if info.kind != kind || info.program != id => {
            Err(LinkMismatch::Replaced { program })
        }
        Ok(info) if !is_lsm && info.cgroup == 0 => Err(LinkMismatch::Detached { program }),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_mismatch_names_the_program_and_what_differs() {
        let program = "bind4";
        let source = io::Error::from_raw_os_error(libc::EACCES);
        for (mismatch, text) in [
            (
                LinkMismatch::Unpinned { program },
                "the pin of bind4's link is gone",
            ),
            (
                LinkMismatch::Unreadable { program, source },
                "cannot open the pin of bind4's link: Permission denied (os error 13)",
            ),
            (
                LinkMismatch::Replaced { program },
                "the pin of bind4's link belongs to another program",
            ),
            (
                LinkMismatch::Detached { program },
                "the link of bind4 was detached, though its pin remains",
            ),
        ] {
            assert_eq!(mismatch.to_string(), text);
        }
    }
}
