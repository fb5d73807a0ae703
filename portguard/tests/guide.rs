//! `docs/guide.md`: every command of it is run, and prints what the page says. `BLESS=1` writes the output
//! again; review the result.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use std::path::Path;
use std::process::Command;

/// What a shell prints and says in a directory, `portguard` being the one under test.
fn run(command: &str, directory: &Path) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_portguard")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("{command} 2>&1")])
        .current_dir(directory)
        .env("PATH", path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A console block with its commands run.
fn console(block: &str, directory: &Path) -> String {
    let commands = block.lines().filter_map(|line| line.strip_prefix("$ "));
    commands
        .map(|command| {
            // Redirected output is redirected, and errors are shown.
            let said = run(command, directory);
            let said: Vec<&str> = said.lines().map(str::trim_end).collect();
            let said = said.join("\n");
            format!(
                "$ {command}\n{said}{}",
                if said.is_empty() { "" } else { "\n" }
            )
        })
        .collect()
}

#[test]
fn guide_matches_real_output() {
    let page = Path::new("../docs/guide.md");
    let text = std::fs::read_to_string(page).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut written = String::new();
    let mut commands = 0;
    for (i, part) in text.split("```").enumerate() {
        let part = match part.split_once('\n') {
            Some(("yaml", policy)) if i % 2 == 1 => {
                std::fs::write(directory.path().join("host.yaml"), policy).unwrap();
                part.to_owned()
            }
            Some(("console", block)) if i % 2 == 1 => {
                commands += block.lines().filter(|line| line.starts_with("$ ")).count();
                format!("console\n{}", console(block, directory.path()))
            }
            _ => part.to_owned(),
        };
        if i > 0 {
            written.push_str("```");
        }
        written.push_str(&part);
    }
    assert!(commands >= 12, "hardly any command was found");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(page, &written).unwrap();
    }
    assert_eq!(written, text);
}
