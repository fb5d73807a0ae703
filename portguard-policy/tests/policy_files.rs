//! Files and directories of policies: order, hosts, settings, limits, and unreadable files.

#![expect(clippy::unwrap_used, reason = "a failed setup fails the test")]

mod directory;

use directory::directory;
use portguard_common::{Protocol, Verdict};
use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::analysis::policy_tests::run_policy_tests;
use portguard_policy::compile::{Bind, compile};
use portguard_policy::policy::{
    Diagnostics, Loaded, Log, Mode, NameService, Policy, Scope, Severity, StaticNames,
    SymbolicNames, load, parse,
};
use portguard_policy::yaml::PolicyFile;
use proptest::prelude::*;
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The machine `web-1`, with no users.
fn names() -> StaticNames {
    StaticNames::new(&[], &[], "web-1")
}

/// The same; counts how often users are looked up and the names of all are read.
#[derive(Default)]
struct CountingNames {
    lookups: Cell<usize>,
    reads: Cell<usize>,
}

impl NameService for CountingNames {
    fn uid(&self, name: &str) -> Option<u32> {
        self.lookups.set(self.lookups.get() + 1);
        names().uid(name)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        names().gid(name)
    }

    fn gids_of(&self, user: &str) -> Vec<u32> {
        names().gids_of(user)
    }

    fn hostname(&self) -> String {
        names().hostname()
    }

    fn user_names(&self) -> Vec<String> {
        self.reads.set(self.reads.get() + 1);
        names().user_names()
    }

    fn group_names(&self) -> Vec<String> {
        names().group_names()
    }
}

fn loaded(path: &Path) -> Result<Loaded, Diagnostics> {
    load(&[path.to_owned()], &names())
}

/// The errors of a directory, its path replaced.
fn errors(directory: &TempDir) -> String {
    let problems = loaded(directory.path()).unwrap_err().render(false);
    problems.replace(directory.path().to_str().unwrap(), "DIR")
}

fn parsed(text: &str) -> Result<Loaded, Diagnostics> {
    parse("p.yaml".as_ref(), text, &names())
}

fn one_rule(name: &str, port: u16) -> Vec<u8> {
    let rule = format!("version: 1\nrules: [{{ name: {name}, action: deny, ports: [{port}] }}]\n");
    rule.into_bytes()
}

fn rules(loaded: &Loaded) -> Vec<&str> {
    let rules = loaded.policy.rules.iter();
    rules.map(|rule| rule.name.as_str()).collect()
}

#[test]
fn directory_is_read_in_byte_order_of_names() {
    let directory = directory(&[
        ("a.yml", &one_rule("third", 3)),
        ("9.yaml", &one_rule("second", 2)),
        ("10.yaml", &one_rule("first", 1)),
        ("ä.yaml", &one_rule("fourth", 4)),
        (".hidden.yaml", b"no policy"),
        ("notes.txt", b"no policy"),
        ("b.yaml~", b"no policy"),
    ]);
    let loaded = loaded(directory.path()).unwrap();
    assert_eq!(rules(&loaded), ["first", "second", "third", "fourth"]);
    assert_eq!(loaded.warnings.iter().count(), 0);
}

#[test]
fn paths_are_read_in_the_given_order() {
    let directory = directory(&[("a", &one_rule("a", 1)), ("b", &one_rule("b", 2))]);
    let paths: [PathBuf; 2] = ["b", "a"].map(|name| directory.path().join(name));
    let loaded = load(&paths, &names()).unwrap();
    assert_eq!(rules(&loaded), ["b", "a"]);
}

#[test]
fn setting_given_twice_has_the_last_value() {
    let first = b"version: 1\nmode: audit\ndefault: deny\nscope: all\nlog: none\nprotect: [80]\n";
    let directory = directory(&[("1.yaml", first), ("2.yaml", b"version: 1\nlog: deny\n")]);
    let policy = loaded(directory.path()).unwrap().policy;
    assert_eq!(policy.mode, Mode::Audit);
    assert_eq!(policy.default, Verdict::Deny);
    assert_eq!(policy.scope, Scope::All);
    assert_eq!(policy.log, Log::Deny);
    assert_eq!(policy.protect, [80..=80]);
}

