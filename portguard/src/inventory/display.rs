//! Text for a holder and the result of closing its socket.

use super::close::{Closed, DestroyError};
use super::holder::{Holder, Identity};

impl Holder {
    /// Protocol, port and address.
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

    /// The user that was evaluated, else the socket's user; where no process has it any more, also the one that they have
    /// now.
    #[must_use]
    pub fn who(&self) -> String {
        let caller = self.caller();
        let evaluated = self
            .evaluated
            .as_ref()
            .map_or(self.uid, |caller| caller.euid);
        let mut processes = self.processes.iter();
        match processes.next() {
            Some(first)
                if first.euid != evaluated && processes.all(|other| other.euid != evaluated) =>
            {
                format!("{caller}, now {}", named(first.user.as_ref(), first.euid))
            }
            _ => caller,
        }
    }

    fn caller(&self) -> String {
        match &self.evaluated {
            Some(Identity {
                uid, euid, user, ..
            }) if uid != euid => format!("{} as {euid}", named(user.as_ref(), *uid)),
            Some(Identity { uid, user, .. }) => named(user.as_ref(), *uid),
            None => named(self.user.as_ref(), self.uid),
        }
    }

    /// Protocol, port, address and user.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} of {}", self.what(), self.who())
    }

    /// The result of [`Holder::destroy`].
    #[must_use]
    pub fn describe_closing(&self, outcome: &Result<Closed, DestroyError>) -> String {
        let what = self.describe();
        match outcome {
            Ok(Closed::Gone) => format!("closed {what}"),
            Ok(Closed::NotAccepting) => format!(
                "closed {what}: no longer accepts connections; the port is free once its program closes it or ends"
            ),
            Err(error) => format!("not closed: {what}: {error}"),
        }
    }
}

fn named(user: Option<&String>, uid: u32) -> String {
    match user {
        Some(user) => format!("{user}({uid})"),
        None => uid.to_string(),
    }
}
