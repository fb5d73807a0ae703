//! What `decide_test` reads and writes. The tests, which include this file, fill it in.

/// Requests of one run.
pub(super) const BATCH: usize = 64;
/// Gids that a request may have.
pub(super) const MAX_GIDS: usize = 8;
/// Owners that a request may have.
pub(super) const MAX_OWNERS: usize = 3;
/// Levels of a cgroup's path that a request may have.
pub(super) const MAX_LEVELS: usize = 32;
/// Bytes of a name, its closing NUL included.
pub(super) const NAME_BYTES: usize = 256;
/// A bind to decide, and by whom.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct TestRequest {
    /// The first eight bytes of the address as in memory; of IPv4 the address, and zeros.
    pub(super) high: u64,
    /// The last eight bytes.
    pub(super) low: u64,
    /// Real uid.
    pub(super) uid: u32,
    /// Effective uid.
    pub(super) euid: u32,
    /// Gids that every rule looks at.
    pub(super) gids: [u32; MAX_GIDS],
    /// Real and effective gid, with [`TestRequest::setgid`].
    pub(super) differing_gids: [u32; 2],
    /// Uid and gid of the owners of its user namespaces.
    pub(super) owners: [[u32; 2]; MAX_OWNERS],
    /// Gids in use.
    pub(super) gid_count: u32,
    /// Owners in use.
    pub(super) owner_count: u32,
    /// Levels of the cgroup below the root.
    pub(super) depth: u32,
    /// Numbers of the names of the first [`MAX_LEVELS`] levels, the one below the root first.
    pub(super) names: [u16; MAX_LEVELS],
    /// Port.
    pub(super) port: u16,
    /// Number of the protocol.
    pub(super) protocol: u8,
    /// 1 for an IPv6 address.
    pub(super) inet6: u8,
    /// 1 where an IPv6 wildcard takes IPv4 too.
    pub(super) dual_stack: u8,
    /// What cannot be read of the caller: [`NO_MEMORY`], [`UNRESOLVED_CGROUP`].
    pub(super) unreadable: u8,
    /// 1 where the real and the effective gid differ.
    pub(super) setgid: u8,
    /// Zero.
    pub(super) reserved: [u8; 5],
}

/// In [`TestRequest::unreadable`]: there is no memory to collect the groups and the owners.
pub(super) const NO_MEMORY: u8 = 1;
/// In [`TestRequest::unreadable`]: the path of the cgroup cannot be read.
pub(super) const UNRESOLVED_CGROUP: u8 = 2;

/// A name of a cgroup, with room for its address in the kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct TestName {
    /// Written by the program.
    pub(super) address: u64,
    /// The name and a NUL.
    pub(super) text: [u8; NAME_BYTES],
}

/// A decision: from bit 0 the verdict, 8 the reason, 10 the errno, 16 the rule, 32 report, 33 audit, 34 [`DECIDED`].
pub(super) type TestResult = u64;

/// In a [`TestResult`]: where the reason begins.
pub(super) const REASON: u32 = 8;
/// In a [`TestResult`]: where the errno begins.
pub(super) const ERRNO: u32 = 10;
/// In a [`TestResult`]: where the rule begins.
pub(super) const RULE: u32 = 16;
/// In a [`TestResult`]: the decision is to be reported.
pub(super) const REPORT: u64 = 1 << 32;
/// In a [`TestResult`]: the rule is in audit mode.
pub(super) const AUDIT: u64 = 1 << 33;
/// In a [`TestResult`]: the port is protected.
pub(super) const DECIDED: u64 = 1 << 34;
/// In a [`TestResult`]: a table is missing.
pub(super) const FAULT: u64 = 1 << 35;
