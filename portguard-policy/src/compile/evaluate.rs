//! Decisions in userspace: the tables and the `decide_bind` of the kernel, with lookups that mirror its maps.

use super::bind::Bind;
use super::lpm;
use super::tables::{GroupEntry, Tables, edges_of};
use portguard_common::{
    AddressKey, Answer, CLASSES_PER_PAGE, Decision, GroupKey, GroupRules, Header, HeaderFlags,
    Image, Kind, Lookup, MAX_CGROUP_DEPTH, Memo, NameKey, Page, Request, TrieKey, TrieNode,
    UNRESOLVED_CLASS, VECTOR_WORDS, VectorWords, decide_bind, deny_vector, is_protected,
    user_vector,
};
use std::net::{IpAddr, Ipv4Addr};

/// What a memo says of a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The port is not protected.
    Unprotected,
    /// The decision.
    Answer(Answer),
    /// Nothing: it depends on more than the memo knows.
    Nothing,
}

/// The caller and the address of a bind, looked up in the tables.
struct Caller<'a> {
    tables: &'a Tables,
    header: &'a Header<'a>,
    bind: &'a Bind<'a>,
    groups: GroupRules,
}

impl Tables {
    /// The rules that the groups of a caller leave, and those that its owners add.
    fn group_rules(&self, header: &Header<'_>, bind: &Bind<'_>) -> Option<GroupRules> {
        let image = self.pages.as_slice();
        let mut rules = GroupRules::new(self.rules_of_groups(bind.gids));
        let denies = deny_vector(image, header)?;
        if let Some(differing) = bind.setgid {
            let real = self.rules_of_gid(differing.gid);
            let effective = self.rules_of_gid(differing.egid);
            rules.add_denies_of_gid(denies, &real);
            rules.add_denies_of_gid(denies, &effective);
            rules.add_rules_of_both_gids(&real, &effective);
        }
        for owner in bind.owners {
            rules.add_owner_uid(denies, user_vector(image, header, owner.uid)?);
            if let Some(gid) = owner.gid {
                rules.add_denies_of_gid(denies, &self.rules_of_gid(gid));
            }
        }
        Some(rules)
    }
}

impl Lookup for Caller<'_> {
    fn cgroup_class(&self) -> u32 {
        self.tables.cgroup_class(self.header, self.bind.cgroup)
    }

    fn address_classes(&self) -> (u32, u32) {
        self.tables
            .address_classes(self.bind.address, self.bind.dual_stack)
    }

    fn has_owners(&self) -> bool {
        !self.bind.owners.is_empty() && self.header.has(HeaderFlags::OWNER_RULES)
    }

    fn group_rules(&self) -> Option<&GroupRules> {
        Some(&self.groups)
    }
}

impl Tables {
    /// Decides a bind with the code that the kernel runs; `None` where the port is not protected.
    #[must_use]
    pub fn decide(&self, bind: &Bind<'_>) -> Option<Decision> {
        let image = self.pages.as_slice();
        if !is_protected(image, bind.port) {
            return None;
        }
        let header = Header(image.page(0)?);
        let request = Request {
            port: bind.port,
            protocol: bind.protocol,
            uid: bind.uid,
            euid: bind.euid,
        };
        let caller = Caller {
            tables: self,
            header: &header,
            bind,
            groups: self.group_rules(&header, bind)?,
        };
        decide_bind(image, &header, &request, &caller)
    }

    /// Looks a bind up in the memo of these tables, as the programs do.
    #[must_use]
    pub fn remembered(&self, memo: &Memo, bind: &Bind<'_>) -> Remembered {
        let class = memo.class::<[Page]>(bind.port);
        if !class.is_protected() {
            return Remembered::Unprotected;
        }
        let Some(header) = self.pages.first().map(Header) else {
            return Remembered::Nothing;
        };
        let entry = memo.entry::<[Page]>(class, bind.protocol);
        if entry.is(Kind::Alone) {
            return Remembered::Answer(entry.answer());
        }
        let owned = entry.asks_owners() && !bind.owners.is_empty();
        if entry.is(Kind::ByUser) && bind.uid == bind.euid && !owned {
            return Remembered::Answer(memo.answer_for_user::<[Page]>(entry, bind.uid.into()));
        }
        let class = if entry.is(Kind::ByCgroup) {
            self.cgroup_class(&header, bind.cgroup)
        } else if entry.is(Kind::ByAddress) {
            match self.address_classes(bind.address, bind.dual_stack) {
                (one, other) if one == other => one,
                _ => return Remembered::Nothing,
            }
        } else {
            return Remembered::Nothing;
        };
        if class == UNRESOLVED_CLASS {
            return Remembered::Nothing;
        }
        Remembered::Answer(memo.answer_for_class::<[Page]>(entry, class))
    }

    /// The rules that match a cgroup; where its path is too deep to be resolved, those that count then.
    pub(crate) fn rules_of_cgroup(&self, path: &[&str]) -> Option<VectorWords> {
        let header = Header(self.pages.as_slice().page(0)?);
        let class = match self.cgroup_class(&header, path) {
            UNRESOLVED_CLASS => header.unresolved_class() as u32,
            class => class,
        };
        self.vector(header.cgroup_vectors(), class)
    }

