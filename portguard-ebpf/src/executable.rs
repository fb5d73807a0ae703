//! The program of the caller, for events: its file, and the file's path. No decision depends on it.
//!
//! The path is walked up from the file to the root of its mount namespace, at each event: a hash of what is met is its id.
//! The names are read and sent to the daemon once for each id. Renaming or mounting a directory changes the
//! id, so a known path is always the current one.

use crate::kernel_read::{
    Address, OFF_DENTRY_HASH_LEN, OFF_DENTRY_HASHED, OFF_DENTRY_NAME, OFF_DENTRY_PARENT,
    OFF_DENTRY_SEQ, OFF_FILE_DENTRY, OFF_FILE_INODE, OFF_FILE_MNT, OFF_INODE_INO, OFF_INODE_SB,
    OFF_MOUNT_MNT, OFF_MOUNT_MOUNTPOINT, OFF_MOUNT_PARENT, OFF_MOUNT_ROOT, OFF_SB_DEV, Task,
    read_name,
};
use crate::maps::{EVENTS, EXECUTABLES};
use core::ptr::{read_volatile, write_volatile};
use portguard_common::{Event, ExecutableRecord, MAX_EXECUTABLE_STEPS, NAME_BYTES, RecordKind};

/// The program of the running task.
pub struct Executable {
    /// Its `struct file`; zero where there is none.
    file: Address,
    /// [`Event::executable`].
    pub id: u64,
    /// [`Event::exe_inode`].
    pub inode: u64,
    /// [`Event::exec`].
    pub exec: u64,
    /// [`Event::exe_dev`].
    pub dev: u32,
    /// [`Event::exe_flags`].
    pub flags: u32,
}

impl Executable {
    /// Reads it. Another thread may give the process another program meanwhile (`PR_SET_MM_EXE_FILE`): then nothing is
    /// known, as the file that was read may be another one by now.
    #[inline(always)]
    pub fn current() -> Self {
        let task = Task::current();
        let file = task.exe_file();
        let inode = file.follow(&OFF_FILE_INODE);
        let id = path_id(file);
        let hashed: u64 = file.follow(&OFF_FILE_DENTRY).read(&OFF_DENTRY_HASHED);
        let found = Self {
            file,
            id,
            inode: inode.read(&OFF_INODE_INO),
            exec: task.exec(),
            dev: inode.follow(&OFF_INODE_SB).read(&OFF_SB_DEV),
            flags: if hashed == 0 { Event::EXE_DELETED } else { 0 },
        };
        if task.exe_file().0 == file.0 {
            return found;
        }
        Self {
            file: Address(0),
            id: 0,
            inode: 0,
            exec: 0,
            dev: 0,
            flags: 0,
        }
    }

    /// Whether its path is yet to be sent.
    #[inline(always)]
    pub fn is_new(&self) -> bool {
        self.id != 0 && EXECUTABLES.get_ptr(&self.id).is_none()
    }

    /// Sends its path.
    #[inline(always)]
    pub fn send_path(&self) {
        portguard_exe_path(self.file.0, self.id);
    }
}

/// Walks from a file up to the root of its mount namespace, and calls `visit` with the number of each step and the
/// directory entry that has its name, or zero where the step leads from a mount to the place where it is mounted. Returns
/// whether the root was reached.
///
/// As `prepend_path` of the kernel, but without its locks: see [`portguard_exe_path`]. What is freed meanwhile stays memory of
/// its kind, since it is freed by RCU and programs run within `rcu_read_lock`.
#[inline(always)]
fn walk(file: Address, mut visit: impl FnMut(usize, Address)) -> bool {
    let mut dentry = file.follow(&OFF_FILE_DENTRY);
    let mut mount = Address(
        file.read::<u64>(&OFF_FILE_MNT)
            .wrapping_sub(OFF_MOUNT_MNT.load().into()),
    );
    let mut root: u64 = mount.read(&OFF_MOUNT_ROOT);
    for step in 0..MAX_EXECUTABLE_STEPS {
        if dentry.0 == root {
            let above = mount.follow(&OFF_MOUNT_PARENT);
            if above.0 == mount.0 {
                return true;
            }
            dentry = mount.follow(&OFF_MOUNT_MOUNTPOINT);
            mount = above;
            root = mount.read(&OFF_MOUNT_ROOT);
            visit(step, Address(0));
        } else {
            visit(step, dentry);
            let parent = dentry.follow(&OFF_DENTRY_PARENT);
            if parent.0 == dentry.0 {
                // A file in no directory, as memfd_create(2) makes them.
                return true;
            }
            dentry = parent;
        }
    }
    false
}

