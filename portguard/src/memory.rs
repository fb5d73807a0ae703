//! Memory that a start or a reload needed and the daemon does not: given back, since it may then run for a year.

/// Gives free memory back to the system. The allocator keeps it otherwise, for a next time that may be months
/// away.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches only memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}
