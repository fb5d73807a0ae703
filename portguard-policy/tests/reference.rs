//! docs/policy.md against the parser: its policies are valid, and it describes every key.

use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::policy::{FILE_KEYS, RULE_KEYS, StaticNames, TEST_KEYS, parse};

const REFERENCE: &str = include_str!("../../docs/policy.md");

/// The users and groups that the examples name.
const USERS: [(&str, u32); 3] = [("root", 0), ("www-data", 33), ("alice", 1000)];
const GROUPS: [(&str, u32); 2] = [("www-data", 33), ("web", 1500)];

/// The lines of the YAML blocks, each with the number of its first line.
fn yaml_blocks() -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = REFERENCE.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if line == "```yaml" {
            let block = lines.by_ref().map(|(line, _)| line);
            let block: Vec<&str> = block.take_while(|line| *line != "```").collect();
            blocks.push((number + 1, block.join("\n") + "\n"));
        }
    }
    blocks
}

/// The text below the heading `## NAME`.
fn section(name: &str) -> &'static str {
    let heading = format!("\n## {name}\n");
    let below = REFERENCE
        .split_once(&heading)
        .map_or("", |(_, below)| below);
    below.split("\n## ").next().unwrap_or_default()
}

/// The keys in the headings of a section: ### `group:`, `groups:`
fn keys(section: &str) -> Vec<&str> {
    let headings = section.lines().filter_map(|line| line.strip_prefix("### "));
    let words = headings.flat_map(|heading| heading.split('`'));
    words.filter_map(|word| word.strip_suffix(':')).collect()
}

#[test]
fn reference_policies_have_no_errors_and_no_warnings() {
    let names = StaticNames::new(&USERS, &GROUPS, "web-1");
    let blocks = yaml_blocks();
    let whole = blocks
        .iter()
        .filter(|(_, yaml)| yaml.starts_with("version: 1\n"));
    let mut seen = 0;
    for (line, yaml) in whole {
        let mut loaded = parse("p.yaml".as_ref(), yaml, &names)
            .unwrap_or_else(|problems| panic!("docs/policy.md:{line}:\n{problems}"));
        lint(&mut loaded, &Host::ANY);
        let warnings = loaded.warnings.render(false);
        assert_eq!(warnings, "", "docs/policy.md:{line}");
        seen += 1;
    }
    assert!(seen >= 5, "{seen} policies found");
}

#[test]
fn reference_describes_every_key() {
    for (name, expected) in [
        ("SETTINGS", &FILE_KEYS[..]),
        ("RULES", &RULE_KEYS),
        ("TESTS", &TEST_KEYS),
    ] {
        let (mut described, mut expected) = (keys(section(name)), expected.to_vec());
        described.sort_unstable();
        expected.sort_unstable();
        assert_eq!(described, expected, "{name}");
    }
}
