//! What another program with bpf(2) rights can do to links and pins: detach and replace them.

use anyhow::{Context as _, ensure};
use aya::programs::links::LinkType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `enum bpf_cmd` of `include/uapi/linux/bpf.h` (Linux 5.10).
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const MAP_CREATE: i32 = 0;
const LINK_GET_FD_BY_ID: i32 = 30;
const LINK_DETACH: i32 = 34;

/// Zeroed room for the attributes of every command used here.
type Attribute = [u64; 16];

fn bpf(command: i32, mut attribute: Attribute) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes the attribute within the given size; what it points to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attribute.as_mut_ptr(),
            size_of::<Attribute>(),
        )
    };
    match i32::try_from(result) {
        Ok(value @ 0..) => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn descriptor(fd: i32) -> OwnedFd {
    // SAFETY: a new descriptor with no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn number(fd: &OwnedFd) -> u64 {
    u64::from(fd.as_raw_fd().cast_unsigned())
}

fn text(path: &Path) -> anyhow::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn open_pin(path: &Path) -> anyhow::Result<OwnedFd> {
    let name = text(path)?;
    let mut attribute = Attribute::default();
    attribute[0] = name.as_ptr().addr() as u64;
    let fd = bpf(OBJ_GET, attribute).with_context(|| path.display().to_string())?;
    Ok(descriptor(fd))
}

fn pin(object: &OwnedFd, path: &Path) -> anyhow::Result<()> {
    let name = text(path)?;
    let mut attribute = Attribute::default();
    attribute[0] = name.as_ptr().addr() as u64;
    attribute[1] = number(object);
    bpf(OBJ_PIN, attribute).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Detaches a link whose pin stays.
pub(crate) fn detach(path: &Path) -> anyhow::Result<()> {
    let link = open_pin(path)?;
    let mut attribute = Attribute::default();
    attribute[0] = number(&link);
    bpf(LINK_DETACH, attribute)?;
    Ok(())
}

/// Detaches every program that is linked to a cgroup, whosever it is.
pub(crate) fn detach_cgroup_links() -> anyhow::Result<()> {
    for link in aya::programs::loaded_links() {
        let link = link?;
        if link.link_type()? == LinkType::Cgroup {
            let mut attribute = Attribute::default();
            attribute[0] = u64::from(link.id());
            let link = descriptor(bpf(LINK_GET_FD_BY_ID, attribute)?);
            attribute[0] = number(&link);
            bpf(LINK_DETACH, attribute)?;
        }
    }
    Ok(())
}

/// Replaces the pin at `to` by a second pin of the object at `from`.
pub(crate) fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    let object = open_pin(from)?;
    std::fs::remove_file(to)?;
    pin(&object, to)
}

/// Replaces the pin at `path` by one of a small array.
pub(crate) fn replace_by_array(path: &Path) -> anyhow::Result<()> {
    let mut attribute = Attribute::default();
    // map_type BPF_MAP_TYPE_ARRAY, key_size; value_size, max_entries.
    attribute[0] = 2 | 4 << 32;
    attribute[1] = 8 | 1 << 32;
    // Linux before 5.11 counts maps as locked memory. The limit is restored, since daemons inherit it.
    let limit = getrlimit(Resource::Memlock);
    let infinite = Rlimit {
        current: None,
        maximum: None,
    };
    setrlimit(Resource::Memlock, infinite)?;
    let map = bpf(MAP_CREATE, attribute);
    setrlimit(Resource::Memlock, limit)?;
    let map = descriptor(map?);
    std::fs::remove_file(path)?;
    pin(&map, path)?;
    ensure!(path.exists(), "{} is not pinned", path.display());
    Ok(())
}