#[test]
fn file_for_other_hosts_does_not_apply() {
    let other =
        b"version: 1\nhosts: [\"db-*\"]\nmode: audit\nrules: [{ name: db, action: deny }]\n";
    let here = b"version: 1\nhosts: [x, \"web-?\"]\nrules: [{ name: web, action: deny }]
tests: [{ user: 1, port: 80, expect: deny, rule: db }]\n";
    let directory = directory(&[("1.yaml", other), ("2.yaml", here)]);
    let loaded = loaded(directory.path()).unwrap();
    assert_eq!(rules(&loaded), ["web"]);
    assert_eq!(loaded.policy.mode, Mode::Enforce);
}

#[test]
fn names_in_a_file_for_other_hosts_are_not_looked_up() {
    let text =
        "version: 1\nrules:\n- { name: a, action: allow, users: [postgres, bob], groups: [dba] }
tests: [{ user: postgres, port: 80, expect: allow }]\nhosts: [db-1]\n";
    let machine = CountingNames::default();
    let loaded = parse("p.yaml".as_ref(), text, &machine).unwrap();
    let warnings = loaded.warnings.render(false);
    assert!(warnings.starts_with("p.yaml:5:8: warning: no policy file holds on host `web-1`"));
    assert!(!warnings.contains("unknown"), "{warnings}");
    assert_eq!(loaded.policy.unknown, []);
    assert_eq!(machine.lookups.get(), 0);
    // What no host can have is an error everywhere.
    let text = text.replace("bob", "'!bob'");
    let problems = parse("p.yaml".as_ref(), &text, &machine).unwrap_err();
    assert!(problems.render(false).contains("`!bob` is not a user name"));
}

/// The decision on a bind of port 80 by uid 1000 in group 1000.
fn decision(policy: &Policy) -> Option<&str> {
    let tables = compile(policy).unwrap();
    let bind = Bind {
        protocol: Protocol::Tcp,
        address: Ipv4Addr::UNSPECIFIED.into(),
        port: 80,
        uid: 1000,
        euid: 1000,
        gids: &[1000],
        setgid: None,
        owners: &[],
        cgroup: &[],
        dual_stack: true,
    };
    let decided = tables.decide(&bind)?;
    policy.rule(decided.rule).map(|rule| rule.name.as_str())
}

#[test]
fn rule_whose_users_or_groups_are_all_unknown_matches_nobody() {
    for (fields, expected) in [
        ("users: [bob]", None),
        ("groups: [bob]", None),
        ("users: [1000], groups: [bob]", None),
        ("users: [bob], groups: [1000]", None),
        ("users: [bob, 1000]", Some("a")),
        ("groups: [bob, 1000]", Some("a")),
    ] {
        for action in ["allow", "deny", "kernel"] {
            let text = format!("version: 1\nrules: [{{ name: a, action: {action}, {fields} }}]\n");
            let mut loaded = parsed(&text).unwrap();
            lint(&mut loaded, &Host::ANY);
            assert_eq!(decision(&loaded.policy), expected, "{action} {fields}");
            assert_eq!(loaded.warnings.count(Severity::Warning), 1, "{fields}");
            assert_eq!(loaded.policy.unknown[0].rule, "a");
            assert_eq!(loaded.policy.unknown[0].location.line, 2);
        }
    }
}

#[test]
fn test_with_an_unknown_name_is_not_run() {
    let text = "version: 1\ntests:\n- { user: bob, port: 80, expect: deny }
- { user: 1, group: bobs, port: 80, expect: deny }\n- { user: 1, port: 80, expect: kernel }\n";
    let loaded = parsed(text).unwrap();
    assert_eq!(loaded.policy.tests.len(), 1);
    assert_eq!(loaded.policy.unknown, []);
    let shown = loaded.warnings.render(false);
    assert!(
        shown.contains("p.yaml:3:11: warning: unknown user `bob`: this test is not run"),
        "{shown}"
    );
    assert!(
        shown.contains("p.yaml:4:21: warning: unknown group `bobs`: this test is not run"),
        "{shown}"
    );
}

#[test]
fn symbolic_names_are_distinct_and_root_is_0() {
    let text = "version: 1\nhosts: [db-1]\nrules:
- { name: a, action: allow, ports: [80], users: [alice, root], groups: [web] }
- { name: b, action: deny, ports: [80], users: [bob] }
tests:
- { user: alice, groups: [web], port: 80, expect: allow, rule: a }
- { user: bob, groups: [web], port: 80, expect: deny, rule: b }
- { user: 0, groups: [web], port: 80, expect: allow, rule: a }\n";
    let loaded = parse("p.yaml".as_ref(), text, &SymbolicNames::new("db-1")).unwrap();
    assert_eq!(loaded.warnings.render(false), "");
    let tables = compile(&loaded.policy).unwrap();
    let results = run_policy_tests(&loaded.policy, &tables).unwrap();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|result| result.holds()));
}

