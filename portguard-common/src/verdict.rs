//! The outcome of a decision.

/// Errnos of the kernel's `include/uapi/asm-generic/errno-base.h` and `errno.h`, see [`Errno`].
pub const EACCES: i32 = 13;
/// See [`EACCES`].
pub const EPERM: i32 = 1;
/// See [`EACCES`].
pub const EADDRINUSE: i32 = 98;

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

/// The errno of a denied bind. A cgroup program before Linux 5.18 cannot choose, and gives `EPERM`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Errno {
    /// `EACCES`, as of the kernel's own capability check: programs' fallbacks depend on it.
    #[default]
    Acces = 0,
    /// `EPERM`.
    Perm = 1,
    /// `EADDRINUSE`: a program that looks for a free port tries the next one.
    AddrInUse = 2,
}

impl Errno {
    /// Every errno.
    pub const ALL: [Self; 3] = [Self::Acces, Self::Perm, Self::AddrInUse];

    /// The errno in the two low bits of `bits`. The value 3 is never written.
    ///
    /// A table and not comparisons, after which the verifier would walk all that follows once for each.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        const TABLE: [Errno; 4] = [Errno::Acces, Errno::Perm, Errno::AddrInUse, Errno::Acces];
        TABLE[(bits & 3) as usize]
    }

    /// Its name, as in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acces => "EACCES",
            Self::Perm => "EPERM",
            Self::AddrInUse => "EADDRINUSE",
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
    fn errno_survives_its_bits() {
        for errno in Errno::ALL {
            assert_eq!(Errno::from_bits(0xf4 | errno as u8), errno);
        }
        assert_eq!(Errno::from_bits(3), Errno::Acces);
    }

    #[test]
    fn reason_survives_its_bits() {
        for reason in [Reason::None, Reason::NoMemory, Reason::UnresolvedCgroup] {
            assert_eq!(Reason::from_bits(0xf4 | reason as u8), reason);
        }
        assert_eq!(Reason::from_bits(3), Reason::None);
    }
}
