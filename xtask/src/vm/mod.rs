//! Guests: a real kernel, a file system in memory and one command.

mod accelerator;
mod apt_sources;
pub(crate) mod cache;
mod debian_archive;
pub(crate) mod disk;
mod guest;
mod initrd;
pub(crate) mod kernel;
mod launch;
mod modules;
mod qemu;
mod qemu_program;
mod systemd;

pub(crate) use guest::{GuestResult, GuestSpec};
pub(crate) use launch::{boot, boot_all, download, prepare};
