//! Every message about a policy: `policy/messages.txt` has policies and their errors and warnings. `BLESS=1`
//! rewrites the file; read its diff before committing it.

use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::local_ports::LocalPorts;
use portguard_policy::policy::{StaticNames, parse};
use std::path::Path;

/// A machine with three users.
fn names() -> StaticNames {
    let users = [("root", 0), ("www-data", 33), ("alice", 1000)];
    StaticNames::new(&users, &[("www-data", 33)], "web-1")
}

fn messages(text: &str) -> String {
    // The file has no control characters itself.
    let text = text
        .replace("<NUL>", "\0")
        .replace("<ESC>", "\x1b")
        .replace("<TAB>", "\t")
        .replace("<CR>", "\r")
        .replace("<CSI>", "\u{9b}")
        .replace("<BOM>", "\u{feff}")
        .replace("<LONG>", &"x".repeat(256))
        .replace("<DEEP>", &"[".repeat(40))
        .replace("<LEVELS>", &"/a".repeat(40));
    let shown = match parse("p.yaml".as_ref(), &text, &names()) {
        Ok(mut loaded) => {
            let host = Host {
                local_ports: Some(LocalPorts::kernel_default()),
                grants: !text.contains("# of a kernel that cannot grant"),
                debian: text.contains("# of a Debian host"),
            };
            lint(&mut loaded, &host);
            loaded.warnings.render(false)
        }
        Err(problems) => problems.render(false),
    };
    let control = |character: &char| character.is_control() && *character != '\n';
    assert_eq!(shown.chars().find(control), None, "{shown:?}");
    // Editors strip blanks at line ends.
    let lines = shown.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

#[test]
fn messages_are_those_of_the_golden_file() {
    let path = Path::new("tests/policy/messages.txt");
    let table = std::fs::read_to_string(path).unwrap();
    let mut written = String::new();
    for case in table.split_inclusive("\n====\n") {
        let case = case.strip_suffix("====\n").unwrap_or(case);
        let (head, rest) = case.split_once('\n').unwrap();
        assert!(
            head.starts_with("# "),
            "a case begins with its name: {head}"
        );
        let (text, expected) = rest.split_once("\n----\n").unwrap();
        let shown = messages(&format!("{text}\n"));
        if std::env::var_os("BLESS").is_none() {
            assert_eq!(shown, expected, "{head}");
        }
        written.push_str(&format!("{head}\n{text}\n----\n{shown}====\n"));
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, written).unwrap();
    }
}
