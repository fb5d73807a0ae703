//! Inserts map entries, retrying while the kernel refills its memory for them.

use crate::kernel::error::{KernelError, map_error};
use aya::maps::MapError;
use aya::sys::SyscallError;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an insert is retried. From Linux 6.1 on (tries from 6.13) the kernel takes the memory from a small cache
/// per CPU, which an interrupt refills (`bpf_mem_alloc` of `kernel/bpf/memalloc.c`). Until then the update fails with
/// ENOMEM however much memory is free: on some machines every few entries.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first wait; each is twice the one before.
const FIRST: Duration = Duration::from_micros(50);

/// Makes an entry of the map `name` by `write`, and retries while the kernel reports no memory. The error is that of
/// the last attempt.
pub(in crate::kernel) fn insert(
    name: &'static str,
    write: impl FnMut() -> Result<(), MapError>,
) -> Result<(), KernelError> {
    insert_within(PATIENCE, write).map_err(map_error(name))
}

fn insert_within(
    patience: Duration,
    mut write: impl FnMut() -> Result<(), MapError>,
) -> Result<(), MapError> {
    let mut wait = FIRST;
    let mut until = None;
    loop {
        match write() {
            Err(error) if is_out_of_memory(&error) => {
                let now = Instant::now();
                if now >= *until.get_or_insert(now + patience) {
                    return Err(error);
                }
            }
            result => return result,
        }
        sleep(wait);
        wait *= 2;
    }
}

fn is_out_of_memory(error: &MapError) -> bool {
    match error {
        MapError::SyscallError(SyscallError { io_error, .. }) => {
            io_error.raw_os_error() == Some(libc::ENOMEM)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn refused(number: i32) -> Result<(), MapError> {
        Err(MapError::SyscallError(SyscallError {
            call: "bpf_map_update_elem",
            io_error: io::Error::from_raw_os_error(number),
        }))
    }

    #[test]
    fn insert_retries_until_memory_is_refilled() {
        let mut attempts = 0;
        let result = insert_within(Duration::from_secs(60), || {
            attempts += 1;
            if attempts < 4 {
                refused(libc::ENOMEM)
            } else {
                Ok(())
            }
        });
        assert!(result.is_ok());
        assert_eq!(attempts, 4);
    }

    #[test]
    fn insert_fails_when_memory_stays_short() {
        let mut attempts = 0;
        let result = insert_within(Duration::from_millis(2), || {
            attempts += 1;
            refused(libc::ENOMEM)
        });
        assert!(result.is_err_and(|error| is_out_of_memory(&error)));
        assert!(attempts > 1);
    }

    #[test]
    fn insert_returns_other_errors_at_once() {
        let mut attempts = 0;
        let result = insert_within(Duration::from_secs(60), || {
            attempts += 1;
            refused(libc::E2BIG)
        });
        assert!(result.is_err());
        assert_eq!(attempts, 1);
    }
}
