//! Hands the compiled eBPF object to the crate, which embeds it.
//!
//! Without one the crate still builds, so that `cargo check`, `cargo test` and editors work in a clean clone;
//! what needs the programs then fails at its start and says so. `cargo xtask build` always names the
//! object by `PORTGUARD_EBPF_OBJECT`, and a named object that is missing fails the build.

use std::path::{Path, PathBuf};

/// Names the object.
const VARIABLE: &str = "PORTGUARD_EBPF_OBJECT";

fn main() {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    println!("cargo:rustc-check-cfg=cfg(ebpf_object)");
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let object = named.clone().unwrap_or_else(built_by_xtask);
    println!("cargo:rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(path) => {
            println!("cargo:rustc-cfg=ebpf_object");
            println!("cargo:rustc-env={VARIABLE}={}", path.display());
        }
        Err(error) if named.is_some() => {
            println!(
                "cargo:error=no eBPF object at {} ({error}), which {VARIABLE} names: run `cargo xtask build`",
                object.display()
            );
            std::process::exit(1);
        }
        Err(_) => println!(
            "cargo:warning=building without eBPF programs: `portguard run` will not work (`cargo xtask build` makes them)"
        ),
    }
}

/// Where `cargo xtask build` puts the object.
fn built_by_xtask() -> PathBuf {
    // At run time: cargo runs the same build script in a copy of a checkout, whose object is its own.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    Path::new(&manifest).join("../target/ebpf/portguard.o")
}
