//! The fields that a rule matches by: the one list of them.

use super::model::{Location, Rule};
use portguard_common::{Errno, Verdict};
use std::fmt;

/// A field that a rule matches by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `ports:`
    Ports,
    /// `protocols:`
    Protocols,
    /// `users:`
    Users,
    /// `groups:`
    Groups,
    /// `addresses:`
    Addresses,
    /// `cgroups:`
    Cgroups,
    /// `units:`
    Units,
}

impl Field {
    /// All fields, in the order in which an explanation tries them.
    pub const ALL: [Self; 7] = [
        Self::Ports,
        Self::Protocols,
        Self::Users,
        Self::Groups,
        Self::Addresses,
        Self::Cgroups,
        Self::Units,
    ];

    /// The key in policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Protocols => "protocols",
            Self::Users => "users",
            Self::Groups => "groups",
            Self::Addresses => "addresses",
            Self::Cgroups => "cgroups",
            Self::Units => "units",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rule {
    /// A rule without any field: it matches every bind.
    pub(crate) fn of_all(name: String, action: Verdict, location: Location) -> Self {
        Self {
            name,
            action,
            ports: None,
            protocols: None,
            users: None,
            groups: None,
            cgroups: None,
            units: None,
            addresses: None,
            audit: false,
            log: None,
            errno: Errno::default(),
            location,
        }
    }

    /// A rule that matches by one field of this one; `None` where this one does not have it.
    pub(crate) fn only(&self, field: Field) -> Option<Self> {
        let mut only = Self::of_all(self.name.clone(), self.action, self.location.clone());
        match field {
            Field::Ports => only.ports = Some(self.ports.clone()?),
            Field::Protocols => only.protocols = Some(self.protocols.clone()?),
            Field::Users => only.users = Some(self.users.clone()?),
            Field::Groups => only.groups = Some(self.groups.clone()?),
            Field::Addresses => only.addresses = Some(self.addresses.clone()?),
            Field::Cgroups => only.cgroups = Some(self.cgroups.clone()?),
            Field::Units => only.units = Some(self.units.clone()?),
        }
        Some(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RULE_KEYS;

    #[test]
    fn every_key_of_a_rule_is_a_field_or_a_setting() {
        let settings = ["name", "action", "mode", "log", "errno"];
        let fields = Field::ALL.map(Field::as_str);
        let mut known: Vec<&str> = fields.into_iter().chain(settings).collect();
        let mut keys = RULE_KEYS.to_vec();
        known.sort_unstable();
        keys.sort_unstable();
        assert_eq!(known, keys);
    }
}
