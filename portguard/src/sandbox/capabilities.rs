//! The capabilities of a thread: what its later work needs, and no other.

use rustix::io::{self, Errno};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

/// For the event loop, which attaches hooks again, changes maps and pins and looks at other processes, and for the scan of
/// existing sockets, which may close them.
pub(super) const DAEMON: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// To enter other network namespaces, where the policy has `scope: all`.
pub(super) const ENTER_NETNS: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// For a thread that reads policy files, which may be anywhere.
pub(super) const POLICY: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// Drops every capability of this thread that is not in `wanted`, from each of its sets.
pub(super) fn keep(wanted: CapabilitySet) -> io::Result<()> {
    clear_ambient_capability_set()?;
    let now = capabilities(None)?;
    // Without CAP_SETPCAP it stays as systemd or a container made it. No program is executed to which it could give any.
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for capability in bounding_set()?.difference(wanted) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: now.effective & wanted,
            permitted: now.permitted & wanted,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// Every capability that this kernel knows and this thread could get by executing a program.
fn bounding_set() -> io::Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => set |= capability,
            Ok(false) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(set)
}

/// The names of the effective capabilities of this thread.
pub(super) fn names() -> Vec<String> {
    let now = capabilities(None).map_or_else(|_| CapabilitySet::empty(), |now| now.effective);
    now.iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect()
}
