//! The running kernel: what it can do, the programs in it, the maps, and the records that come out.
//!
//! The only module that names aya.

mod bpf_sys;
mod enforcer;
mod error;
mod maps;
mod object;
mod pins;
mod preflight;

pub use enforcer::{Counts, Enforcer, Hook, HookChoice};
pub use error::{KernelError, fix};
pub use maps::records::{FaultLog, Record, Records, parse_record, watch, watch_faults};
pub use object::load::{Features, GRANT_PROBE, Loaded, load_programs};
pub use pins::offline_status::pinned_status;
pub use pins::pin_directory::{PINS, PinError, Pins};
pub use preflight::btf::{Btf, BtfError};
pub use preflight::environment::{Condition, Environment, Severity, can_grant, release_text};
pub use preflight::offsets::{OffsetError, Offsets};
pub use preflight::other_programs::{BindProgram, bind_programs};

/// The eBPF object, as `cargo xtask build` compiled it.
pub const fn object() -> Result<&'static [u8], KernelError> {
    #[cfg(ebpf_object)]
    return Ok(aya::include_bytes_aligned!(env!("PORTGUARD_EBPF_OBJECT")));
    #[cfg(not(ebpf_object))]
    return Err(KernelError::NoObject);
}
