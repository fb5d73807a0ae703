//! The licences of the crates in the program, with their notices, as those licences ask for.

use crate::shell;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The beginnings of the names of files that are licences or notices.
const NAMES: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];

/// A crate in the program.
struct Crate {
    title: String,
    licence: String,
    directory: String,
}

/// One text for all crates: each crate with its licence, then each text once with the crates that have it.
pub(super) fn text() -> Result<String> {
    let crates = crates()?;
    ensure!(!crates.is_empty(), "cargo metadata names no crates");
    let mut list = String::from("The program portguard contains these crates.\n\n");
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for one in &crates {
        list.push_str(&format!("{}: {}\n", one.title, one.licence));
        for text in licences(Path::new(&one.directory))? {
            texts.entry(text).or_default().insert(&one.title);
        }
    }
    for (text, of) in &texts {
        let of: Vec<&str> = of.iter().copied().collect();
        list.push_str(&format!(
            "\n{}\n\n{}:\n\n{text}\n",
            "-".repeat(72),
            of.join(", ")
        ));
    }
    Ok(list)
}

/// The crates that are linked into the program, without ours.
fn crates() -> Result<Vec<Crate>> {
    let tree = [
        "tree",
        "-p",
        "portguard",
        "--features",
        "otlp",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = shell::query(&mut shell::cargo(&tree))?;
    let linked: BTreeSet<String> = tree.lines().filter_map(name_and_version).collect();
    let metadata = shell::query(&mut shell::cargo(&["metadata", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut found: Vec<Crate> = packages
        .iter()
        .filter(|package| package["source"].is_string())
        .filter_map(one)
        .filter(|one| linked.contains(&one.title))
        .collect();
    found.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(found)
}

/// `NAME VERSION` of `NAME vVERSION (...)`.
fn name_and_version(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    Some(format!(
        "{} {}",
        words.next()?,
        words.next()?.strip_prefix('v')?
    ))
}

fn one(package: &Value) -> Option<Crate> {
    let text = |key: &str| package[key].as_str();
    let manifest = Path::new(text("manifest_path")?);
    Some(Crate {
        title: format!("{} {}", text("name")?, text("version")?),
        licence: text("license").unwrap_or("see its text").to_owned(),
        directory: manifest.parent()?.to_string_lossy().into_owned(),
    })
}

/// The licences and notices in the directory of a crate.
fn licences(directory: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|known| name.starts_with(known)) && entry.file_type()?.is_file() {
            let text = fs::read(entry.path())?;
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            texts.push(text.trim_end().to_owned());
        }
    }
    texts.sort();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_have_each_linked_crate_and_its_licence() {
        let text = text().expect("a text");
        assert!(
            text.contains("\naya 0.14.0: MIT OR Apache-2.0\n"),
            "{text:.2000}"
        );
        assert!(text.contains("Permission is hereby granted"));
        assert!(!text.contains("\nproptest "), "a test's crate");
    }

    #[test]
    fn name_and_version_are_read_from_a_line_of_the_tree() {
        let read = name_and_version("serde_derive v1.0.2 (proc-macro) (*)");
        assert_eq!(read.as_deref(), Some("serde_derive 1.0.2"));
        assert_eq!(name_and_version(""), None);
    }
}
