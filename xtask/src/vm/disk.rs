//! Guests with a disk: a whole Debian in which packages are installed, and which can reboot.

use super::guest::{GuestResult, GuestSpec};
use super::{
    accelerator, apt_sources, cache, initrd, kernel, modules, qemu, qemu_program, systemd,
};
use crate::{shell, tools};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a minimal Debian lacks for the tests.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,logrotate,passwd";

/// The size of a disk; what is not written takes no room.
const SIZE: &str = "2G";

/// The disk's driver, and what a machine loads by itself when portguard lists sockets.
const MODULES: [&str; 5] = [
    "virtio_pci",
    "virtio_blk",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
];

/// Files of the guest and their paths.
const FILES: [(&str, &str); 5] = [
    (
        "etc/systemd/system/guest.service",
        include_str!("systemd/guest.service"),
    ),
    (
        "etc/systemd/system/default.target",
        include_str!("systemd/default.target"),
    ),
    (
        "etc/systemd/system.conf",
        include_str!("systemd/system.conf"),
    ),
    ("guest.sh", include_str!("systemd/guest.sh")),
    // Without it this would be a first boot, at which systemd enables units and asks questions.
    ("etc/machine-id", "706f7274677561726467756573740002\n"),
];

/// Boots a guest from a disk with a fresh Debian, the files of the guest and its command.
pub(crate) fn boot(mut guest: GuestSpec) -> Result<GuestResult> {
    ensure!(
        shell::is_root(),
        "a disk with the files of a system, which belong to root, needs root: run it by sudo"
    );
    cache::lock()?;
    qemu_program::find().context("looking for QEMU")?;
    let kernel = kernel::fetch(&guest.series)?;
    let disk = disk(&guest)?;
    let files = init(&kernel)?;
    guest.disk = Some(disk);
    let accelerator = accelerator::choose(&kernel.image, &guest);
    qemu::boot(&kernel.image, &files, &guest, accelerator)
}

/// Makes the disk of a guest.
fn disk(guest: &GuestSpec) -> Result<PathBuf> {
    let suite = systemd::suite(&guest.series)?;
    let root = debian(&suite).with_context(|| format!("installing Debian {suite}"))?;
    let tree = cache::directory().join("tree").join("disk");
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(cache::directory().join("tree"))?;
    shell::run(shell::command("cp").arg("-a").arg(&root).arg(&tree))?;
    for (path, text) in FILES {
        fs::write(tree.join(path), text).with_context(|| format!("writing {path}"))?;
    }
    let command = format!("exec {}\n", shell::quoted_words(&guest.arguments));
    fs::write(tree.join("command"), command)?;
    initrd::busybox(&tree)?;
    for (from, to) in &guest.files {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().unwrap_or(&tree))?;
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
    }
    let disk = cache::directory().join(format!("{}.disk", guest.series));
    let _ = fs::remove_file(&disk);
    let mut mke2fs = shell::command("mke2fs");
    mke2fs
        .args(["-q", "-t", "ext4", "-d"])
        .arg(&tree)
        .arg(&disk);
    shell::run(mke2fs.arg(SIZE))?;
    fs::remove_dir_all(&tree)?;
    Ok(disk)
}

/// A minimal Debian of this suite, installed unless it is in the cache.
fn debian(suite: &str) -> Result<PathBuf> {
    let home = cache::directory().join("debian").join(suite);
    if home.is_dir() {
        return Ok(home);
    }
    tools::install_program("debootstrap", &["debootstrap"])?;
    let source = apt_sources::debian()
        .context("no source in /etc/apt is the Debian archive (a URI that ends in /debian)")?;
    let work = cache::directory()
        .join("fetch")
        .join(format!("debian-{suite}"));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mut debootstrap = shell::command("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]);
    shell::run(debootstrap.arg(&work).arg(&source.uri))?;
    let _ = fs::remove_dir_all(work.join("var/cache/apt/archives"));
    fs::create_dir_all(home.parent().unwrap_or(&home))?;
    fs::rename(&work, &home).with_context(|| format!("filling {}", home.display()))?;
    Ok(home)
}

/// Packs what mounts the disk.
fn init(kernel: &kernel::Kernel) -> Result<PathBuf> {
    let tree = cache::directory().join("tree").join("disk-init");
    let _ = fs::remove_dir_all(&tree);
    for directory in ["bin", "dev", "disk", "etc", "modules"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::write(tree.join("init"), include_str!("disk_init.sh"))?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    let libraries = initrd::busybox(&tree)?;
    ensure!(
        libraries.is_empty(),
        "busybox is not static: install busybox-static"
    );
    let order = modules::copy(&kernel.modules, &tree.join("modules"), &MODULES)?;
    fs::write(tree.join("etc/modules-load"), order.join("\n") + "\n")?;
    initrd::pack(&tree, &packed())
}

fn packed() -> PathBuf {
    Path::new(&cache::directory()).join("disk-init.cpio")
}
