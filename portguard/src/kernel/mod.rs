//! The running kernel: what it offers, the programs in it, their maps, and the records that they write.
//!
//! The only module that names aya.

mod bpf_sys;
mod enforcer;
mod error;
mod install;
mod maps;
mod object;
mod pin_error;
mod pins;
mod preflight;

pub use enforcer::Enforcer;
pub use error::{BtfError, KernelError, OffsetError, fix_for};
pub use maps::aggregates::Aggregated;
pub use maps::counters::Counts;
pub use maps::records::{FaultLog, Record, Records, parse_record, watch, watch_faults};
pub use object::embedded::{object, object_condition};
pub use object::hook::{Features, Hook, HookChoice};
pub use object::load::{GRANT_PROBE, Loaded, load_programs};
pub use pin_error::PinError;
pub use pins::offline_status::pinned_status;
pub use pins::pin_condition::pins_condition;
pub use pins::pin_directory::Pins;
pub use pins::pin_paths::{BPFFS, PINS};
pub use preflight::btf::Btf;
pub use preflight::condition::{Condition, Severity};
pub use preflight::environment::{Environment, can_grant, release_text};
pub use preflight::local_ports::local_ports;
pub use preflight::namespaces::INITIAL_USER_NAMESPACE;
pub use preflight::offsets::Offsets;
pub use preflight::other_programs::{BindHook, BindProgram, bind_programs};
