//! Prepares guests and boots them, as many at once as the machine has room for.

use super::guest::{GuestResult, GuestSpec};
use super::{accelerator, cache, initrd, kernel, qemu, qemu_program, systemd};
use crate::build::Profile;
use crate::{report, shell};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What all guests of one kernel have in common.
#[derive(Clone)]
pub(crate) struct Prepared {
    image: PathBuf,
    files: PathBuf,
}

/// Downloads what guests are made of, but packs nothing: this needs no program of this repository.
pub(crate) fn download(guests: &[GuestSpec]) -> Result<()> {
    cache::lock()?;
    qemu_program::find().context("looking for QEMU")?;
    for guest in guests {
        kernel::fetch(&guest.series)?;
        if guest.systemd {
            systemd::fetch(&guest.series)?;
        }
    }
    Ok(())
}

/// Downloads a kernel and packs the files of its guests, once per run.
pub(crate) fn prepare(guest: &GuestSpec) -> Result<Prepared> {
    static DONE: Mutex<BTreeMap<(String, bool, Profile), Prepared>> = Mutex::new(BTreeMap::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let series = &guest.series;
    let key = (series.clone(), guest.systemd, guest.profile);
    if let Some(prepared) = done.get(&key) {
        return Ok(prepared.clone());
    }
    cache::lock()?;
    qemu_program::find().context("looking for QEMU")?;
    let kernel = kernel::fetch(series).with_context(|| format!("fetching kernel {series}"))?;
    let files = if guest.systemd {
        systemd::common(series, &kernel, guest.profile)
    } else {
        initrd::common(series, &kernel, guest.profile)
    };
    let files = files.with_context(|| format!("packing the files of guests with {series}"))?;
    let prepared = Prepared {
        image: kernel.image,
        files,
    };
    done.insert(key, prepared.clone());
    Ok(prepared)
}

/// Boots a guest and waits for its end.
pub(crate) fn boot(guest: &GuestSpec) -> Result<GuestResult> {
    let prepared = prepare(guest)?;
    let files =
        initrd::with_command(&prepared.files, guest).context("packing the command of the guest")?;
    let accelerator = accelerator::choose(&prepared.image, guest);
    let result = qemu::boot(&prepared.image, &files, guest, accelerator)?;
    if let (true, Some(failure)) = (guest.live, &result.failure) {
        eprintln!("xtask: guest {}: {failure}", guest.series);
    }
    Ok(result)
}

/// Boots guests, some at once, and prints the console of each at its end.
pub(crate) fn boot_all(guests: &[GuestSpec]) -> Vec<Result<GuestResult>> {
    let at_once = at_once().min(guests.len());
    let next = AtomicUsize::new(0);
    let bar = report::progress(format!("{} guests, {at_once} at once", guests.len()));
    let done: Mutex<Vec<(usize, Result<GuestResult>)>> = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(guest) = guests.get(at) else {
                break;
            };
            let result = boot(guest);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            bar.suspend(|| print(guest, &result));
            done.push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(worker);
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Prints the console and the result of a guest.
fn print(guest: &GuestSpec, result: &Result<GuestResult>) {
    let name = format!("guest {} {}", guest.series, guest.name);
    println!("\n== {name}: {}", shell::quoted_words(&guest.arguments));
    match result {
        Ok(result) => {
            println!("{}", result.output.trim_end());
            let failure = result.failure.as_deref().unwrap_or("ok");
            println!("== {name}: {failure}, {:.1} s", result.seconds);
        }
        Err(error) => println!("== {name}: {error:#}"),
    }
}

/// How many guests this machine has room for.
fn at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    room(cores, available_mib(&memory))
}

/// One guest per core: the tests in a guest run one after the other, so that it seldom uses its second CPU. And
/// not more than three quarters of the free memory, of which QEMU takes half a guest's beside it.
fn room(cores: usize, available_mib: Option<u64>) -> usize {
    let each = qemu::MEMORY * 3 / 2;
    let by_memory = available_mib.map_or(1, |available| available * 3 / 4 / each);
    cores.min(usize::try_from(by_memory).unwrap_or(1)).max(1)
}

/// The available memory in the text of /proc/meminfo, in MiB.
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_by_cores_and_memory() {
        assert_eq!(room(2, Some(24_000)), 2);
        assert_eq!(room(64, Some(24_000)), 11);
        assert_eq!(room(8, Some(1_000)), 1);
        assert_eq!(room(8, None), 1);
    }

    #[test]
    fn available_mib_is_read_from_meminfo() {
        let meminfo = "MemTotal:       24599680 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(available_mib(meminfo), Some(20_000));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
    }
}
