//! `portguard detach`: stops enforcing, with or without a daemon.

use super::{Daemon, Exit, unreachable_daemon};
use crate::control::{ControlError, Reply, Request, ask};
use crate::kernel::{PINS, Pins};
use crate::stderr::log_line;
use std::path::Path;

#[derive(clap::Args)]
#[command(after_long_help = "Exit codes:\n  \
    0  nothing is enforced\n  \
    1  something could not be removed\n  \
    3  permission denied\n\n\
    Example:\n  \
    portguard detach")]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) fn run(args: &Args) -> Exit {
    match ask(&args.daemon.socket, &Request::Detach) {
        Ok(Reply::Detached) => {
            println!("the daemon detached its programs and exited");
            Exit::Success
        }
        Ok(Reply::Failed { error }) => {
            log_line!("portguard: {}", error.trim_end());
            Exit::NotSo
        }
        Ok(_) => super::unexpected_reply(),
        Err(ControlError::NoDaemon { .. }) => without_daemon(),
        Err(error) => unreachable_daemon(&error),
    }
}

fn without_daemon() -> Exit {
    if !Path::new(PINS).exists() {
        println!("nothing is pinned and no daemon is running");
        return Exit::Success;
    }
    let pins = match Pins::open() {
        Ok(pins) => pins,
        Err(error) => {
            log_line!("portguard: {error}");
            return Exit::Environment;
        }
    };
    match pins.remove_all() {
        Ok(()) => {
            println!("removed the pins in {PINS}; the kernel's default check applies");
            Exit::Success
        }
        Err(error) => {
            log_line!("portguard: {error}");
            Exit::NotSo
        }
    }
}
