//! The words of the language: settings that are one of a few.

use super::model::{Log, Mode, Scope};
use portguard_common::{Errno, Protocol, Verdict};

/// A value that a policy writes as one word.
pub(super) trait Word: Copy + 'static {
    /// The word.
    fn as_str(self) -> &'static str;
}

macro_rules! words {
    ($($kind:ty),+) => {$(
        impl Word for $kind {
            fn as_str(self) -> &'static str {
                self.as_str()
            }
        }
    )+};
}

words!(Mode, Scope, Log, Verdict, Protocol, Errno);
