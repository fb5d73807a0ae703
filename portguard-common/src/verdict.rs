//! The outcome of a decision.

/// `EACCES` of the kernel's `include/uapi/asm-generic/errno-base.h`: the errno of a refused bind.
///
/// The kernel's own capability check returns it too, and programs' fallbacks depend on it.
pub const EACCES: i32 = 13;

/// Whether a task may bind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// No decision: the kernel's capability check applies.
    Kernel = 0,
    /// May bind, with or without `CAP_NET_BIND_SERVICE`.
    Allow = 1,
    /// May not bind, root included.
    Deny = 2,
}

impl Verdict {
    /// Every verdict, in the order of messages.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Kernel];

    /// The verdict in the two low bits of `bits`.
    ///
    /// The value 3 is never written; it is read as `Deny`, the safe side.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Kernel,
            1 => Self::Allow,
            _ => Self::Deny,
        }
    }

    /// The word used in policies, events and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Why the default decided although a rule might have matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No rule matched, or the deciding one did.
    #[default]
    None = 0,
    /// The kernel had no memory to collect the caller's groups.
    NoMemory = 1,
    /// The path of the caller's cgroup could not be read: too deep, or no memory.
    UnresolvedCgroup = 2,
}

impl Reason {
    /// The reason in the two low bits of `bits`. The value 3 is never written.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            1 => Self::NoMemory,
            2 => Self::UnresolvedCgroup,
            _ => Self::None,
        }
    }

    /// The word used in events, where there is a reason.
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::NoMemory => Some("no_memory"),
            Self::UnresolvedCgroup => Some("unresolved_cgroup"),
        }
    }
}

/// The hook that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `lsm/socket_bind` decides, the cgroup hooks grant.
    Lsm,
    /// The cgroup hooks decide and grant.
    Cgroup,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 2] = [Self::Lsm, Self::Cgroup];

    /// The word used in events and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Cgroup => "cgroup",
        }
    }
}

/// The errno of a denied bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Errno {
    /// `EACCES`.
    Acces,
    /// `EPERM`: a cgroup program before Linux 5.18, which cannot choose.
    Perm,
}

impl Errno {
    /// Every errno.
    pub const ALL: [Self; 2] = [Self::Acces, Self::Perm];

    /// Its name, as in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acces => "EACCES",
            Self::Perm => "EPERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_survives_its_bits_and_3_is_deny() {
        for verdict in [Verdict::Kernel, Verdict::Allow, Verdict::Deny] {
            assert_eq!(Verdict::from_bits(0xf4 | verdict as u8), verdict);
        }
        assert_eq!(Verdict::from_bits(3), Verdict::Deny);
    }

    #[test]
    fn reason_survives_its_bits() {
        for reason in [Reason::None, Reason::NoMemory, Reason::UnresolvedCgroup] {
            assert_eq!(Reason::from_bits(0xf4 | reason as u8), reason);
        }
        assert_eq!(Reason::from_bits(3), Reason::None);
    }
}
