//! Who binds: the class of the caller's cgroup, the rules that its groups leave, and those that the owners of its user
//! namespaces add.

pub mod cgroup;
pub mod groups;
pub mod owners;
