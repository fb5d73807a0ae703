//! The programs of others: `portguard-ebpf/src/test_programs.rs`.

use anyhow::Context as _;
use aya::Ebpf;
use std::path::PathBuf;

/// Where their object may lie.
const OBJECTS: [&str; 2] = ["/lib/portguard/others.o", "target/ebpf/others.o"];

/// Loads their object: `PORTGUARD_OTHERS_OBJECT`, else that of a guest or of the build.
///
/// # Errors
/// Where there is none, or the kernel refuses it.
pub(crate) fn load() -> anyhow::Result<Ebpf> {
    let named = std::env::var_os("PORTGUARD_OTHERS_OBJECT").map(PathBuf::from);
    let usual = || OBJECTS.iter().map(PathBuf::from).find(|path| path.exists());
    let path = named
        .or_else(usual)
        .context("no object of the others' programs: set PORTGUARD_OTHERS_OBJECT")?;
    Ebpf::load_file(&path).with_context(|| path.display().to_string())
}
