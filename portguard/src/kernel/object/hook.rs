//! The hooks, the programs on them, and what those can do on this kernel.

/// `--hook`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookChoice {
    /// The LSM where it runs, else the cgroup hooks.
    Auto,
    /// The LSM or nothing.
    Lsm,
    /// The cgroup hooks alone.
    Cgroup,
}

impl HookChoice {
    /// Whether `hook` is what was chosen.
    pub(in crate::kernel) fn allows(self, hook: Hook) -> bool {
        match self {
            Self::Auto => true,
            Self::Lsm => hook == Hook::Lsm,
            Self::Cgroup => hook == Hook::Cgroup,
        }
    }
}

/// The hook that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `lsm/socket_bind` decides, the cgroup hooks grant.
    Lsm,
    /// The cgroup hooks decide and grant.
    Cgroup,
}

impl Hook {
    /// The name in events and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Cgroup => "cgroup",
        }
    }

    /// The programs that are attached where this hook decides.
    pub(in crate::kernel) const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Lsm => &["socket_bind", "sctp_bind_connect", "bind4", "bind6"],
            Self::Cgroup => &CGROUP_PROGRAMS,
        }
    }
}

/// What the cgroup programs can do on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Skip the capability check (Linux 5.12).
    pub grants: bool,
    /// Choose the errno of a refusal (Linux 5.18).
    pub set_errno: bool,
}

pub(in crate::kernel) const LSM_PROGRAMS: [&str; 2] = ["socket_bind", "sctp_bind_connect"];
pub(in crate::kernel) const CGROUP_PROGRAMS: [&str; 2] = ["bind4", "bind6"];

/// Every program that is attached, those of the LSM first.
pub(in crate::kernel) fn all_programs() -> impl Iterator<Item = &'static str> {
    LSM_PROGRAMS.into_iter().chain(CGROUP_PROGRAMS)
}
