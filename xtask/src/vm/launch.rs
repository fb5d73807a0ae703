//! Prepares guests and boots them.

use super::guest::{GuestResult, GuestSpec};
use super::{cache, initrd, kernel, qemu, qemu_program, systemd};
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

/// Fetches a kernel and packs its guests' files, once a run.
pub(crate) fn prepare(series: &str, systemd: bool) -> Result<Prepared> {
    static DONE: Mutex<BTreeMap<(String, bool), Prepared>> = Mutex::new(BTreeMap::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(prepared) = done.get(&(series.to_owned(), systemd)) {
        return Ok(prepared.clone());
    }
    cache::lock()?;
    qemu_program::find().context("looking for QEMU")?;
    let kernel = kernel::fetch(series).with_context(|| format!("fetching a kernel {series}"))?;
    let files = if systemd {
        systemd::common(series, &kernel)
    } else {
        initrd::common(series, &kernel)
    };
    let files = files.with_context(|| format!("packing the files of guests with {series}"))?;
    let prepared = Prepared {
        image: kernel.image,
        files,
    };
    done.insert((series.to_owned(), systemd), prepared.clone());
    Ok(prepared)
}

/// Boots a guest and waits for its end.
pub(crate) fn boot(boot: &GuestSpec) -> Result<GuestResult> {
    let prepared = prepare(&boot.series, boot.systemd)?;
    let files =
        initrd::with_command(&prepared.files, boot).context("packing the guest's command")?;
    let ended = qemu::boot(&prepared.image, &files, boot)?;
    if let (true, Some(failure)) = (boot.live, &ended.failure) {
        eprintln!("xtask: guest {}: {failure}", boot.series);
    }
    Ok(ended)
}

/// Boots guests, two at a time, and prints the console of each when it is done.
pub(crate) fn boot_all(boots: &[GuestSpec]) -> Vec<Result<GuestResult>> {
    let next = AtomicUsize::new(0);
    let bar = report::progress(format!("{} guests, two at a time", boots.len()));
    let done: Mutex<Vec<(usize, Result<GuestResult>)>> = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(guest) = boots.get(at) else {
                break;
            };
            let ended = boot(guest);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            bar.suspend(|| show(guest, &ended));
            done.push((at, ended));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, ended)| ended).collect()
}

/// Prints what became of a guest.
fn show(guest: &GuestSpec, ended: &Result<GuestResult>) {
    println!(
        "\n== guest {} {}: {}",
        guest.series,
        guest.name,
        shell::quoted_words(&guest.arguments)
    );
    match ended {
        Ok(ended) => {
            println!("{}", ended.output.trim_end());
            let result = ended.failure.as_deref().unwrap_or("ok");
            println!(
                "== guest {} {}: {result}, {:.1} s",
                guest.series, guest.name, ended.seconds
            );
        }
        Err(error) => println!("== guest {} {}: {error:#}", guest.series, guest.name),
    }
}
