//! What a policy does with a bind, and by which rule.

use portguard_common::{Errno, Verdict};
use serde::{Serialize, Serializer};
use std::fmt;

/// What happens to a bind; in audit mode also what would have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// It is allowed, without a capability check.
    Allow,
    /// It is denied with this errno.
    Deny(Errno),
    /// The kernel's capability rule applies.
    Kernel,
    /// The kernel's rule applies; enforced, the bind would be allowed.
    AuditAllow,
    /// The kernel's rule applies; enforced, the bind would be denied.
    AuditDeny,
}

impl Effect {
    /// The effect of a verdict, enforced or in audit mode. `errno` is that of a denial.
    #[must_use]
    pub const fn new(verdict: Verdict, enforced: bool, errno: Errno) -> Self {
        match (verdict, enforced) {
            (Verdict::Kernel, _) => Self::Kernel,
            (Verdict::Allow, true) => Self::Allow,
            (Verdict::Deny, true) => Self::Deny(errno),
            (Verdict::Allow, false) => Self::AuditAllow,
            (Verdict::Deny, false) => Self::AuditDeny,
        }
    }

    /// The effect as tables and JSON show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(Errno::Acces) => "deny",
            Self::Deny(Errno::Perm) => "deny (EPERM)",
            Self::Deny(Errno::AddrInUse) => "deny (EADDRINUSE)",
            Self::Kernel => "kernel",
            Self::AuditAllow => "kernel (audit: allow)",
            Self::AuditDeny => "kernel (audit: deny)",
        }
    }

    /// The errno of a denied bind.
    #[must_use]
    pub const fn errno(self) -> Option<Errno> {
        match self {
            Self::Deny(errno) => Some(errno),
            Self::Allow | Self::Kernel | Self::AuditAllow | Self::AuditDeny => None,
        }
    }

    /// Whether the kernel's capability rule applies.
    #[must_use]
    pub const fn is_kernel(self) -> bool {
        matches!(self, Self::Kernel | Self::AuditAllow | Self::AuditDeny)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Effect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What decides a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DecidedBy<'a> {
    /// Nothing: its port is not protected, or its network namespace is out of scope.
    Nothing,
    /// The default of the policy.
    Default,
    /// The rule of this name.
    Rule(&'a str),
}

/// What a policy does with a bind, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectByRule<'a> {
    /// What happens to the bind.
    pub effect: Effect,
    /// What decides it.
    pub by: DecidedBy<'a>,
}

impl<'a> EffectByRule<'a> {
    /// Nothing decides, so the kernel's rule applies.
    pub const UNDECIDED: Self = Self {
        effect: Effect::Kernel,
        by: DecidedBy::Nothing,
    };

    /// The name of the deciding rule; `None` for the default, and where nothing decides.
    #[must_use]
    pub const fn rule(&self) -> Option<&'a str> {
        match self.by {
            DecidedBy::Rule(name) => Some(name),
            DecidedBy::Default | DecidedBy::Nothing => None,
        }
    }

    /// Whether a rule or the default decides.
    #[must_use]
    pub const fn is_decided(&self) -> bool {
        !matches!(self.by, DecidedBy::Nothing)
    }
}
