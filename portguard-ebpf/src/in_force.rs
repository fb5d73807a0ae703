//! The policy in force: its memo, and the slot of its image.
//!
//! The loader writes the memo and the image that no program uses, then the one word that says which are in force. It
//! waits until no program uses the others any more before it writes those again.

use crate::counters::{count_verdict, increment};
use crate::kernel_read::HOST_NETNS;
use crate::maps::{MapImage, POLICY, Pages};
use portguard_common::{
    Answer, Entry, Header, HeaderFlags, Image as _, MEMO_HITS, Memo, Page, PortClass, Protocol,
};

/// 0 while no policy is installed, else 1 or 2: the number of the memo, and one more than the slot of the image.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.active")]
static mut ACTIVE: u64 = 0;

#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.memo1")]
static mut MEMO_1: Memo = Memo::EMPTY;

#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.memo2")]
static mut MEMO_2: Memo = Memo::EMPTY;

/// What is decided under the policy of a memo: of the maps here the only ones that programs write.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.hits1")]
static mut HITS_1: [u64; MEMO_HITS] = [0; MEMO_HITS];

#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.hits2")]
static mut HITS_2: [u64; MEMO_HITS] = [0; MEMO_HITS];

/// The policy in force when this was made; a decision asks no other.
#[derive(Clone, Copy)]
pub struct InForce {
    memo: *const Memo,
    slot: u32,
}

impl InForce {
    /// The policy in force; `None` between the programs' attachment and the installation of the policy.
    #[inline(always)]
    pub fn now() -> Option<Self> {
        // SAFETY: a word that only the loader writes, of which one byte changes. Half of it is loaded, as LLVM would return
        // the whole in place of a zero, and the verifier does not know that.
        let active = unsafe { core::ptr::read_volatile((&raw const ACTIVE).cast::<u32>()) };
        if active == 0 {
            return None;
        }
        let memo = if active == 1 {
            &raw const MEMO_1
        } else {
            &raw const MEMO_2
        };
        Some(Self {
            memo,
            slot: active - 1,
        })
    }

    #[inline(always)]
    fn memo(&self) -> &Memo {
        // SAFETY: while this program runs the loader does not write it.
        unsafe { &*self.memo }
    }

    /// The class of a port.
    #[inline(always)]
    pub fn class(&self, port: u16) -> PortClass {
        self.memo().class::<MapImage<'_>>(port)
    }

    /// What the memo says of a class and a protocol.
    #[inline(always)]
    pub fn entry(&self, class: PortClass, protocol: Protocol) -> Entry {
        self.memo().entry::<MapImage<'_>>(class, protocol)
    }

    /// The memo's answer for a uid.
    #[inline(always)]
    pub fn answer_for_user(&self, entry: Entry, uid: u32) -> Answer {
        self.memo().answer_for_user::<MapImage<'_>>(entry, uid)
    }

    /// The memo's answer for the class of a cgroup or an address.
    #[inline(always)]
    pub fn answer_for_class(&self, entry: Entry, class: u32) -> Answer {
        self.memo().answer_for_class::<MapImage<'_>>(entry, class)
    }

    /// Whether the policy has all of these [`HeaderFlags`].
    #[inline(always)]
    pub fn has(&self, flags: u64) -> bool {
        self.memo().flags & flags == flags
    }

    /// Whether binds in a network namespace, by its inode number, are decided.
    #[inline(always)]
    pub fn is_for(&self, netns: u32) -> bool {
        netns == HOST_NETNS.load() || self.has(HeaderFlags::ALL_NETNS)
    }

    /// The number of the policy.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        self.memo().generation
    }

    /// The slot of its image.
    #[inline(always)]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Counts a decision.
    #[inline(always)]
    pub fn count(&self, answer: Answer) {
        let at = MapImage::opaque(answer.slot()) as usize & (MEMO_HITS - 1);
        let hits = if self.slot == 0 {
            &raw mut HITS_1
        } else {
            &raw mut HITS_2
        };
        // SAFETY: within the hits.
        let word = unsafe { hits.cast::<u64>().add(at) };
        // SAFETY: as above, aligned; programs only touch it by atomic adds.
        unsafe { increment(word) };
        count_verdict(answer.word());
    }
}

/// The image in a slot; `None` where the loader wrote none.
#[inline(always)]
pub fn image(slot: u32) -> Option<MapImage<'static>> {
    POLICY.get(slot).map(MapImage)
}

/// The header of the image in a slot.
#[inline(always)]
pub fn header(slot: u32) -> Option<Header<'static>> {
    let pages: &'static Pages = POLICY.get(slot)?;
    pages.get(0).map(Page::from_words).map(Header)
}
