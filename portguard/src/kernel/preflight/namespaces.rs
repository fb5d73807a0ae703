//! Whether portguard sees the host as the host does: a container has namespaces of its own.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Inode number of the initial user namespace.
pub const INITIAL_USER_NAMESPACE: u64 = Kind::User.initial_inode();

/// A kind of namespace whose initial one has a fixed inode number.
#[derive(Clone, Copy)]
enum Kind {
    Ipc,
    User,
    Pid,
    Cgroup,
}

impl Kind {
    /// `PROC_*_INIT_INO` of `include/linux/proc_ns.h` (Linux 5.10 to 7.2).
    const fn initial_inode(self) -> u64 {
        match self {
            Self::Ipc => 0xEFFF_FFFF,
            Self::User => 0xEFFF_FFFD,
            Self::Pid => 0xEFFF_FFFC,
            Self::Cgroup => 0xEFFF_FFFB,
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::User => "user",
            Self::Pid => "pid",
            Self::Cgroup => "cgroup",
        }
    }
}

/// `PROC_NET_INIT_INO` of `include/linux/proc_ns.h`. Before Linux 6.18 the initial network namespace had a number like
/// any other, but none was below 0xF0000000.
const INITIAL_NETNS: u32 = 0xEFFF_FFF9;

/// The settings below `net.core` that are not per namespace are files of the initial one alone (Linux 5.10 to 7.2).
const GLOBAL_NET_SETTING: &str = "/proc/sys/net/core/netdev_max_backlog";

/// The namespaces of this process.
#[derive(Clone, Debug)]
pub(super) struct Namespaces {
    /// It is in the initial user namespace.
    pub(super) initial_user: bool,
    /// `/proc` shows the processes of the host.
    pub(super) hosts_processes: bool,
    /// Its network namespace; `None` where `/proc` is not mounted.
    pub(super) netns: Option<u32>,
    /// The initial network namespace, as far as it can be told.
    pub(super) host_netns: Option<u32>,
}

impl Namespaces {
    pub(super) fn of_this_process() -> Self {
        // A sandbox may hide process 1 even from root.
        let hosts_processes = is_initial("1", Kind::Pid).or_else(|| is_initial("self", Kind::Pid));
        let hosts_processes = hosts_processes.unwrap_or(true);
        let netns = netns_of("self");
        let of_init = netns_of("1").filter(|_| hosts_processes);
        let own_is_initial = netns == Some(INITIAL_NETNS) || Path::new(GLOBAL_NET_SETTING).exists();
        Self {
            initial_user: is_initial("self", Kind::User).unwrap_or(true) && maps_all_users(),
            hosts_processes,
            netns,
            host_netns: of_init.or_else(|| netns.filter(|_| own_is_initial)),
        }
    }
}

/// Whether portguard runs in a container, as far as its namespaces tell: what is missing is then added to the container,
/// and not inside. No file tells: images of containers are made into those of machines.
pub(super) fn in_container() -> bool {
    let kinds = [Kind::Cgroup, Kind::Pid, Kind::User, Kind::Ipc];
    kinds
        .iter()
        .any(|kind| is_initial("self", *kind) == Some(false))
        // Of the kubelet.
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// `None` where it cannot be read.
fn is_initial(process: &str, kind: Kind) -> Option<bool> {
    let file = std::fs::metadata(format!("/proc/{process}/ns/{}", kind.file())).ok()?;
    Some(file.ino() == kind.initial_inode())
}

fn netns_of(process: &str) -> Option<u32> {
    let file = std::fs::metadata(format!("/proc/{process}/ns/net")).ok()?;
    u32::try_from(file.ino()).ok()
}

fn maps_all_users() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