/// Odd, and with bits all over (of the golden ratio).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(MIX);
    hash ^ hash >> 32
}

/// The id of a file's path; 0 where there is no file.
///
/// Of each name it takes the entry's address and the hash and length of the name, which the kernel keeps, and salts with
/// the address of the directory.
#[inline(always)]
fn path_id(file: Address) -> u64 {
    if file.0 == 0 {
        return 0;
    }
    portguard_exe_hash(file.0, OFF_DENTRY_HASH_LEN.load().into(), u64::MAX, 0)
}

/// A hash of how often each entry of a file's path was renamed, moved or removed; 0 where one is being changed.
#[inline(always)]
fn path_changes(file: Address) -> u64 {
    portguard_exe_hash(file.0, OFF_DENTRY_SEQ.load().into(), u32::MAX.into(), 1)
}

/// A hash of the entries of a file's path, and of a word of each: at `offset`, as far as it is in `mask`. 0 where one has a
/// bit of `none`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_exe_hash(file: u64, offset: u64, mask: u64, none: u64) -> u64 {
    let (mut hash, mut all) = (MIX, 0);
    walk(Address(file), |_, dentry| {
        if dentry.0 != 0 {
            let word = dentry.read_at::<u64>(offset) & mask;
            all |= word;
            hash = mix(mix(hash, dentry.0), word);
        }
    });
    if all & none != 0 { 0 } else { hash | 1 }
}

/// Sends the path of a file under its `id`. It is sent only if nothing was renamed while the names were read, so no path
/// is made of two.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_exe_path(file: u64, id: u64) -> u64 {
    let file = Address(file);
    let changes = path_changes(file);
    if changes == 0 {
        return 0;
    }
    let Some(mut entry) = EVENTS.reserve_untyped::<ExecutableRecord>(0) else {
        // The next event of this program tries again.
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: exclusive memory of the reservation; bytes that are not written are not read.
    let record = unsafe { &mut *record };
    record.kind = RecordKind::Executable as u32;
    record.id = id;
    fill_path(record, file);
    if path_changes(file) != changes || path_id(file) != id {
        entry.discard(0);
        return 0;
    }
    entry.submit(0);
    // A failed insert sends the path once more, nothing else.
    let _ = EXECUTABLES.insert(&id, &1, 0);
    0
}

/// Writes the names, from the root down.
///
/// Numbers are counted in the record and not in registers, as in [`crate::maps::Path`].
#[inline(always)]
fn fill_path(record: &mut ExecutableRecord, file: Address) {
    let nodes = (&raw mut record.nodes).cast::<u64>();
    for step in 0..MAX_EXECUTABLE_STEPS {
        // SAFETY: within the array.
        let node = unsafe { nodes.add(step) };
        // SAFETY: as above.
        unsafe { write_volatile(node, 0) };
    }
    let reached = walk(file, |step, dentry| {
        // SAFETY: `walk` counts no step beyond the array.
        let node = unsafe { nodes.add(step) };
        // SAFETY: as above.
        unsafe { write_volatile(node, dentry.0) };
    });
    record.rootless = u32::from(!reached);
    let (names, len) = (&raw mut record.names, &raw mut record.len);
    // SAFETY: words of the record, here and below.
    unsafe { write_volatile(names, 0) };
    // SAFETY: as above.
    unsafe { write_volatile(len, 0) };
    for step in 1..=MAX_EXECUTABLE_STEPS {
        // SAFETY: within the array.
        let node = unsafe { nodes.add(MAX_EXECUTABLE_STEPS - step) };
        // SAFETY: as above.
        let dentry = Address(unsafe { read_volatile(node) });
        if dentry.0 == 0 {
            continue;
        }
        // SAFETY: as above.
        unsafe { write_volatile(names, read_volatile(names) + 1) };
        // SAFETY: as above.
        let end = unsafe { read_volatile(len) } as usize;
        if end >= ExecutableRecord::ROOM {
            continue;
        }
        // SAFETY: `end` is below ROOM, and NAME_BYTES more are within `text`.
        let at = unsafe { record.text.as_mut_ptr().add(end) };
        let written = read_name(dentry.read(&OFF_DENTRY_NAME), at.cast());
        if written <= 0 || written > NAME_BYTES as i64 {
            continue;
        }
        // SAFETY: as above.
        unsafe { write_volatile(len, end as u64 + written as u64) };
    }
}