#[test]
fn merged_policy_shows_unknown_names() {
    let text = "version: 1\nrules: [{ name: a, action: allow, users: [bob, 7], groups: [bobs] }]\n";
    let shown = PolicyFile::from(&parsed(text).unwrap().policy).to_string();
    let again = parsed(&shown).unwrap().policy;
    let names: Vec<&str> = again.unknown.iter().map(|of| of.name.as_str()).collect();
    assert_eq!(names, ["bob", "bobs"], "{shown}");
    assert_eq!(again.rules[0].users, Some(vec![7..=7]));
}

#[test]
fn rule_name_is_unique_on_all_hosts() {
    let other = b"version: 1\nhosts: [\"db-*\"]\nrules: [{ name: a, action: deny }]\n";
    let directory = directory(&[("1.yaml", other), ("2.yaml", &one_rule("a", 1))]);
    let expected = "DIR/2.yaml:2:9: duplicate rule name `a`, first used at DIR/1.yaml:3:9";
    assert!(
        errors(&directory).starts_with(expected),
        "{}",
        errors(&directory)
    );
}

#[test]
fn unreadable_file_is_an_error() {
    let empty = directory(&[]);
    let expected = "DIR:1:1: no policy files (*.yaml, *.yml) in this directory\n";
    assert_eq!(errors(&empty), expected);

    let missing = loaded(&empty.path().join("none.yaml")).unwrap_err();
    let end = ":1:1: cannot read file: No such file or directory (os error 2)\n";
    assert!(missing.render(false).ends_with(end), "{missing}");

    let text = directory(&[("a.yaml", b"version: 1\n# \xff\n"), ("b.yaml", b"mode: x")]);
    let expected = "DIR/a.yaml:2:3: invalid UTF-8: byte 0xff\n\
                    DIR/b.yaml:1:1: missing key `version`\n";
    assert!(errors(&text).starts_with(expected), "{}", errors(&text));
}

#[test]
fn invalid_utf8_is_reported_at_its_byte() {
    for (bytes, expected) in [
        (&b"\xff\xfev\0e\0"[..], "1:1: invalid UTF-8: byte 0xff"),
        (b"a: \xc3\xa4\xe4", "1:5: invalid UTF-8: byte 0xe4"),
        (b"a: 1\r\nb:\r\xc3", "3:1: invalid UTF-8: byte 0xc3"),
        (
            b"\xef\xbb\xbfa: \xed\xa0\x80",
            "1:4: invalid UTF-8: byte 0xed",
        ),
    ] {
        let directory = directory(&[("p.yaml", bytes)]);
        assert_eq!(errors(&directory), format!("DIR/p.yaml:{expected}\n"));
    }
}

#[test]
fn megabytes_of_text_make_short_messages() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!("version: 1\n{long}: 1\n"),
        format!("version: 1\nmode: {long}\nprotect: {long}\n"),
        format!(
            "version: 1\nrules: [{{ name: a, action: deny, users: [{long}], cgroups: [{long}] }}]"
        ),
        format!(
            "version: 1\na: &a {long}\nhosts: [{}]\nmode: *a\n",
            "*a, ".repeat(10)
        ),
    ] {
        let shown = parsed(&text).unwrap_err().render(false);
        assert!(shown.len() < 10_000, "{} bytes", shown.len());
    }
}

#[test]
fn fifo_is_refused_without_blocking() {
    let directory = directory(&[]);
    let fifo = directory.path().join("p.yaml");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    assert_eq!(errors(&directory), "DIR/p.yaml:1:1: not a regular file\n");
}

#[test]
fn size_limit_counts_all_files_together() {
    let mut text = b"version: 1\n#".to_vec();
    text.resize(16 << 20, b'x');
    let full = directory(&[("1.yaml", &text)]);
    assert!(loaded(full.path()).is_ok());
    let over = directory(&[("1.yaml", &text), ("2.yaml", b"\n")]);
    let expected = "DIR/2.yaml:1:1: policy files exceed 16 MiB in total\n";
    assert_eq!(errors(&over), expected);
}

