//! The maps of the programs by name, from a fresh object or from pins.

use crate::kernel::error::{KernelError, map_error, slot_error};
use aya::Ebpf;
use aya::maps::{Map, MapData, MapError};
use rustix::fd::{AsFd as _, BorrowedFd};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every map that the daemon reads or writes, by the name of its pin.
pub(in crate::kernel) const NAMES: [&str; 17] = [
    "POLICY",
    "ACTIVE",
    "MEMO_1",
    "MEMO_2",
    "HITS_1",
    "HITS_2",
    "AGGREGATES",
    "COUNTERS",
    "EVENTS",
    "TRIE",
    "NAMES",
    "ADDRESSES",
    "GROUPS",
    "GROUPS_OF",
    "CGROUPS",
    "EXECUTABLES",
    "SCRATCH",
];

/// The name of a map in the object. Maps whose memory the programs reach directly are sections there, whose names no pin
/// may have.
pub(in crate::kernel) fn name_in_object(name: &'static str) -> &'static str {
    match name {
        "ACTIVE" => ".bss.active",
        "MEMO_1" => ".bss.memo1",
        "MEMO_2" => ".bss.memo2",
        "HITS_1" => ".bss.hits1",
        "HITS_2" => ".bss.hits2",
        "COUNTERS" => ".bss.counters",
        other => other,
    }
}

/// The maps.
pub(in crate::kernel) struct Maps {
    maps: BTreeMap<&'static str, Map>,
    /// Where they are pinned.
    pinned_in: Option<PathBuf>,
}

impl Maps {
    /// The maps of an object whose programs are loaded. It uses those that are pinned in `reuse`, if given.
    pub(in crate::kernel) fn of_object(
        ebpf: &mut Ebpf,
        reuse: Option<&Path>,
    ) -> Result<Self, KernelError> {
        let take = |name: &'static str| {
            let map = ebpf.take_map(name_in_object(name));
            let map = map.ok_or(KernelError::Missing(name))?;
            Ok((name, map))
        };
        let maps: Result<_, KernelError> = NAMES.into_iter().map(take).collect();
        Ok(Self {
            maps: maps?,
            pinned_in: reuse.map(Path::to_owned),
        })
    }

    /// The maps that are pinned in a directory.
    pub(in crate::kernel) fn pinned(directory: &Path) -> Result<Self, KernelError> {
        let open = |name: &'static str| {
            let map = MapData::from_pin(directory.join(name)).and_then(Map::from_map_data);
            Ok((name, map.map_err(map_error(name))?))
        };
        let maps: Result<_, KernelError> = NAMES.into_iter().map(open).collect();
        Ok(Self {
            maps: maps?,
            pinned_in: Some(directory.to_owned()),
        })
    }

    /// Where they are pinned; `None` where they are not.
    pub(in crate::kernel) fn pinned_in(&self) -> Option<&Path> {
        self.pinned_in.as_deref()
    }

    /// Remembers where they are pinned from now on.
    pub(in crate::kernel) fn set_pinned_in(&mut self, directory: &Path) {
        self.pinned_in = Some(directory.to_owned());
    }

    /// A map in its type.
    pub(in crate::kernel) fn table<'a, T>(
        &'a mut self,
        name: &'static str,
    ) -> Result<T, KernelError>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self.maps.get_mut(name).ok_or(KernelError::Missing(name))?;
        T::try_from(map).map_err(map_error(name))
    }

    /// A map in its type, for reading.
    pub(in crate::kernel) fn view<'a, T>(&'a self, name: &'static str) -> Result<T, KernelError>
    where
        T: TryFrom<&'a Map, Error = MapError>,
    {
        let map = self.maps.get(name).ok_or(KernelError::Missing(name))?;
        T::try_from(map).map_err(map_error(name))
    }

    /// The descriptor of an array.
    pub(in crate::kernel) fn fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, KernelError> {
        match self.maps.get(name) {
            Some(Map::ArrayOfMaps(data) | Map::Array(data)) => Ok(data.fd().as_fd()),
            _ => Err(KernelError::Missing(name)),
        }
    }

    /// A map in its type, with a descriptor of its own.
    pub(in crate::kernel) fn owned<T>(&self, name: &'static str) -> Result<T, KernelError>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        let Some(Map::RingBuf(data) | Map::LruHashMap(data)) = self.maps.get(name) else {
            return Err(KernelError::Missing(name));
        };
        let fd = data.fd().as_fd().try_clone_to_owned();
        let fd = fd.map_err(slot_error(name))?;
        let map = MapData::from_fd(fd).and_then(Map::from_map_data);
        map.and_then(T::try_from).map_err(map_error(name))
    }

    /// All of them.
    pub(in crate::kernel) fn iter(&self) -> impl Iterator<Item = (&'static str, &Map)> {
        self.maps.iter().map(|(name, map)| (*name, map))
    }
}

/// The type and sizes of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Shape {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

impl Shape {
    /// The shape of a map as an object declares it.
    pub(in crate::kernel) const fn declared(map: &aya_obj::Map) -> Self {
        Self {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
        }
    }
}

/// The shape of a pinned map; `None` where the pin is no map.
pub(in crate::kernel) fn pinned_shape(pin: &Path) -> Option<Shape> {
    let info = MapData::from_pin(pin).and_then(|map| map.info()).ok()?;
    Some(Shape {
        kind: info.map_type().ok()? as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
    })
}
