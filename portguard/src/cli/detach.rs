//! `portguard detach`: the end of enforcement, with a daemon or without.

use super::{Daemon, Exit, not_asked};
use crate::control::{ControlError, Reply, Request, ask};
use crate::kernel::{PINS, Pins};
use crate::stderr::log_line;
use std::path::Path;

#[derive(clap::Args)]
#[command(after_long_help = "Exit codes:\n  \
    0  nothing is enforced any more\n  \
    1  something is left\n  \
    3  no right to do this\n\n\
    Example:\n  \
    portguard detach")]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) fn run(args: &Args) -> Exit {
    match ask(&args.daemon.socket, &Request::Detach) {
        Ok(Reply::Detached) => {
            println!("the daemon has detached its programs and ended");
            Exit::Success
        }
        Ok(Reply::Failed { error }) => {
            log_line!("portguard: {}", error.trim_end());
            Exit::NotSo
        }
        Ok(_) => super::not_understood(),
        Err(ControlError::NoDaemon { .. }) => without_daemon(),
        Err(error) => not_asked(&error),
    }
}

fn without_daemon() -> Exit {
    if !Path::new(PINS).exists() {
        println!("nothing is pinned, and no daemon runs");
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
            println!("removed the pins in {PINS}: the kernel's own rule holds");
            Exit::Success
        }
        Err(error) => {
            log_line!("portguard: {error}");
            Exit::NotSo
        }
    }
}
