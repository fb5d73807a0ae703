//! The image of a compiled policy: pages of words, which `decide_bind` reads in the kernel and in userspace.
//!
//! All tables of one policy are pages of one array map, and that map hangs off a single slot of an
//! array of maps: writing the slot switches every table at once, and a bind that began under the old
//! policy continues with the old pages.
//!
//! | pages | what |
//! |---|---|
//! | 0 | the [`Header`] |
//! | 1 to 32 | TCP's port table: a 16-bit class for each port, 0 = not protected |
//! | further port tables | of the protocols whose classes differ from TCP's |
//! | user index | one page: the first uid of each user page |
//! | user pages | sorted [`UserWord`]s, 512 a page |
//! | runs of vectors | port, user, cgroup and address classes: which rules hold for a class |
//! | rule words | one byte a rule |
//! | earlier hits | decisions by earlier policies, by the default and by each rule: written by the loader |
//! | description | JSON that describes the policy, so that it can be shown without its files |
//!
//! A vector has one bit for each rule, and a summary word with one bit for each of its 64 words that
//! is not zero. The first rule that matches is the lowest bit of the AND of the vectors, whatever the
//! number of rules. Equivalence classes keep the tables small (ports that the same rules match share a
//! class), and bit vectors, unlike a table of all combinations, cannot explode.

use crate::{Errno, Protocol, Verdict};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of everything in this crate that both sides of the kernel boundary read.
pub const ABI_VERSION: u32 = 7;
/// Rules a policy may have.
pub const MAX_RULES: usize = 4096;
/// The rule number that stands for "no rule matched": the default decided.
pub const NO_RULE: u16 = u16::MAX;
/// Words of a [`Page`].
pub const PAGE_WORDS: usize = 512;
/// Ports whose classes fit in a page, 16 bits each.
pub const PORTS_PER_PAGE: usize = PAGE_WORDS * 4;
/// Pages that an image may have (256 MiB).
pub const MAX_PAGES: u32 = 65_536;
/// Words with a bit for each rule.
pub const WORDS_PER_MASK: usize = MAX_RULES / 64;
/// Words of a vector: the summary, then the mask.
pub const VECTOR_WORDS: usize = 1 + WORDS_PER_MASK;
/// A vector by itself.
pub type VectorWords = [u64; VECTOR_WORDS];
/// Vectors that fit in a page.
pub const VECTORS_PER_PAGE: usize = PAGE_WORDS / VECTOR_WORDS;
/// Class numbers per page: one more than fit, so that page and slot are shifts and masks, whose bounds
/// the verifier tracks. The last number of each page is unused.
pub const CLASSES_PER_PAGE: u32 = VECTORS_PER_PAGE as u32 + 1;
/// Classes that a table may have: their numbers fit 16 bits.
pub const MAX_CLASSES: usize = 65_536 / CLASSES_PER_PAGE as usize * VECTORS_PER_PAGE;

/// The highest number that a class may have.
pub(crate) const MAX_CLASS: u32 = u16::MAX as u32;

/// The number of the `n`th class.
#[must_use]
pub const fn class_number(n: usize) -> usize {
    n / VECTORS_PER_PAGE * CLASSES_PER_PAGE as usize + n % VECTORS_PER_PAGE
}

/// Index of the word that counts the decisions by a rule, from the first page of hits.
#[inline(always)]
#[must_use]
pub const fn hits_slot(rule: u16) -> u32 {
    // The default, NO_RULE, comes first.
    rule.wrapping_add(1) as u32
}

/// Pages of the hits of a policy with this many rules.
#[must_use]
pub const fn hits_pages(rules: usize) -> usize {
    (rules + 1).div_ceil(PAGE_WORDS)
}

/// A page of an image, and the value of the map that holds it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Page {
    words: [u64; PAGE_WORDS],
}

/// An image, in a map or in memory.
pub trait Image {
    /// The page with this number, or `None` past the end.
    fn page(&self, number: u32) -> Option<&Page>;

    /// `value`, hidden from the optimiser; the verifier forgets which other values it equals.
    ///
    /// The optimiser leaves out masks that it can prove to change nothing; the verifier knows less, and has
    /// to see them.
    #[inline(always)]
    #[must_use]
    fn opaque(value: u32) -> u32 {
        value
    }
}

impl Image for [Page] {
    fn page(&self, number: u32) -> Option<&Page> {
        self.get(number as usize)
    }
}

/// An index outside a page or an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTooFar;

impl Page {
    /// A page of zeros.
    pub const ZERO: Self = Self {
        words: [0; PAGE_WORDS],
    };

    /// These words as a page.
    #[inline(always)]
    #[must_use]
    pub fn from_words(words: &[u64; PAGE_WORDS]) -> &Self {
        zerocopy::transmute_ref!(words)
    }

