//! What portguard needs of the machine: each condition with its state and its fix.

use crate::cgroup_mount::{CgroupTree, cgroup_tree};
use crate::kernel::error::KernelError;
use crate::kernel::preflight::btf::Btf;
use crate::kernel::preflight::condition::{Condition, Severity, good, missing};
use crate::kernel::preflight::host::{HOST_NAMESPACES, cgroup, host_namespaces};
use crate::kernel::preflight::namespaces::{Namespaces, in_container};
use crate::kernel::preflight::offsets::Offsets;
use crate::kernel::preflight::securityfs;
use std::borrow::Cow;
use std::path::PathBuf;

/// The machine as portguard finds it.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Mount point of the host's cgroup v2 tree; empty where there is none.
    pub cgroup_root: PathBuf,
    /// Inode number of the host's network namespace, which `scope: host` means; 0 where it is not known.
    pub host_netns: u32,
    /// Active LSMs in their order; `None` where the list cannot be read.
    active_lsms: Option<Vec<String>>,
    /// `None` where the kernel's BTF lacks one.
    offsets: Option<Offsets>,
    conditions: Vec<Condition>,
}

/// `CAP_*` of `include/uapi/linux/capability.h`.
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;

/// The oldest kernel with all that the programs use.
const OLDEST: (u32, u32) = (5, 10);

impl Environment {
    /// Inspects the machine; changes nothing.
    #[must_use]
    pub fn probe() -> Self {
        let active_lsms = securityfs::read("lsm")
            .ok()
            .map(|text| text.trim().split(',').map(str::to_owned).collect());
        let namespaces = Namespaces::of_this_process();
        let tree = cgroup_tree();
        let offsets = Self::read_offsets();
        let btf = btf(&offsets);
        let mut environment = Self {
            host_netns: namespaces.host_netns.unwrap_or(0),
            conditions: Vec::new(),
            cgroup_root: match &tree {
                CgroupTree::Root(path) => path.clone(),
                CgroupTree::Part(_) | CgroupTree::NotMounted => PathBuf::new(),
            },
            active_lsms,
            offsets: offsets.ok(),
        };
        environment.conditions = vec![
            kernel_version(),
            capabilities(),
            btf,
            cgroup(&tree, in_container()),
            host_namespaces(&namespaces),
            environment.lsm(),
            lockdown(),
            jit(),
            unprivileged_ports(),
        ];
        environment
    }

    fn read_offsets() -> Result<Offsets, KernelError> {
        Ok(Offsets::from_btf(&Btf::of_running_kernel()?)?)
    }

    /// The offsets that the programs read by, from the running kernel's BTF.
    pub(in crate::kernel) fn offsets(&self) -> Result<Cow<'_, Offsets>, KernelError> {
        match &self.offsets {
            Some(offsets) => Ok(Cow::Borrowed(offsets)),
            // Read again for the error.
            None => Self::read_offsets().map(Cow::Owned),
        }
    }

    /// Every condition, in the order in which to fix them.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// The conditions without which `run` cannot work.
    pub fn missing(&self) -> impl Iterator<Item = &Condition> {
        self.conditions
            .iter()
            .filter(|condition| condition.severity == Severity::Missing)
    }

    /// Whether `scope: host` can be told: the namespaces of a container are not the host's.
    #[must_use]
    pub fn namespaces(&self) -> Option<&Condition> {
        let mut conditions = self.conditions.iter();
        conditions.find(|condition| condition.name == HOST_NAMESPACES)
    }

    /// The boot parameter that makes `bpf` an active LSM on this machine and keeps the others.
    #[must_use]
    pub fn lsm_boot_parameter(&self) -> String {
        boot_parameter(self.active_lsms.as_deref())
    }

    fn lsm(&self) -> Condition {
        let name = "bpf among the active LSMs";
        match &self.active_lsms {
            Some(list) if list.iter().any(|lsm| lsm == "bpf") => good(name, list.join(",")),
            Some(list) => Condition {
                name,
                severity: Severity::Warning,
                found: list.join(","),
                fix: Some(format!(
                    "boot with {} (until then the cgroup hooks decide)",
                    self.lsm_boot_parameter()
                )),
            },
            None => Condition {
                name,
                severity: Severity::Warning,
                found: "cannot read the list".into(),
                fix: Some("mount -t securityfs securityfs /sys/kernel/security".into()),
            },
        }
    }
}

/// `lsm=` replaces the whole list. `capability`, `ima` and `evm` are always on and have fixed places.
fn boot_parameter(active: Option<&[String]>) -> String {
    let Some(active) = active else {
        return "lsm=$(cat /sys/kernel/security/lsm),bpf".into();
    };
    let kept = active
        .iter()
        .map(String::as_str)
        .filter(|lsm| !matches!(*lsm, "capability" | "ima" | "evm" | "bpf" | ""));
    let list: Vec<&str> = kept.chain(["bpf"]).collect();
    format!("lsm={}", list.join(","))
}

