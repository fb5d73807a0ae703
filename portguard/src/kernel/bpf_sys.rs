//! The few commands of bpf(2) that aya does not offer.

use rustix::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `enum bpf_cmd` of `include/uapi/linux/bpf.h` (Linux 5.10).
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_MAP_DELETE_ELEM: i32 = 3;
const BPF_OBJ_PIN: i32 = 6;
const BPF_OBJ_GET: i32 = 7;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_PROG_QUERY: i32 = 16;

/// `BPF_LINK_TYPE_TRACING`: LSM programs too.
pub(super) const LINK_TRACING: u32 = 2;
/// `BPF_LINK_TYPE_CGROUP`
pub(super) const LINK_CGROUP: u32 = 3;

/// `BPF_CGROUP_MAX_PROGS` of `kernel/bpf/cgroup.c` (5.10 to 7.2).
const MAX_PROGRAMS: usize = 64;

/// An attribute, followed by room for all of `union bpf_attr`. BPF_PROG_QUERY of cgroups writes to `revision`, 56
/// bytes in, whatever size it is given (`__cgroup_bpf_query` of `kernel/bpf/cgroup.c`, Linux 6.17 to 7.1).
#[repr(C)]
struct Padded<T> {
    attribute: T,
    /// More than `union bpf_attr` has (Linux 7.2: less than 200 bytes).
    room: [u64; 64],
}

/// Calls bpf(2); every attribute of this module is plain numbers in the kernel's layout.
fn bpf<T: Copy>(command: i32, attribute: &mut T) -> io::Result<i32> {
    let mut padded = Padded {
        attribute: *attribute,
        room: [0; 64],
    };
    // SAFETY: the kernel reads the `size_of::<T>()` bytes of `T` and writes at most a whole `union bpf_attr`, for
    // which there is room; the callers below keep what the addresses in `T` point to alive for the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut padded, size_of::<T>()) };
    *attribute = padded.attribute;
    match i32::try_from(result) {
        Ok(value @ 0..) => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PinAttribute {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins an object at `path`.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = PinAttribute {
        path: path.as_ptr().addr() as u64,
        fd: object.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attribute).map(|_| ())
}

/// Opens the object that is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = PinAttribute {
        path: path.as_ptr().addr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(BPF_OBJ_GET, &mut attribute)?;
    // SAFETY: the kernel just opened this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the program with this id is loaded, attached or not.
///
/// # Errors
/// Without CAP_SYS_ADMIN.
pub(super) fn is_loaded(program: u32) -> io::Result<bool> {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Attribute {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut attribute = Attribute {
        id: program,
        next: 0,
        flags: 0,
    };
    match bpf(BPF_PROG_GET_FD_BY_ID, &mut attribute) {
        // SAFETY: the kernel just opened this descriptor, and nothing else owns it.
        Ok(fd) => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// The beginning of `struct bpf_link_info` (Linux 5.10 to 7.2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    /// For a cgroup link the id of the cgroup, 0 once it is detached.
    first: u64,
    second: u64,
}

/// A link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// `BPF_LINK_TYPE_*`
    pub(super) kind: u32,
    /// Id of its program.
    pub(super) program: u32,
    /// For a cgroup link the id of the cgroup; 0 where it was detached while its pin remained
    /// (`bpf_cgroup_link_fill_link_info`).
    pub(super) cgroup: u64,
}

/// What the kernel says about an object.
fn info<T: Copy>(object: BorrowedFd<'_>, mut info: T) -> io::Result<T> {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Attribute {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut attribute = Attribute {
        fd: object.as_raw_fd().cast_unsigned(),
        len: u32::try_from(size_of::<T>()).unwrap_or(0),
        info: (&raw mut info).addr() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
    Ok(info)
}

/// The id of a map.
pub(super) fn map_id(map: BorrowedFd<'_>) -> io::Result<u32> {
    // The beginning of `struct bpf_map_info`: the type and the id.
    let [_, id] = info(map, [0u32; 2])?;
    Ok(id)
}

/// The type, program and cgroup of a link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let info = info(link, RawLinkInfo::default())?;
    Ok(LinkInfo {
        kind: info.kind,
        program: info.program,
        cgroup: info.first,
    })
}

/// `BPF_MAP_*_ELEM` on the element `key` of an array.
fn element(command: i32, map: BorrowedFd<'_>, key: u32, value: u64) -> io::Result<()> {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Attribute {
        fd: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut attribute = Attribute {
        fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const key).addr() as u64,
        value,
        flags: 0,
    };
    bpf(command, &mut attribute).map(|_| ())
}

/// The id of the map in slot `key` of an array of maps; `None` where the slot is empty.
pub(super) fn slot_id(map: BorrowedFd<'_>, key: u32) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    match element(BPF_MAP_LOOKUP_ELEM, map, key, (&raw mut id).addr() as u64) {
        Ok(()) => Ok(Some(id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Empties slot `key` of an array of maps.
pub(super) fn delete_slot(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    element(BPF_MAP_DELETE_ELEM, map, key, 0)
}

/// Writes the value of an array of one. A large one need not be on the stack, where aya's methods have it.
///
/// `value` has the size of the map's value.
pub(super) fn write_only_value(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    element(BPF_MAP_UPDATE_ELEM, map, 0, value.as_ptr().addr() as u64)
}

/// Reads the value of an array of one into `value`, which has its size.
pub(super) fn read_only_value(map: BorrowedFd<'_>, value: &mut [u8]) -> io::Result<()> {
    element(
        BPF_MAP_LOOKUP_ELEM,
        map,
        0,
        value.as_mut_ptr().addr() as u64,
    )
}

/// Ids of the programs of one cgroup on one hook.
pub(super) fn programs_on(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Attribute {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
    }
    let mut ids = vec![0u32; MAX_PROGRAMS];
    let mut attribute = Attribute {
        target: cgroup.as_raw_fd().cast_unsigned(),
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        programs: ids.as_mut_ptr().addr() as u64,
        count: u32::try_from(ids.len()).unwrap_or(0),
        padding: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attribute)?;
    ids.truncate(attribute.count as usize);
    Ok(ids)
}