    /// The word at `index`, taken modulo [`PAGE_WORDS`]: no panic path and, in the kernel, a bound that the
    /// verifier sees.
    #[inline(always)]
    #[must_use]
    pub const fn word(&self, index: usize) -> u64 {
        self.words[index & (PAGE_WORDS - 1)]
    }

    /// Sets the word at `index`.
    ///
    /// # Errors
    /// Where `index` is outside the page.
    pub fn set(&mut self, index: usize, word: u64) -> Result<(), PageTooFar> {
        *self.words.get_mut(index).ok_or(PageTooFar)? = word;
        Ok(())
    }

    /// The class of a port in a page of a port table; only the low 11 bits of `port` count here.
    #[inline(always)]
    #[must_use]
    pub const fn port_class(&self, port: u16) -> u32 {
        let word = self.word((port as usize & (PORTS_PER_PAGE - 1)) >> 2);
        (word >> ((port & 3) * 16)) as u32 & 0xffff
    }

    /// The byte of rule `index` in the page of rule words.
    #[inline(always)]
    #[must_use]
    pub const fn rule(&self, index: u32) -> RuleWord {
        let word = self.word((index as usize & (MAX_RULES - 1)) >> 3);
        RuleWord((word >> ((index & 7) * 8)) as u8)
    }
}

/// The outcome of a rule or of the default: the verdict, whether it is reported and enforced, and the errno of a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleWord(pub u8);

impl RuleWord {
    const REPORT: u8 = 4;
    const AUDIT: u8 = 8;
    /// Where the two bits of the errno begin.
    const ERRNO: u32 = 4;

    /// Packs a verdict, whether it is reported, and whether it is only reported.
    #[inline(always)]
    #[must_use]
    pub const fn new(verdict: Verdict, report: bool, audit: bool) -> Self {
        let report = if report { Self::REPORT } else { 0 };
        let audit = if audit { Self::AUDIT } else { 0 };
        Self(verdict as u8 | report | audit)
    }

    /// The same with an errno.
    #[inline(always)]
    #[must_use]
    pub const fn with_errno(self, errno: Errno) -> Self {
        Self(self.0 & !(3 << Self::ERRNO) | (errno as u8) << Self::ERRNO)
    }

    /// The errno of a denial.
    #[inline(always)]
    #[must_use]
    pub const fn errno(self) -> Errno {
        Errno::from_bits(self.0 >> Self::ERRNO)
    }

    /// The verdict and the errno alone, as events have them.
    #[inline(always)]
    #[must_use]
    pub const fn outcome(self) -> Self {
        Self(self.0 & !(Self::REPORT | Self::AUDIT))
    }

    /// Whether a decision by this rule is not enforced.
    #[inline(always)]
    #[must_use]
    pub const fn audit(self) -> bool {
        self.0 & Self::AUDIT != 0
    }

    /// 1 where the verdict is an enforced `deny`, else 0.
    #[inline(always)]
    #[must_use]
    pub const fn denies(self) -> u32 {
        let enforced = !(self.0 / Self::AUDIT);
        // The high one of the verdict's two bits: see [`Verdict::from_bits`].
        (self.0 >> 1 & enforced & 1) as u32
    }

    /// The verdict.
    #[inline(always)]
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        Verdict::from_bits(self.0)
    }

    /// Whether a decision by this rule makes an event.
    #[inline(always)]
    #[must_use]
    pub const fn report(self) -> bool {
        self.0 & Self::REPORT != 0
    }
}

/// A word of the user pages: a class that holds from a uid on. Words order by uid, and their top bit is
/// clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserWord(pub u64);

impl UserWord {
    const CLASS_BITS: u32 = 31;
    const CLASS_MASK: u32 = (1 << Self::CLASS_BITS) - 1;

    /// A word above every uid: `(uid_t)-1` is no one's.
    pub const UNUSED: Self = Self(u64::MAX >> 1);

    /// `class` from uid `start` on.
    #[must_use]
    pub const fn new(start: u32, class: u32) -> Self {
        Self((start as u64) << Self::CLASS_BITS | (class & Self::CLASS_MASK) as u64)
    }

    /// The greatest word of `uid`.
    #[inline(always)]
    #[must_use]
    pub const fn last_of(uid: u32) -> Self {
        Self::new(uid, u32::MAX)
    }

    /// The class.
    #[inline(always)]
    #[must_use]
    pub const fn class(self) -> u32 {
        self.0 as u32 & Self::CLASS_MASK
    }

    /// The uid from which on it holds.
    #[must_use]
    pub const fn start(self) -> u32 {
        (self.0 >> Self::CLASS_BITS) as u32
    }
}

/// Settings of a policy that are one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFlags(pub u64);

