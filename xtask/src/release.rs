//! The verb `release --check`: whether the checkout is one that can be tagged.

use crate::{dist, repo, shell};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::process::ExitCode;

/// It names the version too.
const LOCK: &str = "Cargo.lock";

/// The schemas as they were when somebody last looked at a change of them.
const SCHEMAS: [&str; 2] = [
    "docs/baseline/portguard-policy.schema.json",
    "docs/baseline/portguard-event.schema.json",
];

/// The recorded figures.
const FIGURES: [&str; 2] = ["docs/baseline/verify.json", "docs/baseline/bench.json"];

/// By how many percent a figure may rise between releases without a word in the changelog.
const RISE: u64 = 5;

/// The verb.
pub(crate) fn check() -> Result<ExitCode> {
    let version = dist::version()?;
    let changelog = read("CHANGELOG.md")?;
    let mut problems = Vec::new();
    problems.extend(changed_files()?);
    problems.extend(lock_problem(&read(LOCK)?, &version));
    let section = match section(&changelog, &version) {
        Ok(section) => section,
        Err(problem) => {
            problems.push(problem);
            String::new()
        }
    };
    let last = last_tag()?;
    match &last {
        Some(tag) => problems.extend(since(tag, &version, &section)?),
        None => println!("no release yet: schemas and figures are compared with none"),
    }
    for problem in &problems {
        println!("release: {problem}");
    }
    if !problems.is_empty() {
        bail!("{version} is not ready: {} problems", problems.len());
    }
    println!("{version} is ready for the tests of RELEASE.md and the tag v{version}");
    Ok(ExitCode::SUCCESS)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(repo::path(path)).with_context(|| format!("reading {path}"))
}

/// Files that differ from the commit.
fn changed_files() -> Result<Option<String>> {
    let mut status = shell::command("git");
    let status = shell::query(status.args(["status", "--porcelain", "--untracked-files=no"]))?;
    let first = status.lines().next().map(str::trim);
    Ok(first.map(|file| format!("the checkout has changes that are not committed: {file}")))
}

/// What is wrong with the lock file.
fn lock_problem(lock: &str, version: &str) -> Option<String> {
    let wanted = format!("name = \"portguard\"\nversion = \"{version}\"\n");
    (!lock.contains(&wanted))
        .then(|| format!("{LOCK} has another version than Cargo.toml: run `cargo check`"))
}

/// The changelog's section of a version, which must be the first and dated.
fn section(changelog: &str, version: &str) -> Result<String, String> {
    let (_, first) = changelog
        .split_once("\n## ")
        .ok_or("CHANGELOG.md has no sections")?;
    let (title, body) = first.split_once('\n').unwrap_or((first, ""));
    let body = body.split("\n## ").next().unwrap_or_default();
    let date = title.strip_prefix(version).map(str::trim);
    let dated = date.is_some_and(|date| {
        let digits = date.trim_matches(|c: char| !c.is_ascii_digit());
        digits.len() == 10 && digits.split('-').count() == 3
    });
    if !dated {
        return Err(format!(
            "CHANGELOG.md begins with the section `{title}`: it must be `{version} (YYYY-MM-DD)`"
        ));
    }
    if body.trim().is_empty() {
        return Err(format!("CHANGELOG.md says nothing of {version}"));
    }
    Ok(body.to_owned())
}

/// The newest tag of a release before this commit.
fn last_tag() -> Result<Option<String>> {
    let mut tags = shell::command("git");
    let tags = shell::query(tags.args([
        "tag",
        "--list",
        "v*",
        "--no-contains=HEAD",
        "--sort=-version:refname",
    ]))?;
    Ok(tags.lines().next().map(str::to_owned))
}

/// What changed since the last release without a word in the changelog.
fn since(tag: &str, version: &str, section: &str) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    if tag == format!("v{version}") {
        problems.push(format!("{tag} is released already: raise the version"));
    }
    for path in SCHEMAS {
        let before = at(tag, path);
        if before.is_some_and(|before| Some(before) != read(path).ok())
            && !section.contains("schema")
        {
            problems.push(format!(
                "{path} changed since {tag}, and CHANGELOG.md has no word `schema`"
            ));
        }
    }
    for path in FIGURES {
        let (Some(before), Ok(now)) = (at(tag, path), read(path)) else {
            continue;
        };
        let rises = rises(
            &serde_json::from_str(&before)?,
            &serde_json::from_str(&now)?,
            "",
        );
        if !rises.is_empty() && !section.contains("instructions") {
            problems.push(format!(
                "{path}: {} rose since {tag}, and CHANGELOG.md has no word `instructions`",
                rises.join(", ")
            ));
        }
    }
    Ok(problems)
}

/// A file as it was at a tag.
fn at(tag: &str, path: &str) -> Option<String> {
    shell::query(shell::command("git").args(["show", &format!("{tag}:{path}")])).ok()
}

/// The places of numbers that are more than [`RISE`] percent above what they were.
fn rises(before: &Value, now: &Value, place: &str) -> Vec<String> {
    match (before, now) {
        (Value::Number(before), Value::Number(now)) => {
            let (before, now) = (before.as_u64().unwrap_or(0), now.as_u64().unwrap_or(0));
            let rose = now * 100 > before * (100 + RISE);
            rose.then(|| format!("{place} {before} to {now}"))
                .into_iter()
                .collect()
        }
        (Value::Object(before), Value::Object(now)) => {
            let both = now
                .iter()
                .filter_map(|(key, now)| Some((key, before.get(key)?, now)));
            both.flat_map(|(key, before, now)| rises(before, now, &format!("{place}/{key}")))
                .collect()
        }
        (Value::Array(before), Value::Array(now)) => {
            let pairs = before.iter().zip(now).enumerate();
            pairs
                .flat_map(|(at, (before, now))| rises(before, now, &format!("{place}/{at}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn section_must_be_the_first_and_dated() {
        let text =
            "# Changelog\n\n## 0.2.0 (2026-12-01)\n\nNew.\n\n## 0.1.0 (2026-11-01)\n\nOld.\n";
        assert_eq!(section(text, "0.2.0").as_deref(), Ok("\nNew.\n"));
        let unreleased = section(&text.replace("0.2.0 (2026-12-01)", "Unreleased"), "0.2.0");
        let expected =
            "CHANGELOG.md begins with the section `Unreleased`: it must be `0.2.0 (YYYY-MM-DD)`";
        assert_eq!(unreleased, Err(expected.to_owned()));
        assert!(section(&text.replace(" (2026-12-01)", ""), "0.2.0").is_err());
        let empty = section(&text.replace("New.", ""), "0.2.0");
        assert_eq!(empty, Err("CHANGELOG.md says nothing of 0.2.0".to_owned()));
    }

    #[test]
    fn lock_file_has_the_version() {
        let lock = "[[package]]\nname = \"portguard\"\nversion = \"0.2.0\"\n";
        assert_eq!(lock_problem(lock, "0.2.0"), None);
        let problem = lock_problem(lock, "0.3.0").expect("a problem");
        assert!(
            problem.starts_with("Cargo.lock has another version"),
            "{problem}"
        );
    }

    #[test]
    fn rises_are_those_above_five_percent() {
        let before =
            json!({ "6.12": { "bind4": 100, "bind6": 100 }, "gone": 1, "rows": [{ "x": 10 }] });
        let now =
            json!({ "6.12": { "bind4": 105, "bind6": 106 }, "new": 9, "rows": [{ "x": 11 }] });
        let rises = rises(&before, &now, "");
        assert_eq!(rises, ["/6.12/bind6 100 to 106", "/rows/0/x 10 to 11"]);
    }
}
