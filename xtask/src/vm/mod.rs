//! Guests: a real kernel, a file system in memory, one command, and its end.

mod archive;
mod emulator;
mod initrd;
pub(crate) mod kernel;
mod modules;
mod qemu;
mod sources;
mod systemd;

use crate::{report, setup, shell};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A guest to boot.
pub(crate) struct Boot {
    /// Its kernel.
    pub(crate) series: String,
    /// Tells this guest's files from those of others with the same kernel.
    pub(crate) name: String,
    /// What it runs.
    pub(crate) arguments: Vec<String>,
    /// Further files and directories, and where they go.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether its LSMs are to include BPF.
    pub(crate) bpf_lsm: bool,
    /// Whether systemd is its first process, and starts portguard by the shipped unit.
    pub(crate) systemd: bool,
    /// Whether its clock is to count instructions, on one CPU.
    pub(crate) counting: bool,
    /// Whether to print the console as it comes.
    pub(crate) live: bool,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl Boot {
    /// A guest that runs portguard-itest with these arguments.
    pub(crate) fn new(series: &str, name: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["/bin/portguard-itest".to_owned()];
        all.extend(arguments.iter().map(ToString::to_string));
        Self {
            series: series.to_owned(),
            name: name.to_owned(),
            arguments: all,
            files: Vec::new(),
            bpf_lsm: true,
            systemd: false,
            counting: false,
            live: false,
            limit: qemu::LIMIT,
        }
    }

    /// Adds arguments that portguard-itest hands on.
    pub(crate) fn after_dashes(&mut self, arguments: &[String]) {
        if !arguments.is_empty() {
            self.arguments.push("--".to_owned());
            self.arguments.extend_from_slice(arguments);
        }
    }
}

/// What became of a guest.
pub(crate) struct Ended {
    /// All that came over its console.
    pub(crate) output: String,
    /// Why it counts as failed.
    pub(crate) failure: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// What all guests of one kernel have in common.
#[derive(Clone)]
pub(crate) struct Prepared {
    image: PathBuf,
    files: PathBuf,
}

/// Waits until no other xtask uses target/vm; it stays this one's until the process ends.
pub(crate) fn alone() -> Result<()> {
    static HELD: Mutex<Option<File>> = Mutex::new(None);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(directory()).context("making target/vm")?;
    let file = File::create(directory().join("lock")).context("opening target/vm/lock")?;
    if file.try_lock().is_err() {
        eprintln!("xtask: waiting for another xtask with guests of its own");
        file.lock().context("locking target/vm/lock")?;
    }
    *held = Some(file);
    Ok(())
}

/// Fetches a kernel and packs its guests' files, once a run.
pub(crate) fn prepare(series: &str, systemd: bool) -> Result<Prepared> {
    static DONE: Mutex<BTreeMap<(String, bool), Prepared>> = Mutex::new(BTreeMap::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(prepared) = done.get(&(series.to_owned(), systemd)) {
        return Ok(prepared.clone());
    }
    alone()?;
    emulator::find().context("looking for QEMU")?;
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
pub(crate) fn boot(boot: &Boot) -> Result<Ended> {
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
pub(crate) fn boot_all(boots: &[Boot]) -> Vec<Result<Ended>> {
    let next = AtomicUsize::new(0);
    let bar = report::progress(format!("{} guests, two at a time", boots.len()));
    let done: Mutex<Vec<(usize, Result<Ended>)>> = Mutex::new(Vec::new());
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
fn show(guest: &Boot, ended: &Result<Ended>) {
    println!(
        "\n== guest {} {}: {}",
        guest.series,
        guest.name,
        shell::words(&guest.arguments)
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

/// The verb `guest`: any command in a guest, with what has been built.
pub(crate) fn shell_command(series: &str, systemd: bool, arguments: &[String]) -> Result<ExitCode> {
    setup::for_guests()?;
    let mut guest = Boot::new(series, "guest", &[]);
    guest.arguments = arguments.to_vec();
    guest.systemd = systemd;
    guest.live = true;
    let ended = boot(&guest)?;
    eprintln!("xtask: {:.1} s", ended.seconds);
    Ok(if ended.failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The verb `soak`.
pub(crate) fn soak(series: &str, minutes: u32) -> Result<ExitCode> {
    crate::build::everything()?;
    setup::for_guests()?;
    let mut guest = Boot::new(series, "soak", &["soak", "--minutes", &minutes.to_string()]);
    guest.live = true;
    guest.limit += Duration::from_secs(u64::from(minutes) * 60);
    let ended = boot(&guest)?;
    Ok(if ended.failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where guests' files are kept.
fn directory() -> PathBuf {
    shell::path("target/vm")
}
