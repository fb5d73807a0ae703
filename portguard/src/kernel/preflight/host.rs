//! The conditions that portguard guards the host, and not a container.

use crate::cgroup_mount::CgroupTree;
use crate::kernel::preflight::condition::{Condition, Severity, good, missing};
use crate::kernel::preflight::namespaces::Namespaces;

/// How a container gets what is the host's; `mount -t cgroup2` inside mounts the container's part only.
const CGROUP_OF_THE_HOST: &str = "give the container the host's tree: `--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:ro`, \
    in Kubernetes a hostPath volume of /sys/fs/cgroup";

pub(super) fn cgroup(tree: &CgroupTree, in_container: bool) -> Condition {
    let name = "cgroup v2";
    match tree {
        CgroupTree::Root(path) => good(name, path.display().to_string()),
        CgroupTree::Part(path) => missing(
            name,
            format!(
                "{} is a part of the host's tree, and portguard sees the binds of that part only",
                path.display()
            ),
            CGROUP_OF_THE_HOST,
        ),
        CgroupTree::NotMounted if in_container => {
            missing(name, "not mounted in this container", CGROUP_OF_THE_HOST)
        }
        CgroupTree::NotMounted => missing(
            name,
            "not mounted",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup (or boot with systemd.unified_cgroup_hierarchy=1)",
        ),
    }
}

/// The name of the condition.
pub(super) const HOST_NAMESPACES: &str = "the host's namespaces";

pub(super) fn host_namespaces(seen: &Namespaces) -> Condition {
    let name = HOST_NAMESPACES;
    if !seen.initial_user {
        return missing(
            name,
            "portguard runs in a user namespace",
            "run it on the host, or give the container the host's: `--userns=host`, in Kubernetes `hostUsers: true`",
        );
    }
    let Some(own) = seen.netns else {
        return missing(
            name,
            "/proc/self/ns/net cannot be read",
            "mount -t proc proc /proc",
        );
    };
    if !seen.hosts_processes {
        return missing(
            name,
            "portguard runs in a pid namespace of its own and cannot see the host's processes",
            "run it on the host, or give the container the host's: `--pid=host`, in Kubernetes `hostPID: true`",
        );
    }
    match seen.host_netns {
        Some(netns) if netns == own => good(name, format!("network namespace {netns}")),
        Some(netns) => Condition {
            name,
            severity: Severity::Warning,
            found: format!(
                "network namespace {netns}; portguard runs in {own}, and reads net.* settings there"
            ),
            fix: Some(
                "run it with the host's network: `--network=host`, in Kubernetes `hostNetwork: true`"
                    .into(),
            ),
        },
        None => missing(
            name,
            format!("portguard runs in network namespace {own}, and cannot read which one is the host's"),
            "give the container the host's network: `--network=host`, in Kubernetes `hostNetwork: true`; or give portguard CAP_SYS_PTRACE, to read /proc/1/ns/net",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_condition_never_mounts_inside_a_container() {
        let part = CgroupTree::Part("/sys/fs/cgroup".into());
        for (tree, in_container) in [
            (&part, false),
            (&part, true),
            (&CgroupTree::NotMounted, true),
        ] {
            let condition = cgroup(tree, in_container);
            assert_eq!(condition.severity, Severity::Missing);
            let fix = condition.fix.unwrap_or_default();
            assert!(fix.contains("--cgroupns=host"), "{fix}");
            assert!(!fix.contains("mount -t"), "{fix}");
        }
        let fix = cgroup(&CgroupTree::NotMounted, false).fix;
        assert!(fix.is_some_and(|fix| fix.starts_with("mount -t cgroup2")));
    }

    #[test]
    fn host_namespaces_are_not_those_of_a_container() {
        let host = Namespaces {
            initial_user: true,
            hosts_processes: true,
            netns: Some(7),
            host_netns: Some(7),
        };
        let of = |seen: Namespaces| {
            let condition = host_namespaces(&seen);
            (condition.severity, condition.fix.unwrap_or_default())
        };
        assert_eq!(of(host.clone()), (Severity::Good, String::new()));
        let cases = [
            (
                Namespaces {
                    initial_user: false,
                    ..host.clone()
                },
                "--userns=host",
            ),
            (
                Namespaces {
                    hosts_processes: false,
                    ..host.clone()
                },
                "hostPID: true",
            ),
            (
                Namespaces {
                    host_netns: None,
                    ..host.clone()
                },
                "--network=host",
            ),
            (
                Namespaces {
                    netns: None,
                    ..host.clone()
                },
                "mount -t proc",
            ),
        ];
        for (seen, expected) in cases {
            let (severity, fix) = of(seen.clone());
            assert_eq!(severity, Severity::Missing, "{seen:?}");
            assert!(fix.contains(expected), "{seen:?}: {fix}");
        }
        let (severity, fix) = of(Namespaces {
            netns: Some(8),
            ..host
        });
        assert_eq!(severity, Severity::Warning);
        assert!(fix.contains("hostNetwork: true"), "{fix}");
    }
}
