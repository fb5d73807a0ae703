//! QEMU, by software emulation: no machine has to allow more.

use super::guest::{GuestResult, GuestSpec};
use super::qemu_program;
use crate::shell;
use anyhow::{Context, Result};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

/// What /init says at the end, before the exit code.
const MARKER: &str = "portguard-guest-exit: ";

/// Boots a kernel and waits for the end of its guest.
pub(super) fn boot(image: &Path, files: &Path, boot: &GuestSpec) -> Result<GuestResult> {
    let mut qemu = command(image, files, boot)?;
    shell::print(&qemu);
    let started = Instant::now();
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = qemu.spawn().context("running qemu-system-x86_64")?;
    let stdout = child.stdout.take().context("QEMU has no console")?;
    let (output, in_time) = collect(&reader(stdout), started + boot.limit, boot.live);
    if !in_time {
        child.kill().context("stopping QEMU")?;
    }
    let status = child.wait().context("waiting for QEMU")?;
    let output = String::from_utf8_lossy(&output).replace('\r', "");
    let failure = if !in_time {
        Some(format!("not done after {} s", boot.limit.as_secs()))
    } else if !status.success() {
        Some(format!("QEMU ended with {status}"))
    } else {
        judge(&output)
    };
    Ok(GuestResult {
        output,
        failure,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn command(image: &Path, files: &Path, boot: &GuestSpec) -> Result<Command> {
    let mut qemu = qemu_program::find()?.command();
    qemu.args([
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "1024",
        "-nodefaults",
        "-nic",
        "none",
    ]);
    qemu.args([
        "-display",
        "none",
        "-serial",
        "stdio",
        "-monitor",
        "none",
        "-no-reboot",
    ]);
    if boot.counting {
        qemu.args(["-icount", "shift=0,sleep=off", "-smp", "1"]);
    } else {
        qemu.args(["-smp", "2"]);
    }
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(files);
    let lsm = if boot.bpf_lsm {
        "landlock,lockdown,yama,bpf"
    } else {
        "landlock,lockdown,yama"
    };
    qemu.args([
        "-append",
        // Without its check of the timer: where the host is busy, ticks come late, and the kernel panics.
        &format!("console=ttyS0 quiet panic=-1 no_timer_check lsm={lsm}"),
    ]);
    Ok(qemu)
}

/// Reads in a thread of its own, so that waiting for it can end.
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

/// What comes until the end; the flag says whether that was before the deadline.
fn collect(parts: &Receiver<Vec<u8>>, deadline: Instant, live: bool) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match parts.recv_timeout(left) {
            Ok(part) => {
                if live {
                    let mut stdout = std::io::stdout().lock();
                    // A console nobody reads any more does not stop the guest.
                    let _ = stdout.write_all(&part).and_then(|()| stdout.flush());
                }
                all.extend(part);
            }
            Err(RecvTimeoutError::Disconnected) => return (all, true),
            Err(RecvTimeoutError::Timeout) => return (all, false),
        }
    }
}

/// Why a guest with this console output failed, if it did.
fn judge(output: &str) -> Option<String> {
    if let Some(line) = output.lines().find(|line| line.contains("Kernel panic")) {
        return Some(line.trim().to_owned());
    }
    let Some((_, code)) = output.rsplit_once(MARKER) else {
        return Some("it ended without a word of its command's end".to_owned());
    };
    let code: String = code.chars().take_while(char::is_ascii_digit).collect();
    (code != "0").then(|| format!("its command ended with {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_a_command_that_succeeded_is_a_success() {
        assert_eq!(judge("hello\nportguard-guest-exit: 0\n"), None);
        assert_eq!(
            judge("hello\nportguard-guest-exit: 0\n[ 3.1] reboot: Power down\n"),
            None
        );
        let failed = judge("portguard-guest-exit: 101\n");
        assert_eq!(failed.as_deref(), Some("its command ended with 101"));
        assert!(judge("hello\n").is_some());
        assert!(judge("").is_some());
        assert!(judge("portguard-guest-exit: ").is_some());
    }

    #[test]
    fn a_panic_is_a_failure_whatever_else_was_said() {
        let output = "portguard-guest-exit: 0\n[ 1.0] Kernel panic - not syncing: x\n";
        assert!(judge(output).is_some_and(|failure| failure.contains("not syncing")));
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let (sender, receiver) = mpsc::channel();
        assert!(sender.send(b"a".to_vec()).is_ok());
        assert!(!collect(&receiver, Instant::now(), false).1);
        drop(sender);
        assert!(collect(&receiver, Instant::now() + Duration::from_secs(60), false).1);
    }
}
