//! The hooks, the programs on them, and what those can do on this kernel.

pub use portguard_common::Hook;

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

/// The programs that are attached where `hook` decides.
pub(in crate::kernel) const fn attached_programs(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::Lsm => &["socket_bind", "sctp_bind_connect", "bind4", "bind6"],
        Hook::Cgroup => &CGROUP_PROGRAMS,
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
