//! Entries of maps that get their memory as they are made, which may come late.

use crate::kernel::error::{KernelError, map_error};
use aya::maps::MapError;
use aya::sys::SyscallError;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an entry is tried again. From Linux 6.1 on the kernel takes it from a small store of the CPU's, which
/// an interrupt refills (`bpf_mem_alloc` of `kernel/bpf/memalloc.c`; of tries from 6.13). Until that comes the
/// update ends with ENOMEM, whatever memory there is: on some machines at every few entries.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first wait; each is twice the one before.
const FIRST: Duration = Duration::from_micros(50);

/// Makes an entry of the map `name` by `write`, again and again where the kernel has no memory.
///
/// # Errors
/// That of the last attempt.
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
    fn memory_that_comes_late_is_waited_for() {
        let mut asked = 0;
        let result = insert_within(Duration::from_secs(60), || {
            asked += 1;
            if asked < 4 {
                refused(libc::ENOMEM)
            } else {
                Ok(())
            }
        });
        assert!(result.is_ok());
        assert_eq!(asked, 4);
    }

    #[test]
    fn memory_that_does_not_come_is_an_error() {
        let mut asked = 0;
        let result = insert_within(Duration::from_millis(2), || {
            asked += 1;
            refused(libc::ENOMEM)
        });
        assert!(result.is_err_and(|error| is_out_of_memory(&error)));
        assert!(asked > 1);
    }

    #[test]
    fn another_error_is_one_at_once() {
        let mut asked = 0;
        let result = insert_within(Duration::from_secs(60), || {
            asked += 1;
            refused(libc::E2BIG)
        });
        assert!(result.is_err());
        assert_eq!(asked, 1);
    }
}
