//! Several files as one policy: settings that several give, and files for other hosts.

#![expect(clippy::unwrap_used, reason = "a failed setup fails the test")]

mod directory;

use directory::directory;
use portguard_common::Verdict;
use portguard_policy::policy::{Diagnostics, Loaded, Mode, Severity, StaticNames, load};
use portguard_policy::yaml::PolicyFile;
use std::path::Path;

/// The machine `web-1`, with no users.
fn names() -> StaticNames {
    StaticNames::new(&[], &[], "web-1")
}

fn loaded(path: &Path) -> Result<Loaded, Diagnostics> {
    load(&[path.to_owned()], &names())
}

#[test]
fn protect_of_all_files_is_united() {
    let directory = directory(&[
        ("1.yaml", b"version: 1\nprotect: [22, \"100-200\"]\n"),
        ("2.yaml", b"version: 1\nprotect: [\"150-300\", 5432]\n"),
        ("3.yaml", b"version: 1\nhosts: [other]\nprotect: [8080]\n"),
        ("4.yaml", b"version: 1\n"),
    ]);
    let loaded = loaded(directory.path()).unwrap();
    assert_eq!(loaded.policy.protect, [22..=22, 100..=300, 5432..=5432]);
    assert_eq!(loaded.warnings.count(Severity::Warning), 0);
    let shown = PolicyFile::from(&loaded.policy).to_string();
    let expected = "protect: [22, \"100-300\", 5432]  # DIR/1.yaml:2:10, DIR/2.yaml:2:10";
    let shown = shown.replace(&directory.path().display().to_string(), "DIR");
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn setting_that_weakens_an_earlier_file_is_a_warning() {
    let first = b"version: 1\nmode: enforce\ndefault: deny\nscope: all\nlog: deny\n";
    let middle = b"version: 1\nlog: all\n";
    let last = b"version: 1\nmode: audit\ndefault: kernel\nscope: host\nlog: none\n";
    let directory = directory(&[("1.yaml", first), ("2.yaml", middle), ("3.yaml", last)]);
    let loaded = loaded(directory.path()).unwrap();
    let warnings = loaded.warnings.render(false);
    let warnings = warnings.replace(&directory.path().display().to_string(), "DIR");
    for expected in [
        "DIR/3.yaml:2:7: warning: `mode: audit` weakens `mode: enforce` at DIR/1.yaml:2:7\n",
        "DIR/3.yaml:3:10: warning: `default: kernel` weakens `default: deny` at DIR/1.yaml:3:10\n",
        "DIR/3.yaml:4:8: warning: `scope: host` weakens `scope: all` at DIR/1.yaml:4:8\n",
        "DIR/3.yaml:5:6: warning: `log: none` weakens `log: all` at DIR/2.yaml:2:6
  |
5 | log: none
  |      ^^^^ the last file wins; remove one of the two
",
    ] {
        assert!(warnings.contains(expected), "{expected}\n---\n{warnings}");
    }
    assert_eq!(loaded.policy.mode, Mode::Audit);
}

#[test]
fn setting_that_is_as_strict_as_all_before_is_no_warning() {
    let strict = b"version: 1\nmode: enforce\ndefault: deny\nscope: all\nlog: all\n";
    let weak = b"version: 1\nmode: audit\ndefault: kernel\nscope: host\nlog: none\n";
    let other = b"version: 1\nhosts: [other]\nmode: audit\n";
    let directory = directory(&[
        ("1.yaml", strict),
        ("2.yaml", weak),
        ("3.yaml", strict),
        ("4.yaml", other),
    ]);
    let loaded = loaded(directory.path()).unwrap();
    assert_eq!(loaded.warnings.render(false), "");
    assert_eq!(loaded.policy.default, Verdict::Deny);
}

#[test]
fn host_matches_without_case_and_by_its_short_name() {
    let file = b"version: 1\nhosts: [WEB-1]\nrules: [{ name: web, action: deny }]\n";
    let directory = directory(&[("1.yaml", file)]);
    for (host, holds) in [
        ("web-1.example.com", true),
        ("Web-1", true),
        ("web-10", false),
    ] {
        let names = StaticNames::new(&[], &[], host);
        let loaded = load(&[directory.path().to_owned()], &names).unwrap();
        assert_eq!(loaded.policy.rules.len(), usize::from(holds), "{host}");
    }
}

#[test]
fn policy_without_a_file_for_the_host_is_a_warning() {
    let directory = directory(&[
        ("1.yaml", b"version: 1\nhosts: [\"db-*\"]\n"),
        ("2.yaml", b"version: 1\nmode: audit\nhosts: [mail]\n"),
    ]);
    let loaded = loaded(directory.path()).unwrap();
    let warnings = loaded.warnings.render(false);
    let expected = "/2.yaml:3:8: warning: no policy file holds on host `web-1`: no rule applies
  |
3 | hosts: [mail]
  |        ^ every file names other hosts
";
    assert!(warnings.ends_with(expected), "{warnings}");
    std::fs::write(directory.path().join("0.yaml"), "version: 1\n").unwrap();
    assert_eq!(
        self::loaded(directory.path())
            .unwrap()
            .warnings
            .render(false),
        ""
    );
}
