//! Writes the memo of a policy: asks `decide_bind` for every outcome that a port can have.
//!
//! What a rule asks of the caller comes from the tables too, so nothing here knows what a rule means: a rule that is in
//! the vectors of all user classes does not ask for the user.

use super::tables::Tables;
use portguard_common::{
    Answer, Entry, GroupRules, Header, HeaderFlags, Kind, Lookup, MEMO_ANSWERS, MEMO_CLASSES, Memo,
    PortClass, Protocol, Request, UserWord, VECTOR_WORDS, VectorWords, WORDS_PER_MASK, decide_bind,
};
use std::collections::{BTreeSet, HashMap};
use zerocopy::FromZeros as _;

impl Tables {
    /// The memo of these tables, under generation 0. `None` where there is no memory for it.
    #[must_use]
    pub fn memo(&self) -> Option<Box<Memo>> {
        let mut memo = Memo::new_box_zeroed().ok()?;
        let header = Header(self.pages.first()?);
        memo.flags = header.flags();
        let mut writer = Writer {
            tables: self,
            header,
            asked: Asked::of(self, &header)?,
            groups: GroupRules::new(self.groupless),
            entries: HashMap::new(),
            answers: 0,
            budget: 4 * MEMO_ANSWERS,
        };
        writer.ports(&mut memo);
        Some(memo)
    }
}

/// Which rules ask for a field, and where the answers of those that ask for the user change.
struct Asked {
    users: Mask,
    cgroups: Mask,
    addresses: Mask,
    groups: Mask,
    /// The `deny` rules, for which owners count.
    denies: Mask,
    /// For each rule the uids from which on it begins or ceases to match.
    cuts: HashMap<usize, Vec<u32>>,
    cgroup_classes: u32,
    address_classes: u32,
}

/// A bit for each rule.
struct Mask([u64; WORDS_PER_MASK]);

impl Mask {
    const fn has(&self, rule: usize) -> bool {
        self.0[rule / 64] >> (rule % 64) & 1 == 1
    }

    /// The rules of a vector.
    fn of(vector: &VectorWords) -> Self {
        let mut mask = Self([0; WORDS_PER_MASK]);
        for (word, of) in mask.0.iter_mut().zip(&vector[1..]) {
            *word = *of;
        }
        mask
    }

    /// The rules that are not in all of these vectors.
    fn not_in_all(vectors: impl Iterator<Item = VectorWords>) -> Self {
        let mut mask = Self([0; WORDS_PER_MASK]);
        for vector in vectors {
            for (word, more) in mask.0.iter_mut().zip(&vector[1..]) {
                *word |= !more;
            }
        }
        mask
    }
}

impl Asked {
    fn of(tables: &Tables, header: &Header<'_>) -> Option<Self> {
        let vectors = |first, classes: &BTreeSet<u32>| {
            let vectors = classes.iter().map(|class| tables.vector(first, *class));
            vectors.collect::<Option<Vec<VectorWords>>>()
        };
        // Class 0 is that of the root, and of addresses that no rule names.
        let cgroups = tables.trie.iter().map(|entry| entry.node.class);
        let cgroups: BTreeSet<u32> = cgroups.chain([0]).collect();
        let addresses = tables.addresses.iter().map(|entry| entry.class);
        let addresses: BTreeSet<u32> = addresses.chain([0]).collect();
        let users = user_words(tables, header);
        let classes: BTreeSet<u32> = users.iter().map(|user| user.class()).collect();
        let next = |classes: &BTreeSet<u32>| classes.last().map_or(0, |last| last + 1);
        Some(Self {
            users: Mask::not_in_all(vectors(header.user_vectors(), &classes)?.into_iter()),
            cgroups: Mask::not_in_all(vectors(header.cgroup_vectors(), &cgroups)?.into_iter()),
            addresses: Mask::not_in_all(vectors(header.address_vectors(), &addresses)?.into_iter()),
            groups: Mask::not_in_all([tables.groupless].into_iter()),
            denies: Mask::of(&tables.vector(header.user_vectors(), header.deny_vector() as u32)?),
            cuts: cuts(tables, header, &users)?,
            cgroup_classes: next(&cgroups),
            address_classes: next(&addresses),
        })
    }

