//! The class of the caller's cgroup, from its path, without a race.
//!
//! At the first bind from a cgroup under a policy the path is walked up to the root, then down the policy's
//! trie, and the class is cached by the cgroup's id. Nothing depends on the daemon: a cgroup created a
//! microsecond ago matches, and one that is removed and created again has another id. Directories of cgroup v2
//! cannot be renamed.

use crate::counters::count;
use crate::events;
use crate::kernel_read::{
    OFF_CGROUP_KN, OFF_CGROUP_LEVEL, OFF_CGROUP_PARENT, OFF_KN_ID, Task, kernfs_name,
};
use crate::maps::{CGROUPS, MapImage, NAMES, Path, SCRATCH, TRIE};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use portguard_common::{
    Counter, Header, Image as _, MAX_CGROUP_DEPTH, NAME_BYTES, NameKey, TrieKey, TrieNode,
    UNRESOLVED_CLASS,
};

/// Levels that are skipped, at most, below the [`MAX_CGROUP_DEPTH`] that rules can name.
const MAX_SKIPPED: u32 = 96;

/// A cached class: the low half of the id, the policy's generation and the class in one word, since another id
/// can take over a slot of an LRU map while it is read.
struct Cached(u64);

impl Cached {
    #[inline(always)]
    fn pack(id: u64, generation: u64, class: u64) -> Self {
        Self(id << 32 | (generation & 0xffff) << 16 | class & 0xffff)
    }

    #[inline(always)]
    fn class(&self, id: u64, generation: u64) -> Option<u32> {
        if self.0 >> 16 == Self::pack(id, generation, 0).0 >> 16 {
            let class = self.0 as u32 & 0xffff;
            // All ones stand for UNRESOLVED_CLASS. No branch: see `decide_bind`.
            Some(class | ((class + 1) >> 16).wrapping_neg())
        } else {
            None
        }
    }
}

/// The class of the cgroup with this `id`, the caller's, in the policy of `header`. [`UNRESOLVED_CLASS`], counted, where
/// it is deeper than is walked, there is no memory for the walk, or the caller has left it.
#[inline(always)]
pub fn current_class(header: &Header<'_>, id: u64) -> u32 {
    let class = match cached_class(id, header.generation()) {
        Some(class) => class,
        None => walk_and_cache(header, id),
    };
    // The copy is opaque: of `class` itself the verifier must not learn the value, see `decide_bind`.
    if MapImage::opaque(class) == UNRESOLVED_CLASS {
        count(Counter::Unresolved);
    }
    class
}

/// The class of the cgroup with this `id`, where it is known and its path was read.
#[inline(always)]
pub fn known_class(id: u64, generation: u64) -> Option<u32> {
    let class = cached_class(id, generation)?;
    (MapImage::opaque(class) != UNRESOLVED_CLASS).then_some(class)
}

/// Makes sure that the path of the cgroup with this `id`, the caller's, was reported: an event can name it then, though it
/// no longer exists. `header` is that of the policy in force, of this generation.
#[inline(always)]
pub fn make_known<'a>(id: u64, generation: u64, header: impl FnOnce() -> Option<Header<'a>>) {
    if cached_class(id, generation).is_none()
        && let Some(header) = header()
    {
        walk_and_cache(&header, id);
    }
}

#[inline(always)]
fn cached_class(id: u64, generation: u64) -> Option<u32> {
    let slot = CGROUPS.get_ptr(&id)?;
    // SAFETY: a map value, eight bytes and aligned: one load, never torn.
    let cached = Cached(unsafe { core::ptr::read_volatile(slot) });
    cached.class(id, generation)
}

#[inline(always)]
fn walk_and_cache(header: &Header<'_>, id: u64) -> u32 {
    let class = portguard_walk(header.trie_root(), header.trie_root_flags(), id);
    // Without memory, and of a task that was moved, the next bind may find more. Only the high half is compared: the
    // verifier must not learn the value of the low one.
    if MapImage::opaque((class >> 32) as u32) == 0 {
        // A failed insert costs the next bind another walk, nothing else.
        let _ = CGROUPS.insert(&id, Cached::pack(id, header.generation(), class).0, 0);
    }
    class as u32
}

/// In place of a class: [`UNRESOLVED_CLASS`], but only for this once. A path that is too deep stays it.
const NOT_READ: u64 = u64::MAX;

