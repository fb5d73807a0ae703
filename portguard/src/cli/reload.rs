//! `portguard reload`: another policy, all or nothing.

use super::{Daemon, Exit, not_asked, not_understood};
use crate::control::{Reply, Request, ask};
use crate::stderr::{self, log_line};

#[derive(clap::Args)]
#[command(after_long_help = "Exit codes:\n  \
    0  the policy is in force\n  \
    1  it is broken or the kernel did not take it: the one before stays\n  \
    3  the daemon cannot be asked\n\n\
    Example:\n  \
    portguard check /etc/portguard/policies && portguard reload")]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) fn run(args: &Args) -> Exit {
    match ask(&args.daemon.socket, &Request::Reload) {
        Ok(Reply::Reloaded { policy, warnings }) => {
            stderr::text(&warnings);
            println!("policy {policy} is in force");
            Exit::Success
        }
        Ok(Reply::Failed { error }) => {
            log_line!("{}", error.trim_end());
            log_line!("portguard: reload failed, the policy before stays");
            Exit::NotSo
        }
        Ok(_) => not_understood(),
        Err(error) => not_asked(&error),
    }
}
