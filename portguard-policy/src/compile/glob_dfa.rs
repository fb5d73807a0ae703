//! The names with `*` of all rules as one automaton over bytes.
//!
//! A name's class is the set of the policy's patterns that it matches. The automaton is the subset
//! construction over the positions in the patterns, so the kernel reads each byte of a name once, however many
//! patterns there are.

use super::error::CompileError;
use portguard_common::{MAX_CGROUP_NAME, NameKey};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Limit of states, whose number can multiply where many names have a `*` in the middle.
const MAX_STATES: usize = 4096;

/// The dead state, which no edge leaves.
const NOWHERE: u32 = u32::MAX;

/// Positions in patterns: (pattern, bytes matched).
type Positions = BTreeSet<(usize, usize)>;

/// The automaton.
#[derive(Default)]
pub(super) struct Globs {
    /// The patterns, each once.
    patterns: Vec<String>,
    numbers: HashMap<String, usize>,
    /// (state, byte) -> state; [`NameKey::ANY`] for all bytes without an edge of their own.
    edges: Vec<(u32, u8, u32)>,
    /// Class of a name that ends in a state.
    ends: Vec<(u32, u32)>,
    /// The patterns that each class matches; class 0 matches none.
    classes: Vec<BTreeSet<usize>>,
}

impl Globs {
    /// Collects a pattern.
    pub(super) fn add(&mut self, pattern: &str) -> usize {
        if let Some(number) = self.numbers.get(pattern) {
            return *number;
        }
        let number = self.patterns.len();
        self.patterns.push(pattern.to_owned());
        self.numbers.insert(pattern.to_owned(), number);
        number
    }

    /// Builds the automaton of all patterns collected.
    ///
    /// # Errors
    /// Where it has more than [`MAX_STATES`] states.
    pub(super) fn build(&mut self) -> Result<(), CompileError> {
        self.classes.push(BTreeSet::new());
        let bytes: BTreeSet<u8> = self.patterns.iter().flat_map(|p| p.bytes()).collect();
        let start = self.closure((0..self.patterns.len()).map(|p| (p, 0)).collect());
        let mut numbers = HashMap::from([(start.clone(), 0u32)]);
        let mut queue = vec![start];
        let mut at = 0;
        while at < queue.len() {
            let positions = queue[at].clone();
            let state = numbers[&positions];
            self.end(state, &positions);
            let other = self.step(&positions, None);
            let edges = bytes.iter().filter(|byte| **byte != b'*').map(|byte| {
                let next = self.step(&positions, Some(*byte));
                (*byte, next)
            });
            let edges: Vec<(u8, Positions)> = edges
                .filter(|(_, next)| *next != other)
                .chain([(NameKey::ANY, other.clone())])
                .collect();
            for (byte, next) in edges {
                // An edge to the dead state is needed only where `ANY` leads elsewhere.
                if next.is_empty() && (byte == NameKey::ANY || other.is_empty()) {
                    continue;
                }
                let fresh = numbers.len() as u32;
                let number = *numbers.entry(next.clone()).or_insert(fresh);
                if number == fresh {
                    queue.push(next);
                }
                self.edges.push((state, byte, number));
            }
            if numbers.len() > MAX_STATES {
                return Err(CompileError::PatternsTooComplex(self.patterns.len()));
            }
            at += 1;
        }
        Ok(())
    }

    /// Records the class of names that end in a state.
    fn end(&mut self, state: u32, positions: &Positions) {
        let matched: BTreeSet<usize> = positions
            .iter()
            .filter(|(pattern, at)| *at == self.patterns[*pattern].len())
            .map(|(pattern, _)| *pattern)
            .collect();
        if matched.is_empty() {
            return;
        }
        let known = self.classes.iter().position(|class| *class == matched);
        let class = known.unwrap_or_else(|| {
            self.classes.push(matched);
            self.classes.len() - 1
        });
        self.ends.push((state, class as u32));
    }