/// What a fresh [`Path`] is made from.
static EMPTY: Path = Path::EMPTY;

/// The class of the running task's cgroup, by its path, while that cgroup is the one with this `id`.
///
/// The path is in a map entry under the thread's own id, which no other thread touches, even where threads
/// preempt each other. This and the other functions without a mangled name are global to the verifier, which
/// checks each of them once and not once for each state in which it is called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_walk(root: u64, flags: u64, id: u64) -> u64 {
    class_of(root, flags, |path| {
        walk_up(path, Task::current(), id)?;
        events::cgroup(id, path);
        Ok(())
    })
}

/// Collects the nodes from the cgroup to the root. An error is the class instead: [`UNRESOLVED_CLASS`] where it is too
/// deep, [`NOT_READ`] where it is not the one with this `id`.
///
/// The task can be moved at any time, also by one of its own threads. The path is that of one read of its cgroup, and the
/// class of another cgroup's path must not be cached under this id, nor decide for it.
#[inline(always)]
fn walk_up(path: &mut Path, task: Task, id: u64) -> Result<(), u64> {
    let mut cgroup = task.cgroup();
    if cgroup.follow(&OFF_CGROUP_KN).read::<u64>(&OFF_KN_ID) != id {
        return Err(NOT_READ);
    }
    let mut level: u32 = cgroup.read(&OFF_CGROUP_LEVEL);
    path.depth = u64::from(level);
    // Rules name at most MAX_CGROUP_DEPTH levels from the top, and match all below; [`Walk::outcome`] sees
    // to a `**` that could match deeper.
    for _ in 0..MAX_SKIPPED {
        if level <= MAX_CGROUP_DEPTH as u32 {
            break;
        }
        cgroup = cgroup.follow(&OFF_CGROUP_PARENT);
        level -= 1;
    }
    for i in 0..MAX_CGROUP_DEPTH {
        let parent = cgroup.follow(&OFF_CGROUP_PARENT);
        if parent.0 == 0 {
            return Ok(()); // the root, which is no node of a path
        }
        path.nodes[i] = cgroup.read(&OFF_CGROUP_KN);
        path.count += 1;
        cgroup = parent;
    }
    if cgroup.follow(&OFF_CGROUP_PARENT).0 == 0 {
        Ok(())
    } else {
        Err(u64::from(UNRESOLVED_CLASS))
    }
}

/// The class of the path that `fill` fills in, by the trie below `root`; the error of `fill`, or [`NOT_READ`] where there
/// is no memory.
#[inline(always)]
pub fn class_of(root: u64, flags: u64, fill: impl FnOnce(&mut Path) -> Result<(), u64>) -> u64 {
    let thread = bpf_get_current_pid_tgid();
    let _ = SCRATCH.insert(&thread, &EMPTY, 0);
    let mut class = NOT_READ;
    if let Some(walk) = own_walk() {
        walk.0.key.parent = root;
        walk.0.flags = flags;
        class = match fill(walk.0) {
            Ok(()) => {
                for _ in 0..MAX_CGROUP_DEPTH {
                    if portguard_descend() == 0 {
                        break;
                    }
                }
                walk.outcome()
            }
            Err(instead) => instead,
        };
    }
    let _ = SCRATCH.remove(&thread);
    class
}

/// A walk along the path of the running thread's cgroup: up the tree, then down the policy's trie.
struct Walk(&'static mut Path);

/// The walk of this thread.
#[inline(always)]
fn own_walk() -> Option<Walk> {
    let path = SCRATCH.get_ptr_mut(&bpf_get_current_pid_tgid())?;
    // SAFETY: a map value under this thread's key: no other thread reads or writes it, and each function
    // that calls this is done with it before it calls another that does.
    Some(Walk(unsafe { &mut *path }))
}

/// One step down the trie, to the child of the next name; 0 where the walk ends.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_descend() -> u64 {
    let Some(mut walk) = own_walk() else { return 0 };
    if walk.0.count == 0 {
        return 0;
    }
    walk.0.count -= 1;
    walk.zero_name();
    let node = walk.0.node(walk.0.count as usize);
    kernfs_name(node, &raw mut walk.0.key.name);
    if walk.follow_edge() {
        return 1;
    }
    if walk.0.flags & u64::from(TrieNode::BY_CLASS) == 0 {
        walk.0.flags = 0;
        return 0;
    }
    let class = portguard_name_class(walk.0.key.parent >> 32) as u32;
    walk.zero_name();
    // SAFETY: within the name.
    let at = unsafe {
        (&raw mut walk.0.key.name)
            .cast::<u8>()
            .add(TrieKey::CLASS_AT)
    };
    // SAFETY: four bytes of the name, at a multiple of four.
    unsafe { core::ptr::write_volatile(at.cast::<u32>(), class) };
    if walk.follow_edge() {
        return 1;
    }
    walk.0.flags = 0;
    0
}

