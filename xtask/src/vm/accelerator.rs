//! Chooses between KVM and software emulation.
//!
//! /dev/kvm proves little: where the host of this machine emulates it, virtual machines can be created and run
//! instructions, but no kernel boots. So KVM is used for a kernel only after a guest with that kernel has booted
//! and ended well.

use super::guest::GuestSpec;
use super::qemu::{self, Accelerator, MARKER};
use super::{cache, initrd};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const DEVICE: &str = "/dev/kvm";

/// How long the guest of the probe may take; with KVM it takes a second or two.
const LIMIT: Duration = Duration::from_secs(10);

/// What the probes have found.
#[derive(Default)]
struct Probed {
    /// Kernels that boot with KVM.
    working: BTreeSet<String>,
    /// KVM has failed once, and is not tried again.
    failed: bool,
}

/// The accelerator for a guest with this kernel.
pub(super) fn choose(image: &Path, guest: &GuestSpec) -> Accelerator {
    static PROBED: Mutex<Option<Probed>> = Mutex::new(None);
    if guest.counting {
        // Only the translator counts instructions.
        return Accelerator::Tcg;
    }
    let mut probed = PROBED.lock().unwrap_or_else(PoisonError::into_inner);
    let probed = probed.get_or_insert_default();
    if probed.failed {
        return Accelerator::Tcg;
    }
    if probed.working.contains(&guest.series) {
        return Accelerator::Kvm;
    }
    match probe(image, &guest.series) {
        Ok(()) => {
            eprintln!("xtask: KVM works with kernel {}", guest.series);
            probed.working.insert(guest.series.clone());
            Accelerator::Kvm
        }
        Err(error) => {
            probed.failed = true;
            eprintln!(
                "xtask: WARNING: KVM is not usable ({error:#}).\n\
                 xtask: WARNING: guests are emulated in software, which is several times slower."
            );
            Accelerator::Tcg
        }
    }
}

/// Boots a guest that does nothing, with KVM.
fn probe(image: &Path, series: &str) -> Result<()> {
    let device = fs::OpenOptions::new().read(true).write(true).open(DEVICE);
    device.with_context(|| format!("opening {DEVICE}"))?;
    let mut guest = GuestSpec::new(series, "kvm-probe", &[]);
    guest.limit = LIMIT;
    let result = qemu::boot(image, &files()?, &guest, Accelerator::Kvm)?;
    match result.failure {
        None => Ok(()),
        Some(failure) => Err(anyhow::Error::msg(failure))
            .with_context(|| format!("a guest with kernel {series} does not boot")),
    }
}

/// The files of the probe's guest: a first process that prints its success.
fn files() -> Result<PathBuf> {
    let tree = cache::directory().join("tree/kvm-probe");
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(tree.join("bin")).context("creating the files of the KVM probe")?;
    initrd::busybox(&tree)?;
    let init = tree.join("init");
    let script = format!("#!/bin/busybox sh\necho '{MARKER}0'\n/bin/busybox poweroff -f\n");
    fs::write(&init, script).context("writing the init of the KVM probe")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    initrd::pack(&tree, &cache::directory().join("kvm-probe.cpio"))
}
