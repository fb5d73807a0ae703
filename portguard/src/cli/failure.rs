//! How a command that failed says why: text on standard error, or with `--json` one object on standard output.

use super::objects;
use crate::control::ControlError;
use crate::exit::Exit;
use crate::stderr::{self, log_line};
use crate::stdout::{StdoutError, out_line};
use portguard_policy::policy::Diagnostics;
use serde_json::json;
use std::fmt;
use std::io::IsTerminal as _;

/// Something that the command needs is missing on this host: exit code 3.
#[derive(Debug)]
pub(super) struct Unavailable(pub(super) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// The daemon sent a reply that does not fit the request.
pub(super) fn unexpected_reply() -> anyhow::Error {
    let text = "unexpected reply from the daemon: is it another version?";
    Unavailable(text.to_owned()).into()
}

/// Reports why a command failed.
pub(super) fn report(error: &anyhow::Error, json: bool) -> Exit {
    let diagnostics = error.downcast_ref::<Diagnostics>();
    if let Some(error) = error.downcast_ref::<StdoutError>() {
        return unwritten(error);
    }
    if json {
        let object = match diagnostics {
            Some(diagnostics) => json!({
                "error": "the policy has errors",
                "problems": objects::diagnostics(diagnostics),
            }),
            None => json!({ "error": format!("{error:#}") }),
        };
        if let Err(error) = out_line!("{object}") {
            return unwritten(&error);
        }
    } else if let Some(diagnostics) = diagnostics {
        stderr::text(&diagnostics.render(std::io::stderr().is_terminal()));
    } else {
        log_line!("portguard: {error:#}");
    }
    if error.is::<ControlError>() || error.is::<Unavailable>() {
        Exit::Environment
    } else {
        Exit::NotSo
    }
}

/// Standard output cannot be written.
pub(super) fn unwritten(error: &StdoutError) -> Exit {
    if !error.is_closed_pipe() {
        log_line!("portguard: {error}");
    }
    Exit::NotSo
}
