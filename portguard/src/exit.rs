//! What a command ends with, and its exit code.

use std::process::ExitCode;

/// What a command ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or the answer is yes.
    Success,
    /// 1: the answer is no, or the command failed.
    NotSo,
    /// 3: this host lacks something, or the daemon cannot be reached.
    Environment,
}

impl Exit {
    /// 0 if `yes`, else 1.
    #[must_use]
    pub const fn of(yes: bool) -> Self {
        if yes { Self::Success } else { Self::NotSo }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::NotSo => 1,
            // 2 is clap's own, for wrong usage.
            Exit::Environment => 3,
        })
    }
}
