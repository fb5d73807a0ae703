//! Why the daemon stops other than by a signal.

use crate::kernel::KernelError;
use crate::metrics::MetricsError;
use std::io;
use thiserror::Error;

/// Why the daemon stopped other than by a signal.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The metrics' address.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Too few descriptors to start with.
    #[error("cannot open the descriptors that the event loop needs: {0}")]
    Descriptors(#[source] io::Error),
    /// The system refused a thread, a signal handler or a descriptor.
    #[error("cannot {what}: {source}")]
    System {
        /// The failed step.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// The error of a failed step.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_errors_name_the_failed_step() {
        let refused = || io::Error::from_raw_os_error(libc::EMFILE);
        assert_eq!(
            DaemonError::Descriptors(refused()).to_string(),
            "cannot open the descriptors that the event loop needs: Too many open files (os error 24)"
        );
        assert_eq!(
            system("handle SIGHUP")(refused()).to_string(),
            "cannot handle SIGHUP: Too many open files (os error 24)"
        );
    }
}