    /// The positions after `byte`; `None` stands for a byte that no pattern has.
    fn step(&self, from: &Positions, byte: Option<u8>) -> Positions {
        let mut next = Positions::new();
        for &(pattern, at) in from {
            match self.patterns[pattern].as_bytes().get(at) {
                Some(b'*') => {
                    next.insert((pattern, at));
                }
                Some(own) if Some(*own) == byte => {
                    next.insert((pattern, at + 1));
                }
                _ => {}
            }
        }
        self.closure(next)
    }

    /// Adds the position after each `*`, which also matches no bytes.
    fn closure(&self, mut positions: Positions) -> Positions {
        let mut open: Vec<(usize, usize)> = positions.iter().copied().collect();
        while let Some((pattern, at)) = open.pop() {
            let star = self.patterns[pattern].as_bytes().get(at) == Some(&b'*');
            if star && positions.insert((pattern, at + 1)) {
                open.push((pattern, at + 1));
            }
        }
        positions
    }

    /// The patterns that a class matches, class by class.
    pub(super) fn classes(&self) -> &[BTreeSet<usize>] {
        &self.classes
    }

    /// Whether a pattern matches a name.
    pub(super) fn matches(&self, pattern: usize, name: &str) -> bool {
        let mut at = self.closure(Positions::from([(pattern, 0)]));
        for byte in name.bytes() {
            at = self.step(&at, Some(byte));
        }
        at.contains(&(pattern, self.patterns[pattern].len()))
    }

    /// Short names of each class, more of them than a policy is likely to name itself.
    pub(super) fn examples(&self) -> Vec<Vec<String>> {
        /// Limit of names to a class, and of paths to a state.
        const NAMES: usize = 16;
        let mut edges: HashMap<u32, Vec<(u8, u32)>> = HashMap::new();
        for (from, byte, next) in &self.edges {
            edges.entry(*from).or_default().push((*byte, *next));
        }
        let ends: HashMap<u32, u32> = self.ends.iter().copied().collect();
        let mut names = vec![Vec::new(); self.classes.len()];
        let mut visits: HashMap<u32, usize> = HashMap::new();
        let mut queue = VecDeque::from([(0u32, Vec::new())]);
        while let Some((state, bytes)) = queue.pop_front() {
            let seen = visits.entry(state).or_default();
            *seen += 1;
            if *seen > NAMES || bytes.len() > MAX_CGROUP_NAME {
                continue;
            }
            let class = ends.get(&state).copied().unwrap_or(0) as usize;
            if let Ok(name) = String::from_utf8(bytes.clone())
                && !matches!(name.as_str(), "" | "." | "..")
            {
                names[class].push(name);
            }
            let none = Vec::new();
            let leaving = edges.get(&state).unwrap_or(&none);
            let own = leaving
                .iter()
                .copied()
                .filter(|(byte, _)| *byte != NameKey::ANY);
            let any = leaving.iter().find(|(byte, _)| *byte == NameKey::ANY);
            // From the dead state on, all names have class 0.
            let others = any.map_or(NOWHERE, |(_, next)| *next);
            let free = (b'a'..=b'z').rev().chain(b'0'..=b'9');
            let free = free.filter(|byte| leaving.iter().all(|(named, _)| named != byte));
            for (byte, next) in own.chain(free.take(2).map(|byte| (byte, others))) {
                let mut longer = bytes.clone();
                longer.push(byte);
                queue.push_back((next, longer));
            }
        }
        names
    }

    /// The entries of the map of names.
    pub(super) fn entries(&self) -> BTreeMap<u64, u32> {
        let key = |state, byte| NameKey::new(0, state, byte).0;
        let edges = self.edges.iter();
        let edges = edges.map(|(state, byte, next)| (key(*state, *byte), *next));
        let ends = self.ends.iter();
        edges
            .chain(ends.map(|(state, class)| (key(*state, NameKey::END), *class)))
            .collect()
    }
}
