//! Circles among the nodes of each folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An import: code in one file names an item of another.
pub(crate) struct Arrow {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    /// The path as written.
    pub(crate) path: String,
}

/// The nodes of a folder that each node has arrows to, with a path for each arrow.
type Folder = BTreeMap<String, BTreeMap<String, String>>;

/// The files of modules that have others below them.
const PARENTS: [&str; 3] = ["mod.rs", "lib.rs", "main.rs"];

/// A circle of each set of nodes that have one; without parents, only of siblings.
pub(crate) fn circles(arrows: &[Arrow], parents: bool) -> Vec<String> {
    let mut folders: BTreeMap<PathBuf, Folder> = BTreeMap::new();
    for arrow in arrows {
        let (folder, from, to) = in_common_folder(&arrow.from, &arrow.to);
        let is_parent = |node: &String| PARENTS.contains(&node.as_str());
        if !parents && (is_parent(&from) || is_parent(&to)) {
            continue;
        }
        let nodes = folders.entry(folder).or_default();
        let to = nodes.entry(from).or_default().entry(to);
        to.or_insert_with(|| arrow.path.clone());
    }
    let mut circles = Vec::new();
    for (folder, nodes) in &folders {
        let mut seen = BTreeSet::new();
        for start in nodes.keys() {
            if seen.contains(start) {
                continue;
            }
            let Some(circle) = shortest_circle(nodes, start) else {
                continue;
            };
            seen.extend(circle.iter().cloned());
            circles.push(described(folder, nodes, &circle));
        }
    }
    circles
}

/// The deepest folder that has both files, and the node of each in it.
fn in_common_folder(from: &Path, to: &Path) -> (PathBuf, String, String) {
    let parts = |path: &Path| -> Vec<String> {
        let parts = path.components();
        parts
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect()
    };
    let (from, to) = (parts(from), parts(to));
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let node = |path: &[String]| path.get(same).cloned().unwrap_or_default();
    (from[..same].iter().collect(), node(&from), node(&to))
}

/// The nodes of a shortest circle through a node, which is first and last.
fn shortest_circle(nodes: &Folder, start: &str) -> Option<Vec<String>> {
    let mut queue = std::collections::VecDeque::from([vec![start.to_owned()]]);
    let mut visited = BTreeSet::new();
    while let Some(path) = queue.pop_front() {
        let to = path.last().and_then(|last| nodes.get(last))?.keys();
        for next in to {
            let mut longer = path.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if nodes.contains_key(next) && visited.insert(next.clone()) {
                queue.push_back(longer);
            }
        }
    }
    None
}

fn described(folder: &Path, nodes: &Folder, circle: &[String]) -> String {
    let paths = circle
        .windows(2)
        .filter_map(|pair| nodes.get(&pair[0])?.get(&pair[1]));
    let paths: Vec<&str> = paths.map(String::as_str).collect();
    let prefix = if folder.as_os_str().is_empty() {
        String::new()
    } else {
        format!("{}/", folder.display())
    };
    format!("{prefix}{} ({})", circle.join(" -> "), paths.join("; "))
}
