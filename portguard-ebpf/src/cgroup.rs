//! The class of the caller's cgroup, from its path, without a race.
//!
//! At the first bind from a cgroup id under a policy the path is walked up to the root, then down the
//! policy's trie; the class is cached by id. Nothing depends on the daemon: a cgroup made a microsecond
//! ago matches, and one removed and made again has another id. v2 directories cannot be renamed.

use crate::emit;
use crate::kernel::{Address, OFF_CGROUP_KN, OFF_CGROUP_LEVEL, OFF_CGROUP_PARENT, OFF_KN_NAME, Task};
use crate::maps::{CGROUPS, TRIE};
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, generated};
use portguard_common::{Header, MAX_CGROUP_DEPTH, NAME_BYTES, TrieKey};

/// Levels that are skipped, at most, below the [`MAX_CGROUP_DEPTH`] that rules can name.
const MAX_SKIPPED: u32 = 256;

/// A cached class: the low half of the id, the policy's generation and the class in one word, since a
/// slot of an LRU map can be taken over by another id while it is read.
struct Cached(u64);

impl Cached {
    #[inline(always)]
    fn pack(id: u64, generation: u64, class: u64) -> Self {
        Self(id << 32 | (generation & 0xffff) << 16 | class & 0xffff)
    }

    #[inline(always)]
    fn class(&self, id: u64, generation: u64) -> Option<u32> {
        if self.0 >> 16 == Self::pack(id, generation, 0).0 >> 16 {
            Some(self.0 as u32 & 0xffff)
        } else {
            None
        }
    }
}

/// The id of the caller's cgroup.
#[inline(always)]
pub fn current_id() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The class of the caller's cgroup in the policy of `header`; 0 where no rule names its path.
#[inline(always)]
pub fn current_class(header: &Header<'_>, task: Task, id: u64) -> u32 {
    let generation = header.generation();
    if let Some(slot) = CGROUPS.get_ptr(&id) {
        // SAFETY: a map value, eight bytes and aligned: one load, never torn.
        let cached = Cached(unsafe { core::ptr::read_volatile(slot) });
        if let Some(class) = cached.class(id, generation) {
            return class;
        }
    }
    let path = Path::of(task);
    emit::cgroup(id, &path);
    let class = path.class(header.trie_root());
    // A failed insert costs the next bind another walk, nothing else.
    let _ = CGROUPS.insert(&id, Cached::pack(id, generation, u64::from(class)).0, 0);
    class
}

/// The `kernfs_node`s of a cgroup's path: the one below the root last, unused slots zero.
pub struct Path {
    pub nodes: [u64; MAX_CGROUP_DEPTH],
    pub depth: u32,
}

/// Applies a macro to 0, 1, … 15: loops over the stack array are unrolled by hand, since kernels before
/// 5.12 refuse variable stack offsets.
macro_rules! each_level {
    ($apply:ident) => { each_level!(@ $apply 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
    (rev $apply:ident) => { each_level!(@ $apply 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0) };
    (@ $apply:ident $($i:literal)*) => { $($apply!($i);)* };
}
pub(crate) use each_level;

impl Path {
    #[inline(always)]
    fn of(task: Task) -> Self {
        let mut cgroup = task.cgroup();
        let depth: u32 = cgroup.read(&OFF_CGROUP_LEVEL);
        // Rules name at most MAX_CGROUP_DEPTH levels from the top, and hold for all below: what lies
        // deeper cannot change the class.
        let mut level = depth;
        for _ in 0..MAX_SKIPPED {
            if level <= MAX_CGROUP_DEPTH as u32 {
                break;
            }
            cgroup = cgroup.follow(&OFF_CGROUP_PARENT);
            level -= 1;
        }
        let mut nodes = [0u64; MAX_CGROUP_DEPTH];
        if level <= MAX_CGROUP_DEPTH as u32 {
            // One step beyond the last level, so that the last assignment below is used.
            'up: {
                macro_rules! up {
                    ($i:literal) => {
                        let parent = cgroup.follow(&OFF_CGROUP_PARENT);
                        if parent.0 == 0 {
                            break 'up; // the root itself
                        }
                        nodes[$i] = cgroup.read(&OFF_CGROUP_KN);
                        cgroup = parent;
                    };
                }
                each_level!(up);
            }
        }
        Self { nodes, depth }
    }

    /// Walks down the trie from `root`; the class of the deepest node reached holds.
    #[inline(always)]
    fn class(&self, root: u64) -> u32 {
        let mut class = 0;
        let mut key = TrieKey {
            parent: root,
            name: [0; NAME_BYTES],
        };
        'down: {
            macro_rules! down {
                ($i:literal) => {
                    if self.nodes[$i] != 0 {
                        zero(&mut key.name);
                        name(self.nodes[$i], &mut key.name);
                        // SAFETY: the map is written by the loader only, which never changes an entry and
                        // never uses a node's number again: the value is whole.
                        match unsafe { TRIE.get(&key) } {
                            Some(child) => {
                                class = child.class as u32;
                                key.parent = child.node;
                            }
                            None => break 'down,
                        }
                    }
                };
            }
            each_level!(rev down);
        }
        class
    }
}

/// Zeroes a name by whole words; the compiler must not make a byte loop of it.
#[inline(always)]
pub fn zero(name: &mut [u8; NAME_BYTES]) {
    let words = name.as_mut_ptr().cast::<u64>();
    for i in 0..NAME_BYTES / 8 {
        // SAFETY: within the array, which is eight-byte aligned in both structures that hold one.
        let word = unsafe { words.add(i) };
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(word, 0) };
    }
}

/// Reads the name of a `kernfs_node`, cut at 127 bytes (rules' names are shorter, so a cut one matches none).
#[inline(always)]
pub fn name(node: u64, into: &mut [u8; NAME_BYTES]) {
    let text: u64 = Address(node).read(&OFF_KN_NAME);
    // SAFETY: the destination has NAME_BYTES bytes; the helper checks the source and always ends with NUL.
    unsafe {
        generated::bpf_probe_read_kernel_str(
            into.as_mut_ptr().cast(),
            NAME_BYTES as u32,
            text as *const _,
        )
    };
}