fn kernel_version() -> Condition {
    let name = "Linux 5.10 or later";
    let (version, release) = release();
    if version >= OLDEST {
        good(name, release)
    } else {
        missing(name, release, "upgrade the kernel")
    }
}

/// Whether a kernel of this release can skip the capability check for a bind: cgroup bind programs may return
/// 2 and 3 since Linux 5.12 (`BPF_RET_BIND_NO_CAP_NET_BIND_SERVICE`). Loading the programs detects backports.
#[must_use]
pub fn can_grant() -> bool {
    release().0 >= (5, 12)
}

/// The running kernel's release.
#[must_use]
pub fn release_text() -> String {
    release().1
}

fn release() -> ((u32, u32), String) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (version, release)
}

fn capabilities() -> Condition {
    let name = "capabilities";
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    let effective = status.map_or(0, |status| status.capeff);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let lacking: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| !has(*bit) && !has(CAP_SYS_ADMIN))
        .map(|(_, name)| *name)
        .collect();
    if lacking.is_empty() {
        return good(name, "sufficient to load the programs");
    }
    missing(
        name,
        format!("{} missing", lacking.join(", ")),
        "run as root: sudo portguard ...",
    )
}

fn btf(offsets: &Result<Offsets, KernelError>) -> Condition {
    let name = "the kernel's BTF";
    match offsets {
        Ok(_) => good(name, "/sys/kernel/btf/vmlinux"),
        Err(error @ KernelError::Offsets(_)) => missing(
            name,
            error.to_string(),
            "upgrade portguard, and report this kernel version",
        ),
        Err(error) => missing(
            name,
            error.to_string(),
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (as every major distribution does)",
        ),
    }
}

fn lockdown() -> Condition {
    let name = "kernel lockdown";
    let text = securityfs::read("lockdown").unwrap_or_else(|_| "[none]".into());
    if text.contains("[confidentiality]") {
        return missing(
            name,
            text.trim(),
            "boot with lockdown=integrity: under confidentiality, eBPF programs cannot read kernel memory",
        );
    }
    good(name, text.trim())
}

fn jit() -> Condition {
    let name = "BPF JIT";
    match sysctl("net/core/bpf_jit_enable").as_deref() {
        Some("0") => Condition {
            name,
            severity: Severity::Warning,
            found: "off".into(),
            fix: Some("sysctl net.core.bpf_jit_enable=1".into()),
        },
        Some(_) => good(name, "on"),
        None => good(name, "always on"),
    }
}

fn unprivileged_ports() -> Condition {
    let name = "net.ipv4.ip_unprivileged_port_start";
    let start = sysctl("net/ipv4/ip_unprivileged_port_start");
    let start = start.and_then(|text| text.parse::<u32>().ok());
    match start {
        Some(start) if start < 1024 => Condition {
            name,
            severity: Severity::Warning,
            found: format!(
                "{start}: from this port up the kernel requires no capability, so a `kernel` verdict lets every user bind"
            ),
            fix: Some("sysctl net.ipv4.ip_unprivileged_port_start=1024".into()),
        },
        Some(start) => good(name, start.to_string()),
        None => good(name, "cannot be read"),
    }
}

fn sysctl(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn btf_condition_tells_unknown_structures_from_missing_btf() {
        use crate::kernel::BtfError;
        let unknown = BtfError::Unknown("task_struct.cred".into());
        let condition = btf(&Err(KernelError::Offsets(unknown.into())));
        assert_eq!(condition.severity, Severity::Missing);
        assert!(
            condition
                .found
                .contains("does not know this kernel's structures")
        );
        assert!(condition.found.contains("task_struct.cred"));
        assert!(
            condition
                .fix
                .is_some_and(|fix| fix.contains("upgrade portguard"))
        );
        let damaged = btf(&Err(BtfError::Damaged("it ends too early").into()));
        assert!(
            damaged
                .fix
                .is_some_and(|fix| fix.contains("CONFIG_DEBUG_INFO_BTF"))
        );
    }

    #[test]
    fn boot_parameter_keeps_active_lsms() {
        let list: Vec<String> = "lockdown,capability,landlock,yama,apparmor,ima"
            .split(',')
            .map(str::to_owned)
            .collect();
        assert_eq!(
            boot_parameter(Some(&list)),
            "lsm=lockdown,landlock,yama,apparmor,bpf"
        );
        assert_eq!(
            boot_parameter(None),
            "lsm=$(cat /sys/kernel/security/lsm),bpf"
        );
    }
}
