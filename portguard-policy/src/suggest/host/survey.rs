//! What an inspection of a host finds.

use crate::suggest::demand::Demand;

/// The last port that the kernel reserves for root where no sysctl changes that.
pub(super) const PRIVILEGED: u16 = 1023;

/// What an inspection of a host finds.
#[derive(Debug, Default)]
pub struct Survey {
    /// Binds that must stay allowed.
    pub demands: Vec<Demand>,
    /// Comments, in order: what was found, and how to revoke the old right.
    pub notes: Vec<String>,
}