    /// The kind of entry of a port at which these rules match, in their order, and those of them that decide: up
    /// to the first that asks for nothing.
    fn kind(&self, rules: impl Iterator<Item = usize>) -> (Kind, Vec<usize>) {
        let (mut users, mut cgroups, mut addresses, mut groups) = (false, false, false, false);
        let mut deciding = Vec::new();
        for rule in rules {
            deciding.push(rule);
            let asks = [&self.users, &self.cgroups, &self.addresses, &self.groups];
            let [user, cgroup, address, group] = asks.map(|mask| mask.has(rule));
            if !(user || cgroup || address || group) {
                break;
            }
            users |= user;
            cgroups |= cgroup;
            addresses |= address;
            groups |= group;
        }
        let kind = match (users, cgroups, addresses, groups) {
            (false, false, false, false) => Kind::Alone,
            (true, false, false, false) => Kind::ByUser,
            (false, true, false, false) => Kind::ByCgroup,
            (false, false, true, false) => Kind::ByAddress,
            _ => Kind::General,
        };
        (kind, deciding)
    }
}

/// The words of the user pages that are in use.
fn user_words(tables: &Tables, header: &Header<'_>) -> Vec<UserWord> {
    let first = header.user_pages() as usize;
    let pages = tables.pages.iter().skip(first);
    let pages = pages.take(header.user_page_count() as usize);
    let words = pages.flat_map(|page| (0..portguard_common::PAGE_WORDS).map(|at| page.word(at)));
    words
        .map(UserWord)
        .filter(|word| *word != UserWord::UNUSED)
        .collect()
}

/// For each rule that asks for the user, the uids at which it begins or ceases to match.
fn cuts(
    tables: &Tables,
    header: &Header<'_>,
    users: &[UserWord],
) -> Option<HashMap<usize, Vec<u32>>> {
    let mut cuts: HashMap<usize, Vec<u32>> = HashMap::new();
    let mut before = [0; VECTOR_WORDS];
    for (number, user) in users.iter().enumerate() {
        let vector = tables.vector(header.user_vectors(), user.class())?;
        let changed = before.iter().zip(&vector).map(|(one, other)| one ^ other);
        if number > 0 {
            for rule in bits(changed.skip(1)) {
                cuts.entry(rule).or_default().push(user.start());
            }
        }
        before = vector;
    }
    Some(cuts)
}

/// The numbers of the bits that are set.
fn bits(words: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    words.enumerate().flat_map(|(at, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            word &= word.checked_sub(1)?;
            Some(at * 64 + bit)
        })
    })
}

/// A caller and an address of these classes.
struct Witness<'a> {
    cgroup: u32,
    address: u32,
    groups: &'a GroupRules,
}

impl Lookup for Witness<'_> {
    fn cgroup_class(&self) -> u32 {
        self.cgroup
    }

    fn address_classes(&self) -> (u32, u32) {
        (self.address, self.address)
    }

    fn has_owners(&self) -> bool {
        false
    }

    fn group_rules(&self) -> Option<&GroupRules> {
        Some(self.groups)
    }
}

struct Writer<'a> {
    tables: &'a Tables,
    header: Header<'a>,
    asked: Asked,
    groups: GroupRules,
    /// The entries of the classes of the image.
    entries: HashMap<u32, Entry>,
    /// Answers that are written.
    answers: usize,
    /// Answers that may still be asked for: those for which there is no room cost time too.
    budget: usize,
}