impl HeaderFlags {
    /// `mode: enforce` (else audit: nothing is denied and nothing granted).
    pub const ENFORCE: u64 = 1;
    /// `scope: all` (else binds outside the host's network namespace are not decided).
    pub const ALL_NETNS: u64 = 2;
    /// At least one rule names a cgroup or a unit.
    pub const CGROUP_RULES: u64 = 16;
    /// At least one rule names a group.
    pub const GROUP_RULES: u64 = 32;
    /// At least one rule names a group or an address.
    pub const GROUP_OR_ADDRESS_RULES: u64 = 64;
    /// At least one `deny` rule names a user or a group, so that the owners of a caller's user namespaces count.
    pub const OWNER_RULES: u64 = 128;
    /// Some decision is enforced: a rule that is not in audit mode, or the default, allows or denies.
    pub const ACTS: u64 = 8;
}

/// Page 0 of an image: where its tables are, and the settings of the policy.
///
/// Each accessor reads one word, so that the programs load only what they use.
#[derive(Clone, Copy)]
pub struct Header<'a>(pub &'a Page);

macro_rules! header_words {
    ($($(#[$doc:meta])* $get:ident / $set:ident = $index:expr;)*) => {
        impl Header<'_> {
            $($(#[$doc])* #[inline(always)] #[must_use]
            pub const fn $get(&self) -> u64 { self.0.word($index) })*
        }
        impl Page {
            $($(#[$doc])* pub const fn $set(&mut self, word: u64) { self.words[$index] = word; })*
        }
    };
}

header_words! {
    /// [`ABI_VERSION`] of the writer.
    abi / set_abi = 0;
    /// Number of this policy among those of its maps, from 1; it wraps after 65,535.
    generation / set_generation = 1;
    /// [`HeaderFlags`].
    flags / set_flags = 2;
    /// The [`RuleWord`] of the default.
    default_word / set_default_word = 3;
    /// First page of the user pages; the page before it is the user index.
    user_pages / set_user_pages = 4;
    /// User pages in use, 1 to 512.
    user_page_count / set_user_page_count = 5;
    /// First page of the vectors of user classes.
    user_vectors / set_user_vectors = 7;
    /// First page of the vectors of port classes.
    port_vectors / set_port_vectors = 8;
    /// First page of the vectors of cgroup classes.
    cgroup_vectors / set_cgroup_vectors = 9;
    /// The page of rule words.
    rule_page / set_rule_page = 10;
    /// The root of this policy's cgroup trie.
    trie_root / set_trie_root = 11;
    /// [`crate::TrieNode`] flags of that root.
    trie_root_flags / set_trie_root_flags = 13;
    /// The cgroup class of a path that cannot be read: the rules that hold everywhere, and all enforced
    /// `deny` rules.
    unresolved_class / set_unresolved_class = 14;
    /// First page of the vectors of address classes; addresses that no rule names have class 0.
    address_vectors / set_address_vectors = 15;
    /// First page of the earlier hits.
    hits_page / set_hits_page = 21;
    /// First page of the description.
    description_page / set_description_page = 22;
    /// Bytes of the description.
    description_len / set_description_len = 23;
    /// Number of rules.
    rule_count / set_rule_count = 24;
    /// Number of the extra vector among those of the user classes: the `deny` rules.
    deny_vector / set_deny_vector = 12;
}

/// Header words 16 to 19: the first page of each protocol's port table.
const PORT_TABLES: usize = 16;

impl Header<'_> {
    /// First page of the port table of `protocol`.
    #[inline(always)]
    #[must_use]
    pub const fn port_table(&self, protocol: Protocol) -> u64 {
        self.0.word(PORT_TABLES + protocol as usize)
    }

    /// [`crate::Reason::UnresolvedCgroup`] as its number where a rule names a cgroup, else 0.
    #[inline(always)]
    pub(crate) const fn unresolved_cgroup(&self) -> u32 {
        // The flag's bit is moved to that of the number.
        const SHIFT: u32 = HeaderFlags::CGROUP_RULES.trailing_zeros() - 1;
        (self.flags() >> SHIFT) as u32 & crate::Reason::UnresolvedCgroup as u32
    }

    /// Whether all bits of `flag` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u64) -> bool {
        self.flags() & flag == flag
    }
}

impl Page {
    /// This header as that of the policy of a generation: its number, and the root of its trie.
    #[must_use]
    pub const fn with_generation(mut self, generation: u16) -> Self {
        self.set_generation(generation as u64);
        // The root is the trie's first node.
        self.set_trie_root((generation as u64) << 32);
        self
    }

    /// Sets the first page of the port table of `protocol`, in a header.
    pub const fn set_port_table(&mut self, protocol: Protocol, page: u64) {
        self.words[PORT_TABLES + protocol as usize] = page;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_of_a_generation_has_its_number_and_root() {
        let mut compiled = Page::ZERO;
        compiled.set_abi(u64::from(ABI_VERSION));
        let installed = compiled.with_generation(7);
        let header = Header(&installed);
        assert_eq!((header.generation(), header.trie_root()), (7, 7 << 32));
        assert_eq!(header.abi(), u64::from(ABI_VERSION));
    }
}