    /// The rules that match each of the two addresses of a bind, which are mostly the same.
    pub(crate) fn rules_of_address(
        &self,
        address: IpAddr,
        dual_stack: bool,
    ) -> Option<[VectorWords; 2]> {
        let header = Header(self.pages.as_slice().page(0)?);
        let (one, other) = self.address_classes(address, dual_stack);
        let first = header.address_vectors();
        Some([self.vector(first, one)?, self.vector(first, other)?])
    }

    pub(super) fn vector(&self, first_page: u64, class: u32) -> Option<VectorWords> {
        let page = first_page as u32 + class / CLASSES_PER_PAGE;
        let page = self.pages.as_slice().page(page)?;
        let start = (class % CLASSES_PER_PAGE) as usize * VECTOR_WORDS;
        let mut words = [0; VECTOR_WORDS];
        for (i, word) in words.iter_mut().enumerate() {
            *word = page.word(start + i);
        }
        Some(words)
    }

    /// The class of a cgroup; [`UNRESOLVED_CLASS`] where the kernel does not walk deep enough to tell.
    fn cgroup_class(&self, header: &Header<'_>, path: &[&str]) -> u32 {
        let mut at = TrieNode {
            node: header.trie_root(),
            class: 0,
            flags: header.trie_root_flags() as u32,
        };
        for name in path.iter().take(MAX_CGROUP_DEPTH) {
            let Some(next) = self.child(at, name) else {
                return at.class;
            };
            at = next;
        }
        if path.len() > MAX_CGROUP_DEPTH && at.flags & TrieNode::OPEN != 0 {
            return UNRESOLVED_CLASS;
        }
        at.class
    }

    fn child(&self, at: TrieNode, name: &str) -> Option<TrieNode> {
        let named = self.edge(&TrieKey::new(at.node, name.as_bytes())?);
        if named.is_some() || at.flags & TrieNode::BY_CLASS == 0 {
            return named;
        }
        self.edge(&TrieKey::of_class(at.node, self.name_class(name)))
    }

    fn edge(&self, key: &TrieKey) -> Option<TrieNode> {
        // The edges by name come first, in order.
        let edges = edges_of(&self.trie, key.parent);
        let named = edges.partition_point(|entry| entry.key.name[0] != 0);
        let (named, by_class) = edges.split_at(named);
        if key.name[0] == 0 {
            let mut by_class = by_class.iter();
            return by_class
                .find(|entry| entry.key.name == key.name)
                .map(|entry| entry.node);
        }
        let at = named.binary_search_by(|entry| entry.key.name.cmp(&key.name));
        at.ok().map(|at| named[at].node)
    }

    fn name_class(&self, name: &str) -> u32 {
        let mut state = 0;
        for byte in name.bytes() {
            let next = self.name_edge(state, byte);
            match next.or_else(|| self.name_edge(state, NameKey::ANY)) {
                Some(next) => state = next,
                None => return 0,
            }
        }
        self.name_edge(state, NameKey::END).unwrap_or(0)
    }

    fn name_edge(&self, state: u32, byte: u8) -> Option<u32> {
        let key = NameKey::new(0, state, byte).0;
        let at = self.names.binary_search_by_key(&key, |entry| entry.0.0);
        at.ok().map(|at| self.names[at].1)
    }

    fn address_classes(&self, address: IpAddr, dual_stack: bool) -> (u32, u32) {
        let key = lpm::key(address);
        let class = self.address_class(&key);
        if dual_stack && address.is_ipv6() && key.is_wildcard() {
            let inet6 = key.space == AddressKey::space(0, true);
            if inet6 {
                let any = lpm::key(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                return (class, self.address_class(&any));
            }
        }
        (class, class)
    }

    fn address_class(&self, key: &AddressKey) -> u32 {
        let bytes = |key: &AddressKey| u128::from_be_bytes(zerocopy::transmute!(key.address));
        let same = |known: &AddressKey, bits: u32| {
            let shift = AddressKey::BITS - bits;
            known.space == key.space
                && bytes(known).checked_shr(shift).unwrap_or(0)
                    == bytes(key).checked_shr(shift).unwrap_or(0)
        };
        let fitting = self.addresses.iter();
        let fitting = fitting.filter(|entry| same(&entry.key, entry.prefix));
        fitting
            .max_by_key(|entry| entry.prefix)
            .map_or(0, |entry| entry.class)
    }

    /// The rules that name no group, or one of these.
    fn rules_of_groups(&self, gids: &[u32]) -> VectorWords {
        let mut rules = self.groupless;
        for gid in gids {
            for (word, more) in rules.iter_mut().zip(self.rules_of_gid(*gid)) {
                *word |= more;
            }
        }
        rules
    }

    /// The rules that name a group.
    fn rules_of_gid(&self, gid: u32) -> VectorWords {
        let holds = |entry: &&GroupEntry| {
            let shift = GroupKey::BITS - entry.prefix;
            let first = u32::from_be(entry.key.gid);
            first.checked_shr(shift).unwrap_or(0) == gid.checked_shr(shift).unwrap_or(0)
        };
        // The blocks of the table do not overlap.
        let named = self.groups.iter().find(holds);
        named.map_or([0; VECTOR_WORDS], |entry| entry.rules)
    }
}
