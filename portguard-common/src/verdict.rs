//! What a decision says, and its only translation into the kernel's return values.

/// `EACCES` of the kernel's `include/uapi/asm-generic/errno-base.h`: the errno of a refused bind.
///
/// The kernel's own capability check answers with it, and programs' fallbacks key on it.
pub const EACCES: i32 = 13;

/// The answer to "may this task bind this port?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// portguard has no opinion: the kernel's capability rule decides.
    Kernel = 0,
    /// May bind, with or without `CAP_NET_BIND_SERVICE`.
    Allow = 1,
    /// May not bind, root included.
    Deny = 2,
}

impl Verdict {
    /// The verdict behind the two low bits of `bits`.
    ///
    /// The value 3 is never written; read back it means `Deny`, the safe side.
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
