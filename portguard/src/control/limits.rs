//! How many clients the daemon serves at a time.

/// Clients at a time.
pub const CLIENTS: usize = 256;

/// Of these, kept for root: a group's clients cannot lock it out.
pub(super) const FOR_ROOT: usize = 32;

/// Monitors at a time: they stay, and however many root has, it can still ask for the status.
pub const MONITORS: usize = CLIENTS - 16;

/// Replies that wait for the daemon or for slow readers at a time; root's are not counted. A reply can be large.
pub(super) const REPLIES: usize = 8;
