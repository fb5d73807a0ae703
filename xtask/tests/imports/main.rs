//! No circle of imports between the files of a folder, in any of our crates.
//!
//! Each file of a folder is a node, and so is each sub-folder as a whole. There is an arrow from A to B where code in A
//! names an item that is defined in B: by `use`, or by a path that begins with `crate::`, `super::`, `self::` or a
//! child module. Not arrows are:
//!
//! - `mod x;` and `pub use x::Item;` of a parent: they arrange its children. A path through a re-export is an
//!   arrow to the file that defines the item.
//! - code below `#[cfg(test)]`.
//!
//! Siblings must have no circle in any crate. A parent that uses its children while they use what it defines is a
//! circle too, but a common pattern (a table of tests that lists those of its children), so only the crates in
//! `STRICT` are checked for it.
#![expect(
    clippy::expect_used,
    reason = "a test ends where its files cannot be written"
)]

mod graph;
mod source;
mod tree;

use std::path::Path;
use tree::Tree;

/// Our crates and the files that are roots of their modules.
const CRATES: &[(&str, &[&str])] = &[
    ("portguard-common", &["lib.rs"]),
    ("portguard-ebpf", &["main.rs"]),
    ("portguard-policy", &["lib.rs"]),
    ("portguard", &["lib.rs", "main.rs", "bin/portguardd.rs"]),
    ("itest", &["lib.rs", "main.rs"]),
    ("xtask", &["main.rs"]),
];

/// The crates in which parents and children form no circle either.
const STRICT: &[&str] = &["portguard-common", "portguard-ebpf", "xtask"];

/// The circles in a crate.
fn circles(source: &Path, roots: &[&str], parents: bool) -> Vec<String> {
    let trees = roots.iter().map(|root| Tree::read(source, root));
    let circles = trees.flat_map(|tree| graph::circles(&tree.arrows(), parents));
    circles.collect()
}

#[test]
fn crates_have_no_circle_of_imports() {
    let mut found = Vec::new();
    for (name, roots) in CRATES {
        // cargo runs tests in the directory of their package.
        let source = Path::new("..").join(name).join("src");
        let circles = circles(&source, roots, STRICT.contains(name)).into_iter();
        found.extend(circles.map(|circle| format!("{name}/src/{circle}")));
    }
    assert!(
        found.is_empty(),
        "circles of imports; move what both sides use into a file of its own:\n{}",
        found.join("\n")
    );
}

/// A crate of these files.
fn crate_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, text).expect("a file");
    }
    directory
}

#[test]
fn circle_of_siblings_is_found() {
    let source = crate_of(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("a.rs", "use crate::b::{self, B};\npub struct A;\n"),
        ("b.rs", "use super::{\n    c::C,\n};\npub struct B;\n"),
        ("c.rs", "pub struct C;\nfn f() { crate::a::A; }\n"),
    ]);
    let found = circles(source.path(), &["lib.rs"], true);
    assert_eq!(
        found,
        ["a.rs -> b.rs -> c.rs -> a.rs (crate::b; super::c::C; crate::a::A)"]
    );
}

#[test]
fn circle_of_parent_and_child_is_found() {
    let child = ("a/child.rs", "use super::Shared;\npub fn f() {}\n");
    let files =
        |parent: &'static str| crate_of(&[("lib.rs", "mod a;\n"), ("a/mod.rs", parent), child]);
    let uses = files("mod child;\npub struct Shared;\nfn g() { child::f() }\n");
    assert_eq!(
        circles(uses.path(), &["lib.rs"], true),
        ["a/child.rs -> mod.rs -> child.rs (super::Shared; child::f)"]
    );
    assert!(circles(uses.path(), &["lib.rs"], false).is_empty());
    let arranges = files("mod child;\npub use child::f;\npub struct Shared;\n");
    assert!(circles(arranges.path(), &["lib.rs"], true).is_empty());
}

#[test]
fn re_export_leads_to_the_file_that_defines() {
    let source = crate_of(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a/mod.rs", "mod x;\nmod y;\npub use x::X;\npub use y::*;\n"),
        ("a/x.rs", "use super::Y;\npub struct X;\n"),
        (
            "a/y.rs",
            "pub struct Y;\n// use super::X;\n#[cfg(test)]\nmod tests { use super::super::X; }\n",
        ),
        ("b.rs", "use crate::a::X;\n"),
    ]);
    assert!(circles(source.path(), &["lib.rs"], true).is_empty());
    let text = "use super::X;\npub struct Y;\n";
    std::fs::write(source.path().join("a/y.rs"), text).expect("a file");
    assert_eq!(
        circles(source.path(), &["lib.rs"], true),
        ["a/x.rs -> y.rs -> x.rs (super::Y; super::X)"]
    );
}

#[test]
fn folder_is_one_node_to_its_neighbours() {
    let source = crate_of(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a/mod.rs", "pub mod x;\npub mod y;\n"),
        ("a/x.rs", "use crate::b::B;\n"),
        ("a/y.rs", "pub struct Y;\n"),
        ("b.rs", "use crate::a::y::Y;\npub struct B;\n"),
    ]);
    assert_eq!(
        circles(source.path(), &["lib.rs"], true),
        ["a -> b.rs -> a (crate::b::B; crate::a::y::Y)"]
    );
}
