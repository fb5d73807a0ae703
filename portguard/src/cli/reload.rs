//! `portguard reload`: replaces the policy in force, atomically.

use super::Daemon;
use super::failure::unexpected_reply;
use crate::control::{Reply, Request, ask};
use crate::exit::Exit;
use crate::stderr::{self, log_line};
use crate::stdout::out_line;

#[derive(clap::Args)]
#[command(after_long_help = "Exit codes:\n  \
    0  the new policy is in force\n  \
    1  it is invalid or the kernel rejected it; the previous policy stays in force\n  \
    3  the daemon cannot be reached\n\n\
    Example:\n  \
    portguard check /etc/portguard/policies && portguard reload")]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    match ask(&args.daemon.socket, &Request::Reload) {
        Ok(Reply::Reloaded {
            policy,
            warnings,
            changes,
        }) => {
            stderr::text(&warnings);
            match changes.as_str() {
                "" => out_line!("policy {policy} is in force")?,
                changes => out_line!("policy {policy} is in force: {changes}")?,
            }
            Ok(Exit::Success)
        }
        Ok(Reply::Failed { error }) => {
            log_line!("{}", error.trim_end());
            log_line!("portguard: reload failed, keeping the previous policy");
            Ok(Exit::NotSo)
        }
        Ok(_) => Err(unexpected_reply()),
        Err(error) => Err(error.into()),
    }
}
