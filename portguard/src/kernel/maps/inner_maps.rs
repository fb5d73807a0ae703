//! The inner maps of the maps of maps, pinned beside them.
//!
//! A slot gives the id of its map, and the kernel opens a map by its id only for CAP_SYS_ADMIN
//! (`BPF_MAP_GET_FD_BY_ID`, 5.10 to 7.2). A pin that has the id in its name is opened without.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, map_error, slot_error};
use crate::kernel::maps::map_set::Maps;
use crate::kernel::pin_error::PinError;
use aya::maps::{InnerMap, Map, MapData};
use rustix::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

/// The maps of maps.
pub(in crate::kernel) const OUTER: [&str; 2] = ["POLICY", "AGGREGATES"];

/// The pin of an inner map.
fn pin_path(directory: &Path, outer: &str, id: u32) -> PathBuf {
    directory.join(format!("{outer}_{id}"))
}

fn fd_of<V: InnerMap>(map: &V) -> BorrowedFd<'_> {
    map.fd().as_fd()
}

/// The id of an inner map.
pub(in crate::kernel) fn id_of<V: InnerMap>(
    outer: &'static str,
    map: &V,
) -> Result<u32, KernelError> {
    bpf_sys::map_id(fd_of(map)).map_err(slot_error(outer))
}

impl Maps {
    /// The map in a slot of `outer`, by its pin; `None` where the slot is empty.
    ///
    /// # Errors
    /// Its pin is gone.
    pub(in crate::kernel) fn inner(
        &self,
        outer: &'static str,
        slot: u32,
    ) -> Result<Option<Map>, KernelError> {
        let id = bpf_sys::slot_id(self.fd(outer)?, slot).map_err(slot_error(outer))?;
        let Some(id) = id else { return Ok(None) };
        let Some(directory) = self.pinned_in() else {
            return Ok(None);
        };
        let map = MapData::from_pin(pin_path(directory, outer, id)).and_then(Map::from_map_data);
        map.map(Some).map_err(map_error(outer))
    }

    /// Pins a map that is in a slot of `outer` or is about to be; not where the other maps are not pinned.
    pub(in crate::kernel) fn pin_inner<V: InnerMap>(
        &self,
        outer: &'static str,
        map: &V,
    ) -> Result<(), KernelError> {
        let Some(directory) = self.pinned_in() else {
            return Ok(());
        };
        let id = id_of(outer, map)?;
        let path = pin_path(directory, outer, id);
        if pinned_id(&path) == Some(id) {
            return Ok(());
        }
        // A map of that id was here, or something else is.
        let _ = std::fs::remove_file(&path);
        bpf_sys::pin(fd_of(map), &path).map_err(|source| {
            let what = "pin";
            PinError::File { what, path, source }.into()
        })
    }

    /// Removes the pins of the inner maps of `outer`, but for those of `keep`. One that stays only takes memory.
    pub(in crate::kernel) fn keep_inner(&self, outer: &'static str, keep: &[u32]) {
        let Some(directory) = self.pinned_in() else {
            return;
        };
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(outer));
            let id = id.and_then(|end| end.strip_prefix('_')?.parse().ok());
            if id.is_some_and(|id| !keep.contains(&id)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Whether the map in a slot of `outer`, if there is one, is pinned in `directory`.
pub(in crate::kernel) fn has_inner_pin(directory: &Path, outer: &str, slot: u32) -> bool {
    let outer_map = bpf_sys::open_pin(&directory.join(outer));
    match outer_map.and_then(|map| bpf_sys::slot_id(map.as_fd(), slot)) {
        Ok(Some(id)) => pinned_id(&pin_path(directory, outer, id)) == Some(id),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn pinned_id(path: &Path) -> Option<u32> {
    let map = bpf_sys::open_pin(path).ok()?;
    bpf_sys::map_id(map.as_fd()).ok()
}
