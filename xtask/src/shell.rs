//! Runs commands and prints each one.

use crate::repo;
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A command in the checkout, without the variables that cargo sets for xtask itself. A toolchain selected by
/// `cargo +TOOLCHAIN xtask` stays.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(repo::root());
    for name in ["CARGO", "RUSTC", "LD_LIBRARY_PATH", "RUST_RECURSION_COUNT"] {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `cargo` of the toolchain that builds the checkout.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut cargo = command("cargo");
    cargo.args(args);
    cargo
}

/// A command run as root, by sudo where the caller is not root.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return command(program);
    }
    let mut sudo = command("sudo");
    sudo.arg("--").arg(program);
    sudo
}

/// Whether the caller is root: only root's processes have a /proc of uid 0.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The path of a program, searched for in `PATH` and the sbin directories.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The command as one line for a shell, with the variables set for it.
pub(crate) fn line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy().replace('\x1f', " ");
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value)))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quoted(&word.to_string_lossy()));
    set.chain(words).collect::<Vec<_>>().join(" ")
}

/// A word, quoted where a shell would change it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Words, quoted and joined.
pub(crate) fn quoted_words(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Prints a command.
pub(crate) fn print(command: &Command) {
    eprintln!("$ {}", line(command));
}

/// Runs a command on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    print(command);
    let status = command
        .status()
        .with_context(|| format!("running {}", line(command)))?;
    ensure!(status.success(), "`{}` failed: {status}", line(command));
    Ok(())
}

/// Runs a command and returns its stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    print(command);
    query(command.stderr(Stdio::inherit()))
}

/// As [`output`], for a query that changes nothing: the command and its stderr are not printed.
pub(crate) fn query(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {}", line(command)))?;
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        line(command),
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command, printing and returning its stdout; the flag is whether it succeeded.
pub(crate) fn tee(command: &mut Command) -> Result<(bool, String)> {
    print(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", line(command)))?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        for bytes in BufReader::new(stdout).split(b'\n') {
            let bytes = bytes?;
            let part = String::from_utf8_lossy(&bytes);
            println!("{part}");
            text.push_str(&part);
            text.push('\n');
        }
    }
    Ok((child.wait()?.success(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_protects_spaces_and_quotes() {
        assert_eq!(quoted("--vm=6.12"), "--vm=6.12");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn line_shows_the_variables_of_a_command() {
        let mut command = Command::new("cargo");
        command.arg("build").env("RUSTC", "/usr/bin/rustc");
        assert_eq!(line(&command), "RUSTC=/usr/bin/rustc cargo build");
    }
}
