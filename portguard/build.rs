//! Hands the compiled eBPF object to the crate, which embeds it.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=PORTGUARD_EBPF_OBJECT");
    let object = match std::env::var_os("PORTGUARD_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/portguard.o"),
    };
    println!("cargo:rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(path) => println!("cargo:rustc-env=PORTGUARD_EBPF_OBJECT={}", path.display()),
        Err(error) => {
            println!(
                "cargo:error=no eBPF object at {} ({error}): build it with `cargo xtask build`",
                object.display()
            );
            std::process::exit(1);
        }
    }
}
