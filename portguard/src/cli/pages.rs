//! `portguard completions` and `portguard man`: made from the definitions of the command line itself.

use super::Cli;
use crate::exit::Exit;
use crate::stdout;
use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_long_help = "Example:\n  \
    portguard completions bash > /usr/share/bash-completion/completions/portguard")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// portguard-policy(5), made from `docs/policy.md` by `tests/pages.rs`.
const POLICY_PAGE: &str = include_str!("portguard-policy.5");

#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard man | man -l -\n  \
    portguard man --policy | man -l -\n  \
    portguard man --directory /usr/local/share/man/man1")]
pub(super) struct Man {
    /// Write the pages of all commands into this existing directory
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
    /// Print the page of the policy language, portguard-policy(5)
    #[arg(long, conflicts_with = "directory")]
    policy: bool,
}

pub(super) fn completions(args: &Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "portguard", &mut script);
    print(&script)
}

pub(super) fn man(args: &Man) -> anyhow::Result<Exit> {
    if let Some(directory) = &args.directory {
        write_pages(directory)
            .with_context(|| format!("writing pages into {}", directory.display()))?;
        return Ok(Exit::Success);
    }
    if args.policy {
        return print(POLICY_PAGE.as_bytes());
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    print(&page)
}

fn write_pages(directory: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)?;
    std::fs::write(directory.join("portguard-policy.5"), POLICY_PAGE)
}

fn print(bytes: &[u8]) -> anyhow::Result<Exit> {
    stdout::text(&String::from_utf8_lossy(bytes))?;
    Ok(Exit::Success)
}