impl Writer<'_> {
    /// Writes the classes of all ports, and their entries.
    fn ports(&mut self, memo: &mut Memo) {
        // Ports whose classes in the image are the same for each protocol.
        let mut classes: HashMap<[u32; 4], PortClass> = HashMap::new();
        let mut next = 1;
        for port in 0..=u16::MAX {
            let image = Protocol::ALL.map(|protocol| self.image_class(protocol, port));
            // Every protocol protects the same ports.
            if image[0] == 0 {
                continue;
            }
            let class = match classes.get(&image) {
                Some(known) => *known,
                None => {
                    let class = self.class(memo, port, image, next);
                    next += 1;
                    classes.insert(image, class);
                    class
                }
            };
            memo.ports[usize::from(port)] = class.0;
        }
        let general = PortClass::GENERAL;
        for protocol in Protocol::ALL {
            *entry_of(memo, general, protocol) = Entry::GENERAL.0;
        }
    }

    fn image_class(&self, protocol: Protocol, port: u16) -> u32 {
        let table = self.header.port_table(protocol) as usize;
        let page = table + usize::from(port) / portguard_common::PORTS_PER_PAGE;
        let page = self.tables.pages.get(page);
        page.map_or(0, |page| page.port_class(port))
    }

    /// Writes the entries of a port under the next number of a class.
    fn class(&mut self, memo: &mut Memo, port: u16, image: [u32; 4], next: usize) -> PortClass {
        if next >= MEMO_CLASSES - 1 {
            return PortClass::new(PortClass::GENERAL.0, true);
        }
        let mut acts = false;
        let class = PortClass(next as u16);
        for (protocol, image) in Protocol::ALL.into_iter().zip(image) {
            let entry = match self.entries.get(&image) {
                Some(known) => *known,
                None => {
                    let entry = self.entry(memo, port, protocol, image);
                    // There was no room, or a table could not be read.
                    let entry = entry.unwrap_or(Entry::GENERAL);
                    self.entries.insert(image, entry);
                    entry
                }
            };
            acts |= entry.acts();
            *entry_of(memo, class, protocol) = entry.0;
        }
        PortClass::new(class.0, acts)
    }

    /// Writes what can be decided of a port that has this class in the image.
    fn entry(
        &mut self,
        memo: &mut Memo,
        port: u16,
        protocol: Protocol,
        image: u32,
    ) -> Option<Entry> {
        let vector = self.tables.vector(self.header.port_vectors(), image)?;
        let (kind, deciding) = self.asked.kind(bits(vector.into_iter().skip(1)));
        let bind = |uid| Request {
            port,
            protocol,
            uid,
            euid: uid,
        };
        match kind {
            Kind::General => Some(Entry::GENERAL),
            Kind::Alone => Some(Entry::alone(self.ask(&bind(0), 0, 0)?)),
            Kind::ByUser => {
                let cuts = deciding.iter().filter_map(|rule| self.asked.cuts.get(rule));
                let mut starts: Vec<u32> = cuts.flatten().copied().chain([0]).collect();
                starts.sort_unstable();
                starts.dedup();
                self.budget = self.budget.checked_sub(starts.len())?;
                let mut answers = Vec::with_capacity(starts.len());
                for start in starts {
                    answers.push((start, self.ask(&bind(start), 0, 0)?));
                }
                answers.dedup_by_key(|(_, answer)| *answer);
                let entry = self.by_user(memo, &answers)?;
                let asks_owner =
                    |rule: &usize| self.asked.users.has(*rule) && self.asked.denies.has(*rule);
                Some(if deciding.iter().any(asks_owner) {
                    entry.asking_owners()
                } else {
                    entry
                })
            }
            Kind::ByCgroup => {
                let count = self.asked.cgroup_classes;
                self.by_class(memo, kind, count, |writer, class| {
                    writer.ask(&bind(0), class, 0)
                })
            }
            Kind::ByAddress => {
                let count = self.asked.address_classes;
                self.by_class(memo, kind, count, |writer, class| {
                    writer.ask(&bind(0), 0, class)
                })
            }
        }
    }

    /// What `decide_bind` says of a bind.
    fn ask(&self, bind: &Request, cgroup: u32, address: u32) -> Option<Answer> {
        let image = self.tables.pages.as_slice();
        let witness = Witness {
            cgroup,
            address,
            groups: &self.groups,
        };
        let decision = decide_bind(image, &self.header, bind, &witness)?;
        let enforced = self.header.has(HeaderFlags::ENFORCE);
        Some(Answer::new(decision.word(), decision.rule, enforced))
    }

    /// Writes answers that hold from a uid on.
    fn by_user(&mut self, memo: &mut Memo, answers: &[(u32, Answer)]) -> Option<Entry> {
        // A search halves.
        let size = answers.len().next_power_of_two();
        let first = self.room(size)?;
        for at in 0..size {
            // The rest begins at `(uid_t)-1`, which is no one's.
            let known = answers.get(at);
            memo.starts[first + at] = known.map_or(u32::MAX, |(start, _)| *start);
            memo.answers[first + at] = known.map_or(0, |(_, answer)| answer.0);
        }
        let acts = answers.iter().any(|(_, answer)| answer.acts());
        let steps = size.trailing_zeros();
        Some(Entry::of_answers(Kind::ByUser, acts, first as u16, steps))
    }

    /// Writes the answers of this many classes.
    fn by_class(
        &mut self,
        memo: &mut Memo,
        kind: Kind,
        classes: u32,
        ask: impl Fn(&Self, u32) -> Option<Answer>,
    ) -> Option<Entry> {
        let first = self.room(classes as usize)?;
        let mut acts = false;
        for class in 0..classes {
            let answer = ask(self, class)?;
            acts |= answer.acts();
            memo.answers[first + class as usize] = answer.0;
        }
        Some(Entry::of_answers(kind, acts, first as u16, 0))
    }

    /// Takes room for this many answers.
    fn room(&mut self, size: usize) -> Option<usize> {
        let first = self.answers;
        let end = first.checked_add(size)?;
        if end > MEMO_ANSWERS {
            return None;
        }
        self.answers = end;
        Some(first)
    }
}

fn entry_of(memo: &mut Memo, class: PortClass, protocol: Protocol) -> &mut u32 {
    let at = usize::from(class.0) * Protocol::ALL.len() + protocol as usize;
    &mut memo.entries[at % (MEMO_CLASSES * Protocol::ALL.len())]
}
