//! Who binds: the class of the caller's cgroup and the rules that its groups leave.

pub mod cgroup;
pub mod groups;
