//! The cgroup and unit patterns of all rules as one automaton over the components of a path.
//!
//! Subset construction, as in `glob_dfa`, but over components instead of bytes: a node is a set of positions in
//! patterns, with the rules that match there. A pattern also matches everything below what it names, so a rule
//! that matches at a node matches at all nodes after it.

use super::classes::{Classes, RuleSet};
use super::error::CompileError;
use super::glob_dfa::Globs;
use super::tables::{NameEntry, TrieEntry};
use crate::policy::{CgroupPattern, Component, Rule, UnitPattern};
use portguard_common::{NameKey, TrieKey, TrieNode};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The trie and its classes.
pub(super) struct Cgroups {
    pub(super) entries: Vec<TrieEntry>,
    pub(super) names: Vec<NameEntry>,
    pub(super) root_flags: u32,
    /// Class 0 is the root's: the class of every cgroup that no rule names.
    pub(super) classes: Classes,
    /// The class of a path that cannot be resolved.
    pub(super) unresolved: usize,
    /// The names with `*`.
    pub(super) globs: Globs,
}

/// One step of a pattern.
#[derive(Clone)]
enum Step {
    /// A level of this name.
    Name(String),
    /// A level whose name matches this glob.
    Glob(usize),
    /// Any number of levels whose names match this glob.
    Levels(usize),
    /// Any number of levels.
    AnyLevels,
}

/// A pattern of a rule's `cgroups` or `units`. Where a rule has both, one pattern of each must match.
struct Pattern {
    rule: usize,
    unit: bool,
    steps: Vec<Step>,
}

/// A set of positions, and the fields matched so far.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// (pattern, steps matched), of patterns that are not complete.
    positions: BTreeSet<(usize, usize)>,
    /// Rules whose `cgroups` are matched.
    cgroups: BTreeSet<usize>,
    /// Rules whose `units` are matched.
    units: BTreeSet<usize>,
}

struct Builder<'a> {
    rules: &'a [Rule],
    patterns: Vec<Pattern>,
    globs: Globs,
    /// Rules that name neither cgroups nor units.
    everywhere: RuleSet,
    classes: Classes,
}

/// Builds the automaton of `rules`. Nodes are numbered from 0, the root.
///
/// # Errors
/// Where it has more than `limit` edges or too many classes, or the names with `*` are too complex.
pub(super) fn build(rules: &[Rule], limit: usize) -> Result<Cgroups, CompileError> {
    let mut builder = Builder::new(rules);
    builder.globs.build()?;
    let start = builder.start();
    builder.class(&start);
    let unresolved = builder.classes.number(&builder.unresolved());
    let mut numbers = HashMap::from([(start.clone(), 0u64)]);
    let mut queue = vec![start];
    let (mut entries, mut root_flags, mut at) = (Vec::new(), 0, 0);
    while at < queue.len() {
        let state = queue[at].clone();
        let edges = builder.edges(&state);
        if at == 0 {
            root_flags = builder.flags(&state);
        }
        for (edge, next) in edges {
            let fresh = numbers.len() as u64;
            let number = *numbers.entry(next.clone()).or_insert(fresh);
            let key = match edge {
                Edge::Name(name) => TrieKey::new(at as u64, name.as_bytes()),
                Edge::Class(class) => Some(TrieKey::of_class(at as u64, class)),
            };
            let node = TrieNode {
                node: number,
                class: builder.class(&next) as u32,
                flags: builder.flags(&next),
            };
            // No pattern of a policy has a name that is too long: see `Component`.
            entries.extend(key.map(|key| TrieEntry { key, node }));
            if number == fresh {
                queue.push(next);
            }
            if entries.len() > limit {
                return Err(CompileError::TooManyCgroups(entries.len()));
            }
        }
        at += 1;
    }
    builder.classes.check("cgroups")?;
    let names = builder.globs.entries().into_iter();
    Ok(Cgroups {
        entries,
        names: names.map(|(key, next)| (NameKey(key), next)).collect(),
        root_flags,
        classes: builder.classes,
        unresolved,
        globs: builder.globs,
    })
}

/// What an edge matches.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Name(String),
    Class(u32),
}

impl<'a> Builder<'a> {
    fn new(rules: &'a [Rule]) -> Self {
        let mut builder = Self {
            rules,
            patterns: Vec::new(),
            globs: Globs::default(),
            everywhere: RuleSet::empty(rules.len()),
            classes: Classes::new(),
        };
        for (i, rule) in rules.iter().enumerate() {
            if rule.cgroups.is_none() && rule.units.is_none() {
                builder.everywhere.insert(i);
            }
            for pattern in rule.cgroups.iter().flatten() {
                builder.cgroup(i, pattern);
            }
            for pattern in rule.units.iter().flatten() {
                builder.unit(i, pattern);
            }
        }
        builder
    }

    fn name(&mut self, name: &str) -> Step {
        if name.contains('*') {
            Step::Glob(self.globs.add(name))
        } else {
            Step::Name(name.to_owned())
        }
    }

