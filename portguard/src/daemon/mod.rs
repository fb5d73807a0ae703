//! The running enforcer: one loop that reports decisions, answers requests and checks the hooks.

mod account_watcher;
mod confined_job;
mod error;
mod event_dispatch;
mod event_loop;
mod event_pump;
mod existing_sockets;
mod health;
mod options;
mod policy_job;
mod policy_saver;
mod policy_state;
mod policy_watcher;
mod process_usage;
mod pulse;
mod requests;
mod run;
mod signals;
mod state;

pub use error::DaemonError;
pub use options::{Ended, Fallback, FallbackKind, Options};
pub use run::run;
