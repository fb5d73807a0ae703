//! `portguard detach`: stops enforcing, with or without a daemon.

use super::Daemon;
use super::failure::{Unavailable, unexpected_reply};
use crate::control::{ControlError, Reply, Request, ask};
use crate::exit::Exit;
use crate::kernel::{BPFFS, PINS, PinError, Pins};
use crate::stderr::log_line;
use crate::stdout::out_line;
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

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    match ask(&args.daemon.socket, &Request::Detach) {
        Ok(Reply::Detached) => {
            out_line!("the daemon detached its programs and exited")?;
            Ok(Exit::Success)
        }
        Ok(Reply::Failed { error }) => {
            log_line!("portguard: {}", error.trim_end());
            Ok(Exit::NotSo)
        }
        Ok(_) => Err(unexpected_reply()),
        Err(ControlError::NoDaemon { .. }) => without_daemon(),
        Err(error) => Err(error.into()),
    }
}

fn without_daemon() -> anyhow::Result<Exit> {
    let refused = |error: PinError| Unavailable(error.to_string());
    if !Pins::exist().map_err(refused)? {
        out_line!("nothing is pinned and no daemon is running")?;
        return Ok(Exit::Success);
    }
    let pins = Pins::open(Path::new(BPFFS)).map_err(refused)?;
    pins.remove_all()?;
    out_line!("removed the pins in {PINS}; the kernel's default check applies")?;
    Ok(Exit::Success)
}
