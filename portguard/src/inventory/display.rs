//! A holder, and what became of its socket, in words.

use super::close::{Closed, DestroyError};
use super::holder::{Holder, Identity};

impl Holder {
    /// What is held.
    #[must_use]
    pub fn what(&self) -> String {
        let Self {
            protocol,
            port,
            address,
            ..
        } = self;
        format!("{}/{port} {address}", protocol.as_str())
    }

    /// Whom the verdict is about, else whose the socket is.
    #[must_use]
    pub fn who(&self) -> String {
        let named = |user: &Option<String>, uid: u32| match user {
            Some(user) => format!("{user}({uid})"),
            None => uid.to_string(),
        };
        match &self.judged {
            Some(Identity {
                uid, euid, user, ..
            }) if uid != euid => format!("{} as {euid}", named(user, *uid)),
            Some(Identity { uid, user, .. }) => named(user, *uid),
            None => named(&self.user, self.uid),
        }
    }

    /// What and whose.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} of {}", self.what(), self.who())
    }

    /// What came of [`Holder::destroy`].
    #[must_use]
    pub fn describe_closing(&self, outcome: &Result<Closed, DestroyError>) -> String {
        let what = self.describe();
        match outcome {
            Ok(Closed::Gone) => format!("closed {what}"),
            Ok(Closed::NotAccepting) => format!(
                "closed {what}: it accepts no more; the port is free once its program closes it or ends"
            ),
            Err(error) => format!("not closed: {what}: {error}"),
        }
    }
}
