//! The attack suite: every actor by every entry point, foreign programs, and ports that need no bind.

mod actors;
mod entry_points;
mod foreign_programs;
mod kernel_binds;
mod limits;
mod local_ports;
mod matrix;
mod policy;
mod run_actor;
mod stage;
mod storm;

pub use limits::{Limit, OUT_OF_SCOPE};
pub use run_actor::run as run_actor;
pub use storm::run as storm;

use crate::harness::{Needs, SharedTable, Table};

pub(crate) const TESTS: Table = &[(
    "attack_every_entry_point",
    Needs::Guest,
    matrix::every_entry_point,
)];

/// Of load, of the programs of others, and of ports that the kernel chooses.
pub(crate) const LIFECYCLE: Table = &[
    ("attack_chosen_port", Needs::Guest, local_ports::chosen_port),
    (
        "attack_local_port_range",
        Needs::Guest,
        local_ports::local_port_range,
    ),
    ("attack_storm", Needs::Guest, storm::storm),
    (
        "attack_undone_denials",
        Needs::Guest,
        foreign_programs::undone_denials,
    ),
    (
        "doctor_lists_other_programs",
        Needs::Guest,
        foreign_programs::doctor_lists_others,
    ),
];

pub(crate) const SHARED: SharedTable = &[
    (
        "attack_foreign_programs",
        Needs::Nothing,
        foreign_programs::foreign_programs,
    ),
    (
        "attack_rewritten_ports",
        Needs::Nothing,
        foreign_programs::rewritten_ports,
    ),
    (
        "attack_binds_by_the_kernel",
        Needs::Guest,
        kernel_binds::by_the_kernel,
    ),
];