#[test]
fn rules_and_users_are_limited() {
    let text = |rules: usize| {
        let rule = |i| {
            format!(
                "- {{ name: r{i}, action: deny, ports: [{}] }}\n",
                i % 1023 + 1
            )
        };
        let rules: String = (0..rules).map(rule).collect();
        format!("version: 1\nrules:\n{rules}")
    };
    assert!(parsed(&text(4096)).is_ok());
    let expected = "p.yaml:1:1: the policy has 4097 rules, the limit is 4096\n";
    assert_eq!(parsed(&text(4097)).unwrap_err().render(false), expected);

    let text = |users: u32| {
        let users: Vec<String> = (0..users).map(|i| (2 * i).to_string()).collect();
        let users = users.join(", ");
        format!("version: 1\nrules: [{{ name: a, action: deny, users: [{users}] }}]\n")
    };
    assert!(parsed(&text(65_536)).is_ok());
    let expected =
        "p.yaml:1:1: the policy names 65537 distinct users, the limit is 65536; use ranges\n";
    assert_eq!(parsed(&text(65_537)).unwrap_err().render(false), expected);
}

#[test]
fn diagnostics_show_a_hundred_errors_and_count_the_rest() {
    let keys: String = (0..20_000).map(|i| format!("k{i}: 1\n")).collect();
    let problems = parsed(&format!("version: 1\n{keys}")).unwrap_err();
    assert_eq!(problems.count(Severity::Error), 20_000);
    assert_eq!(problems.iter().count(), 100);
    let text = problems.render(false);
    assert!(text.ends_with("\nand 19900 more problems not shown\n"));
}

#[test]
fn nesting_of_twenty_thousand_levels_is_one_error() {
    for open in ["[", "{a: ", "- "] {
        let text = format!("version: 1\nrules: \n  {}", open.repeat(20_000));
        let problems = parsed(&text).unwrap_err();
        let shown = problems.render(false);
        assert!(
            shown.contains("values are nested more than 32 levels deep"),
            "{open}: {shown}"
        );
        assert_eq!(problems.count(Severity::Error), 1, "{open}");
    }
}

#[test]
fn user_names_are_read_once_for_suggestions() {
    let users: Vec<String> = (0..20_000).map(|i| format!("u{i}")).collect();
    let users = users.join(", ");
    let text = format!("version: 1\nrules: [{{ name: a, action: deny, users: [{users}] }}]\n");
    let machine = CountingNames::default();
    let loaded = parse("p.yaml".as_ref(), &text, &machine).unwrap();
    assert_eq!(loaded.warnings.count(Severity::Warning), 20_000);
    assert_eq!(loaded.policy.unknown.len(), 20_000);
    assert_eq!(machine.reads.get(), 1);
}

/// Fragments of texts.
const WORDS: &[&str] = &[
    "version: 1",
    "rules:",
    "tests:",
    "name: ",
    "action: ",
    "ports: ",
    "users: ",
    "cgroups: ",
    "allow",
    "deny",
    "\n",
    "\n ",
    "\n  - ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\"",
    "'",
    "&a ",
    "*a",
    "!x ",
    "---\n",
    "...",
    "|",
    ">",
    "#",
    "80",
    "-1",
    "1-2",
    "/a",
    "\t",
    "\r",
    "\0",
    "\u{1b}[31m",
    "\u{9b}",
    "\u{85}",
    "\u{2028}",
    "\u{202e}",
    "\u{feff}",
    "ä",
    "日",
    "\\",
    "<<: ",
    "? ",
    ": ",
    "%YAML 1.2\n",
    "99999999999999999999",
    "mode: audit\n",
    "hosts: [\"*\"]\n",
    "~",
];

/// Text made of fragments of policies and of other YAML.
fn yaml() -> impl Strategy<Value = String> {
    let word =
        prop_oneof![8 => proptest::sample::select(WORDS).prop_map(str::to_owned), 1 => ".{0,4}"];
    let begin =
        proptest::sample::select(&["", "version: 1\n", "version: 1\nrules:\n - name: "][..]);
    (begin, proptest::collection::vec(word, 0..40))
        .prop_map(|(begin, words)| format!("{begin}{}", words.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn parse_never_panics_and_escapes_its_messages(text in yaml()) {
        let problems = match parsed(&text) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => {
                prop_assert!(problems.has_errors());
                problems
            }
        };
        let shown = problems.render(false);
        let control = |character: char| character.is_control() && character != '\n';
        prop_assert!(!shown.contains(control), "{:?}", shown);
        for problem in problems.iter() {
            prop_assert!(problem.location.line > 0 && problem.location.column > 0);
        }
    }
}
