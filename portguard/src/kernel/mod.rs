//! The running kernel: what it can do, the programs in it, the maps, and the records that come out.
//!
//! The only module that names aya.

mod bpf;
mod btf;
mod counts;
mod enforcer;
mod entries;
mod environment;
mod error;
mod folds;
mod foreign;
mod image;
mod install;
mod links;
mod maps;
mod meta;
mod offsets;
mod pinned;
mod pins;
mod programs;
mod records;
mod securityfs;
mod wire;

pub use btf::{Btf, BtfError};
pub use enforcer::{Counts, Enforcer, Hook, HookChoice};
pub use environment::{Condition, Environment, Severity, can_grant, release_text};
pub use error::{KernelError, mend};
pub use foreign::{BindProgram, bind_programs};
pub use offsets::{OffsetError, Offsets};
pub use pinned::pinned_status;
pub use pins::{PINS, PinError, Pins};
pub use programs::{Features, GRANT_PROBE, Loaded, load_programs};
pub use records::{FaultLog, Record, Records, parse_record, watch, watch_faults};

/// The eBPF object, as `cargo xtask build` compiled it.
pub const fn object() -> Result<&'static [u8], KernelError> {
    #[cfg(ebpf_object)]
    return Ok(aya::include_bytes_aligned!(env!("PORTGUARD_EBPF_OBJECT")));
    #[cfg(not(ebpf_object))]
    return Err(KernelError::NoObject);
}
