//! BPF objects of the tests: `test_programs.rs` and `decide_test.rs` of `portguard-ebpf/src`.

use anyhow::Context as _;
use aya::{Ebpf, EbpfLoader};
use std::path::PathBuf;

/// The directories of the objects: in a guest, in the build.
const DIRECTORIES: [&str; 2] = ["/lib/portguard", "target/ebpf"];

/// Loads the foreign programs: `PORTGUARD_OTHERS_OBJECT`, else the object of a guest or of the build.
pub(crate) fn load() -> anyhow::Result<Ebpf> {
    load_by(&mut EbpfLoader::new())
}

/// The same; a map has this many entries.
pub(crate) fn load_with_entries(map: &str, entries: u32) -> anyhow::Result<Ebpf> {
    load_by(EbpfLoader::new().map_max_entries(map, entries))
}

fn load_by(loader: &mut EbpfLoader<'_>) -> anyhow::Result<Ebpf> {
    let path = match std::env::var_os("PORTGUARD_OTHERS_OBJECT") {
        Some(named) => PathBuf::from(named),
        None => object("others.o").context("set PORTGUARD_OTHERS_OBJECT")?,
    };
    loader
        .load_file(&path)
        .with_context(|| path.display().to_string())
}

/// The path of an object.
pub(crate) fn object(name: &str) -> anyhow::Result<PathBuf> {
    let mut paths = DIRECTORIES
        .iter()
        .map(|directory| PathBuf::from(directory).join(name));
    paths
        .find(|path| path.exists())
        .with_context(|| format!("no {name} in {}", DIRECTORIES.join(" or ")))
}