    fn cgroup(&mut self, rule: usize, pattern: &CgroupPattern) {
        let steps = pattern.0.iter().map(|component| match component {
            Component::AnyDepth => Step::AnyLevels,
            Component::Name(name) => self.name(name),
        });
        let steps = steps.collect();
        let unit = false;
        self.patterns.push(Pattern { rule, unit, steps });
    }

    fn unit(&mut self, rule: usize, pattern: &UnitPattern) {
        let slices = Step::Levels(self.globs.add("*.slice"));
        let steps = vec![slices, self.name(&pattern.0)];
        let unit = true;
        self.patterns.push(Pattern { rule, unit, steps });
    }

    fn start(&self) -> State {
        let mut state = State {
            positions: BTreeSet::new(),
            cgroups: BTreeSet::new(),
            units: BTreeSet::new(),
        };
        for pattern in 0..self.patterns.len() {
            self.reach(&mut state, pattern, 0);
        }
        self.settle(&mut state);
        state
    }

    /// Adds a position, and the next ones that can match no level at all.
    fn reach(&self, state: &mut State, pattern: usize, at: usize) {
        let known = &self.patterns[pattern];
        match known.steps.get(at) {
            None if known.unit => {
                state.units.insert(known.rule);
            }
            None => {
                state.cgroups.insert(known.rule);
            }
            Some(step) => {
                state.positions.insert((pattern, at));
                if matches!(step, Step::Levels(_) | Step::AnyLevels) {
                    self.reach(state, pattern, at + 1);
                }
            }
        }
    }

    /// Drops positions of patterns whose field is matched already: they add nothing.
    fn settle(&self, state: &mut State) {
        let State {
            positions,
            cgroups,
            units,
        } = state;
        positions.retain(|(pattern, _)| {
            let pattern = &self.patterns[*pattern];
            let done = if pattern.unit { &*units } else { &*cgroups };
            !done.contains(&pattern.rule)
        });
    }

    /// The state one level below `state`, for the name `named` where an edge has one, and the globs it matches.
    fn step(&self, state: &State, named: Option<&str>, globs: &dyn Fn(usize) -> bool) -> State {
        let mut next = State {
            positions: BTreeSet::new(),
            ..state.clone()
        };
        for &(pattern, at) in &state.positions {
            match &self.patterns[pattern].steps[at] {
                Step::Name(name) if Some(name.as_str()) == named => {
                    self.reach(&mut next, pattern, at + 1);
                }
                Step::Glob(glob) if globs(*glob) => self.reach(&mut next, pattern, at + 1),
                Step::Levels(glob) if globs(*glob) => self.reach(&mut next, pattern, at),
                Step::AnyLevels => self.reach(&mut next, pattern, at),
                _ => {}
            }
        }
        self.settle(&mut next);
        next
    }

    /// The edges that leave a state, without those that change nothing.
    fn edges(&self, state: &State) -> BTreeMap<Edge, State> {
        let mut edges = BTreeMap::new();
        if self.has_class_edges(state) {
            for (number, class) in self.globs.classes().iter().enumerate() {
                let next = self.step(state, None, &|glob| class.contains(&glob));
                if self.differs(state, &next) {
                    edges.insert(Edge::Class(number as u32), next);
                }
            }
        }
        let steps = state.positions.iter();
        let steps = steps.map(|(pattern, at)| &self.patterns[*pattern].steps[*at]);
        let names: BTreeSet<&String> = steps
            .filter_map(|step| match step {
                Step::Name(name) => Some(name),
                _ => None,
            })
            .collect();
        for name in names {
            let globs = |glob| self.globs.matches(glob, name);
            let next = self.step(state, Some(name), &globs);
            edges.insert(Edge::Name(name.clone()), next);
        }
        edges
    }

    /// Whether a path that continues to `next` can have another class than one that ends in `state`.
    fn differs(&self, state: &State, next: &State) -> bool {
        !next.positions.is_empty() || state.cgroups != next.cgroups || state.units != next.units
    }

    fn has_class_edges(&self, state: &State) -> bool {
        let mut positions = state.positions.iter();
        positions.any(|(pattern, at)| !matches!(self.patterns[*pattern].steps[*at], Step::Name(_)))
    }

    fn flags(&self, state: &State) -> u32 {
        let mut flags = 0;
        if !state.positions.is_empty() {
            flags |= TrieNode::OPEN;
        }
        if self.has_class_edges(state) {
            flags |= TrieNode::BY_CLASS;
        }
        flags
    }

    /// The class of a state: the rules that match there.
    fn class(&mut self, state: &State) -> usize {
        let mut set = self.everywhere.clone();
        for rule in state.cgroups.union(&state.units) {
            let rules = &self.rules[*rule];
            let cgroup = rules.cgroups.is_none() || state.cgroups.contains(rule);
            let unit = rules.units.is_none() || state.units.contains(rule);
            if cgroup && unit {
                set.insert(*rule);
            }
        }
        self.classes.number(&set)
    }

    /// The rules that count where the path is unknown: enforced denials that could match, and rules that match
    /// any path.
    fn unresolved(&self) -> RuleSet {
        self.everywhere.clone().and_denials(self.rules)
    }
}