/// The name class of the name in this thread's path: the set of the policy's names with `*` that it matches.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_name_class(generation: u64) -> u64 {
    let mut state = 0;
    for chunk in 0..NAME_BYTES / NAME_CHUNK {
        state = portguard_name_chunk(generation, state, (chunk * NAME_CHUNK) as u64);
        if state == NO_STATE {
            return 0;
        }
        if state & AT_END != 0 {
            break;
        }
    }
    let end = NameKey::new(generation, state as u32, NameKey::END);
    // SAFETY: written by the loader only, which never changes an entry: the value is whole.
    unsafe { NAMES.get(&end) }.map_or(0, |class| u64::from(*class))
}

/// Bytes of a name that are read by one call: the verifier walks each round of a loop.
const NAME_CHUNK: usize = 16;

/// In place of a state: no name with `*` matches any longer.
const NO_STATE: u64 = u64::MAX;

/// Set in a state at the end of the name. States are numbers of 32 bits.
const AT_END: u64 = 1 << 32;

/// The state that follows `state` after the bytes of this thread's name from `first` on, at most [`NAME_CHUNK`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_name_chunk(generation: u64, mut state: u64, first: u64) -> u64 {
    let Some(walk) = own_walk() else {
        return NO_STATE;
    };
    let first = MapImage::opaque(first as u32) as usize & (NAME_BYTES - NAME_CHUNK);
    for i in 0..NAME_CHUNK {
        let byte = walk.0.key.name[first + i];
        if byte == 0 {
            return state | AT_END;
        }
        state = portguard_name_step(generation, state, u64::from(byte));
        if state == NO_STATE {
            return NO_STATE;
        }
    }
    state
}

/// The state that follows `state` at `byte`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_name_step(generation: u64, state: u64, byte: u64) -> u64 {
    let edge = NameKey::new(generation, state as u32, byte as u8);
    // SAFETY: written by the loader only, which never changes an entry: the value is whole.
    if let Some(next) = unsafe { NAMES.get(&edge) } {
        return u64::from(*next);
    }
    let any = NameKey::new(generation, state as u32, NameKey::ANY);
    // SAFETY: as above.
    unsafe { NAMES.get(&any) }.map_or(NO_STATE, |next| u64::from(*next))
}

impl Walk {
    /// Takes the edge of the key, where there is one.
    #[inline(always)]
    fn follow_edge(&mut self) -> bool {
        // SAFETY: the map is written by the loader only, which never changes an entry and never uses a
        // node's number again: the value is whole.
        let Some(child) = (unsafe { TRIE.get(&self.0.key) }) else {
            return false;
        };
        self.0.class = u64::from(child.class);
        self.0.flags = u64::from(child.flags);
        self.0.key.parent = child.node;
        true
    }

    /// The class of the node that was reached, or [`UNRESOLVED_CLASS`] where levels below could change it that were
    /// not walked.
    #[inline(always)]
    fn outcome(&self) -> u64 {
        if self.0.flags & u64::from(TrieNode::OPEN) != 0 && self.0.depth > MAX_CGROUP_DEPTH as u64 {
            return u64::from(UNRESOLVED_CLASS);
        }
        self.0.class
    }

    /// Zeroes the name by whole words; the compiler must not make a byte loop of it.
    #[inline(always)]
    fn zero_name(&mut self) {
        let words = (&raw mut self.0.key.name).cast::<u64>();
        for i in 0..NAME_BYTES / 8 {
            // SAFETY: within the array, which is eight-byte aligned behind the word `parent`.
            let word = unsafe { words.add(i) };
            // SAFETY: as above.
            unsafe { core::ptr::write_volatile(word, 0) };
        }
    }
}
