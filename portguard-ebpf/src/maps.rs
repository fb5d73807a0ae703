//! Every map that is looked up: its key, its value and who writes it. `in_force` and `counters` have the others, whose
//! memory the programs reach directly.

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, RingBuf};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_map;
use core::arch::asm;
use portguard_common::{
    AddressKey, AggregateKey, AggregateWords, GroupKey, GroupRules, Image, MAX_AGGREGATES,
    MAX_CGROUP_DEPTH, NAME_BYTES, NameKey, PAGE_WORDS, Page, TrieKey, TrieNode, VectorWords,
};

/// One policy's image. Inner maps differ in length, which `BPF_F_INNER_MAP` allows (Linux 5.10).
///
/// The value is an array and not a `Page`: an inner map must equal its template, and on Linux 6.1 a map whose
/// value is a structure by BTF does not equal one without BTF, such as the loader creates (`timer_off` in
/// `bpf_map_meta_equal`).
pub type Pages = Array<[u64; PAGE_WORDS], 1, { BPF_F_INNER_MAP as usize }>;

/// One slot has the image of the policy in force, see `in_force`; the other is empty, or has the next one.
/// Written by the loader only.
#[btf_map]
pub static POLICY: ArrayOfMaps<Pages, 2> = ArrayOfMaps::new();

/// Children in the cgroup tries of all generations. Written by the loader only.
#[btf_map]
pub static TRIE: HashMap<TrieKey, TrieNode, { 1 << 17 }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The automata of names with `*` of all generations: state and byte -> next state, or at the end the name
/// class. Written by the loader only.
#[btf_map]
pub static NAMES: HashMap<NameKey, u32, { 1 << 17 }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Networks -> address class. Written by the loader only.
#[btf_map]
pub static ADDRESSES: LpmTrie<AddressKey, u32, { 1 << 17 }> = LpmTrie::new();

/// Ranges of gids -> the rules that name them. Written by the loader only.
#[btf_map]
pub static GROUPS: LpmTrie<GroupKey, VectorWords, { 1 << 16 }> = LpmTrie::new();

/// Thread id -> the rules that the thread's groups leave, while it decides; written by the programs.
/// [`portguard_common::FixedGroups`] -> the rules of callers whose groups do not count; written by the loader.
#[btf_map]
pub static GROUPS_OF: HashMap<u64, GroupRules, 16384, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The rules that name a gid.
#[inline(always)]
pub fn rules_of_gid(generation: u64, gid: u64) -> Option<&'static VectorWords> {
    let key = GroupKey::new(generation, gid as u32);
    GROUPS.get(&Key::new(GroupKey::BITS, key))
}

/// This thread's entry of [`GROUPS_OF`].
#[inline(always)]
pub fn own_group_rules() -> Option<&'static mut GroupRules> {
    let rules = GROUPS_OF.get_ptr_mut(&bpf_get_current_pid_tgid())?;
    // SAFETY: a map value under this thread's key: nothing else reads or writes it, and each function that calls this is
    // done with it before it calls another that does.
    Some(unsafe { &mut *rules })
}

/// Cgroup id -> packed class: see `cgroup`. Written by the programs only.
#[btf_map]
pub static CGROUPS: LruHashMap<u64, u64, 16384> = LruHashMap::new();

/// Ids of the programs whose paths the daemon has been sent. Written by the programs; the daemon removes what it has
/// forgotten.
#[btf_map]
pub static EXECUTABLES: LruHashMap<u64, u64, 2048> = LruHashMap::new();

/// The path of a cgroup while it is walked: too large for the stack.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Path {
    /// `kernfs_node`s, the one below the root last; unused slots zero.
    pub nodes: [u64; MAX_CGROUP_DEPTH],
    /// Nodes in use. Counted in memory: of a count in a register the verifier knows the value, and walks all
    /// that follows once for each.
    pub count: u64,
    /// Levels below the root.
    pub depth: u64,
    /// Class of the trie node that was reached.
    pub class: u64,
    /// Flags of that node; zero where the walk ended.
    pub flags: u64,
    /// The edge to follow next.
    pub key: TrieKey,
}

impl Path {
    /// A path before it is filled in.
    pub const EMPTY: Self = Self {
        nodes: [0; MAX_CGROUP_DEPTH],
        count: 0,
        depth: 0,
        class: 0,
        flags: 0,
        key: TrieKey {
            parent: 0,
            name: [0; NAME_BYTES],
        },
    };

    /// The node at a level, counted from the cgroup itself (where it is not too deep) towards the root.
    #[inline(always)]
    pub fn node(&self, level: usize) -> u64 {
        self.nodes[level & (MAX_CGROUP_DEPTH - 1)]
    }
}

/// Thread id -> the path that the thread is walking. Written by the programs only.
#[btf_map]
pub static SCRATCH: HashMap<u64, Path, 1024> = HashMap::new();

/// Decisions, and paths of cgroups and programs, for the daemon. 1 MiB: about 7,000 decisions.
#[btf_map]
pub static EVENTS: RingBuf<u8, { 1 << 20 }> = RingBuf::new();

/// Aggregates of one window. See [`AGGREGATES`].
pub type Aggregates = HashMap<AggregateKey, AggregateWords, { MAX_AGGREGATES as usize }>;

/// Slot 0 has the running window; it is empty where every decision is an event of its own. The loader replaces
/// its map by a fresh one, a write that waits until no program uses the old one, and then reads the old one:
/// exact, without a lock.
#[btf_map]
pub static AGGREGATES: ArrayOfMaps<Aggregates, 1> = ArrayOfMaps::new();

/// An image in its map.
pub struct MapImage<'a>(pub &'a Pages);

impl Image for MapImage<'_> {
    #[inline(always)]
    fn page(&self, number: u32) -> Option<&Page> {
        self.0.get(number).map(Page::from_words)
    }

    #[inline(always)]
    fn opaque(mut value: u32) -> u32 {
        // SAFETY: changes no bit. Not a move, by which the verifier would link two registers.
        unsafe { asm!("{0} |= 0", inout(reg) value, options(pure, nomem, nostack)) };
        value
    }

    #[inline(always)]
    fn bounded<const MASK: u32>(mut value: u64) -> u64 {
        // SAFETY: an AND.
        unsafe {
            asm!("{0} &= {mask}", inout(reg) value, mask = const MASK, options(pure, nomem, nostack));
        };
        // SAFETY: by the AND.
        unsafe { core::hint::assert_unchecked(value <= MASK as u64) };
        value
    }
}
