//! The cgroup paths of all rules as one trie, each node with the rules that hold there and below.

use super::classes::{Classes, RuleSet};
use super::{CompileError, TrieEntry};
use crate::policy::Rule;
use portguard_common::{TrieKey, TrieNode};
use std::collections::{BTreeMap, VecDeque};

/// Nodes that a trie may have: two generations fit the map.
pub(super) const MAX_NODES: usize = 1 << 16;

/// The trie, numbered.
pub(super) struct Cgroups {
    pub(super) entries: Vec<TrieEntry>,
    pub(super) root: u64,
    /// Class 0 is that of the root: of every cgroup that no rule names.
    pub(super) classes: Classes,
}

/// A node while the trie is built.
#[derive(Default)]
struct Node {
    children: BTreeMap<String, usize>,
    rules: Vec<usize>,
}

/// Builds the trie of `rules`; its node numbers carry the generation, so that no two policies share one.
///
/// # Errors
/// Where the trie has more than [`MAX_NODES`] nodes or too many classes.
pub(super) fn build(rules: &[Rule], generation: u16) -> Result<Cgroups, CompileError> {
    let nodes = insert_paths(rules);
    if nodes.len() > MAX_NODES {
        return Err(CompileError::TooManyCgroups(nodes.len()));
    }
    let root = u64::from(generation) << 32;
    let mut everywhere = RuleSet::empty();
    for (i, rule) in rules.iter().enumerate() {
        if rule.cgroups.is_none() {
            everywhere.insert(i);
        }
    }
    let mut classes = Classes::new();
    let mut entries = Vec::new();
    let mut queue = VecDeque::from([(0, everywhere)]);
    while let Some((at, inherited)) = queue.pop_front() {
        let mut set = inherited;
        for rule in &nodes[at].rules {
            set.insert(*rule);
        }
        if at == 0 {
            classes.number(&set);
        }
        for (name, child) in &nodes[at].children {
            let mut below = set.clone();
            for rule in &nodes[*child].rules {
                below.insert(*rule);
            }
            let class = classes.number(&below) as u64;
            // The policy's paths have no name that is too long: see `CgroupPath`.
            let Some(key) = TrieKey::new(root + at as u64, name.as_bytes()) else {
                continue;
            };
            let node = root + *child as u64;
            entries.push(TrieEntry {
                key,
                node: TrieNode { node, class },
            });
            queue.push_back((*child, set.clone()));
        }
    }
    classes.check("cgroups")?;
    Ok(Cgroups {
        entries,
        root,
        classes,
    })
}

fn insert_paths(rules: &[Rule]) -> Vec<Node> {
    let mut nodes = vec![Node::default()];
    for (i, rule) in rules.iter().enumerate() {
        for path in rule.cgroups.iter().flatten() {
            let mut at = 0;
            for name in &path.0 {
                let fresh = nodes.len();
                at = *nodes[at].children.entry(name.clone()).or_insert(fresh);
                if at == fresh {
                    nodes.push(Node::default());
                }
            }
            nodes[at].rules.push(i);
        }
    }
    nodes
}
