//! Runs one guest in QEMU until it ends or its time limit is over.

use super::guest::{GuestResult, GuestSpec};
use super::qemu_program;
use crate::shell;
use anyhow::{Context, Result};
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

/// The CPUs of a guest.
const CPUS: &str = "2";

/// The memory of a guest, in MiB.
pub(super) const MEMORY: u64 = 1024;

/// What /init prints at the end, before the exit code.
pub(super) const MARKER: &str = "portguard-guest-exit: ";

/// What executes the instructions of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The CPU of this machine.
    Kvm,
    /// QEMU's translator, which every machine can run.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// Boots a kernel and waits for the end of its guest.
pub(super) fn boot(
    image: &Path,
    files: &Path,
    guest: &GuestSpec,
    accelerator: Accelerator,
) -> Result<GuestResult> {
    let mut qemu = command(image, files, guest, accelerator)?;
    shell::print(&qemu);
    let started = Instant::now();
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = qemu.spawn().context("starting qemu-system-x86_64")?;
    let stdout = child.stdout.take().context("QEMU has no console")?;
    let (output, in_time) = collect(&reader(stdout), started + guest.limit, guest.live);
    if !in_time {
        child.kill().context("stopping QEMU")?;
    }
    let status = child.wait().context("waiting for QEMU")?;
    let output = String::from_utf8_lossy(&output).replace('\r', "");
    let failure = if !in_time {
        Some(format!("not done after {} s", guest.limit.as_secs()))
    } else if !status.success() {
        Some(format!("QEMU failed: {status}"))
    } else {
        failure(&output)
    };
    Ok(GuestResult {
        output,
        failure,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn command(
    image: &Path,
    files: &Path,
    guest: &GuestSpec,
    accelerator: Accelerator,
) -> Result<Command> {
    let mut qemu = qemu_program::find()?.command();
    match accelerator {
        Accelerator::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Tcg => qemu.args(["-accel", "tcg", "-cpu", emulated_cpu(guest)]),
    };
    qemu.args(["-m", &MEMORY.to_string(), "-nodefaults", "-nic", "none"]);
    qemu.args(["-display", "none", "-serial", "stdio", "-monitor", "none"]);
    match &guest.disk {
        Some(disk) => qemu.args([
            "-drive",
            &format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()),
        ]),
        None => qemu.arg("-no-reboot"),
    };
    if guest.counting {
        qemu.args(["-icount", "shift=0,sleep=off", "-smp", "1"]);
    } else {
        qemu.args(["-smp", CPUS]);
    }
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(files);
    let lsm = if guest.bpf_lsm {
        "landlock,lockdown,yama,bpf"
    } else {
        "landlock,lockdown,yama"
    };
    // Without the check of the timer: on a busy host ticks come late, and the kernel would panic.
    let mut append = format!("console=ttyS0 quiet panic=-1 no_timer_check lsm={lsm}");
    // The figures of a counting guest are compared with recorded ones, of a kernel as it is delivered.
    if !guest.counting {
        append = format!("{append} {CHEAPER}");
    }
    qemu.args(["-append", &append]);
    Ok(qemu)
}

/// Without what Debian's kernels do against bugs of their own, and what no test is about: they zero each page that they
/// hand out, which was a quarter of the time that verifying the programs takes.
const CHEAPER: &str = "init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off kfence.sample_interval=0 audit=0";

/// The processor that is emulated: a plain one, with which a guest takes a tenth to a fifth less time than with all that
/// QEMU knows. It lacks `erms` and `fsrm`, for which the kernel copies by `rep movsb`, emulated byte by byte; vectors of
/// AVX; and the states of these that are saved at each switch. The figures of a counting guest are compared with
/// recorded ones, of all that QEMU knows.
const fn emulated_cpu(guest: &GuestSpec) -> &'static str {
    if guest.counting { "max" } else { "qemu64" }
}

/// Reads in a thread, so that the caller can stop waiting.
fn reader(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stdout.read(&mut buffer) {
            let part = buffer.get(..length).unwrap_or_default().to_vec();
            if sender.send(part).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The output until its end; the flag is whether that came before the deadline.
fn collect(parts: &Receiver<Vec<u8>>, deadline: Instant, live: bool) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match parts.recv_timeout(left) {
            Ok(part) => {
                if live {
                    let mut stdout = std::io::stdout().lock();
                    // A closed terminal does not stop the guest.
                    let _ = stdout.write_all(&part).and_then(|()| stdout.flush());
                }
                all.extend(part);
            }
            Err(RecvTimeoutError::Disconnected) => return (all, true),
            Err(RecvTimeoutError::Timeout) => return (all, false),
        }
    }
}

/// Why a guest with this console output failed.
fn failure(output: &str) -> Option<String> {
    if let Some(line) = output.lines().find(|line| line.contains("Kernel panic")) {
        return Some(line.trim().to_owned());
    }
    let Some((_, code)) = output.rsplit_once(MARKER) else {
        return Some("the guest ended without an exit code of its command".to_owned());
    };
    let code: String = code.chars().take_while(char::is_ascii_digit).collect();
    (code != "0").then(|| format!("the command of the guest failed with exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn failure_is_none_for_exit_code_zero_only() {
        assert_eq!(failure("hello\nportguard-guest-exit: 0\n"), None);
        assert_eq!(
            failure("hello\nportguard-guest-exit: 0\n[ 3.1] reboot: Power down\n"),
            None
        );
        let failed = failure("portguard-guest-exit: 101\n");
        assert_eq!(
            failed.as_deref(),
            Some("the command of the guest failed with exit code 101")
        );
        let unfinished = failure("hello\n");
        assert_eq!(
            unfinished.as_deref(),
            Some("the guest ended without an exit code of its command")
        );
        assert!(failure("").is_some());
        assert!(failure("portguard-guest-exit: ").is_some());
    }

    #[test]
    fn failure_is_a_panic_even_after_exit_code_zero() {
        let output = "portguard-guest-exit: 0\n[ 1.0] Kernel panic - not syncing: x\n";
        assert!(failure(output).is_some_and(|failure| failure.contains("not syncing")));
    }

    #[test]
    fn collect_stops_at_the_deadline() {
        let (sender, receiver) = mpsc::channel();
        assert!(sender.send(b"a".to_vec()).is_ok());
        assert!(!collect(&receiver, Instant::now(), false).1);
        drop(sender);
        assert!(collect(&receiver, Instant::now() + Duration::from_secs(60), false).1);
    }
}
