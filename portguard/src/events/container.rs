//! The container and the pod of a cgroup, by the names that container runtimes give.
//!
//! A user who may make cgroups chooses their names, so these prove nothing.

/// Length of a container's id.
const ID: usize = 64;

/// The container's id: of the innermost name that ends in one, as Docker, containerd, CRI-O and Podman make them
/// (`docker-ID.scope`, `cri-containerd-ID.scope`, `ID`).
pub(super) fn container_id(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|name| {
        let name = name.strip_suffix(".scope").unwrap_or(name);
        let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
        // The runtime's own process beside the container (`libpod-conmon-ID.scope`).
        let monitor = runtime.ends_with("conmon");
        (id.len() == ID && is_hex(id) && !monitor).then_some(id)
    })
}

/// The uid of the pod, as Kubernetes writes it: from `kubepods-burstable-podUID.slice`, where `_` stands for `-`, or
/// `podUID`.
pub(super) fn pod_uid(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|name| {
        let name = name.strip_suffix(".slice").unwrap_or(name);
        let uid = match name.rsplit_once("-pod") {
            Some((kubepods, uid)) if kubepods.starts_with("kubepods") => uid,
            Some(_) => return None,
            None => name.strip_prefix("pod")?,
        };
        let uid = uid.replace('_', "-");
        let groups: Vec<usize> = uid.split('-').map(str::len).collect();
        // Of a static pod it is a hash.
        let known = groups == [8, 4, 4, 4, 12] || groups == [32];
        (known && uid.split('-').all(is_hex)).then_some(uid)
    })
}

fn is_hex(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "8f4e2c1a-0b3d-4c5e-9f60-718293a4b5c6";

    #[test]
    fn container_id_is_found_as_each_runtime_names_it() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/system.slice/docker-{id}.scope"),
            format!("/docker/{id}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods.slice/crio-{id}.scope/container"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/kubepods/besteffort/pod{UID}/{id}"),
        ] {
            assert_eq!(container_id(&path), Some(id.as_str()), "{path}");
        }
        for path in [
            "/system.slice/nginx.service".to_owned(),
            format!("/machine.slice/libpod-conmon-{id}.scope"),
            format!("/system.slice/docker-{}.scope", &id[1..]),
            format!("/system.slice/docker-{}.scope", id.to_uppercase()),
            "/".to_owned(),
        ] {
            assert_eq!(container_id(&path), None, "{path}");
        }
    }

    #[test]
    fn pod_uid_is_found_by_both_drivers() {
        let underscored = UID.replace('-', "_");
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{underscored}.slice/x"
            ),
            format!("/kubepods.slice/kubepods-pod{underscored}.slice"),
            format!("/kubepods/besteffort/pod{UID}/x"),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(UID), "{path}");
        }
        let hash = "0123456789abcdef".repeat(2);
        assert_eq!(pod_uid(&format!("/kubepods/pod{hash}")), Some(hash));
        for path in [
            "/podman.slice",
            "/kubepods/podium",
            "/system.slice/my-pod1.service",
            "/",
        ] {
            assert_eq!(pod_uid(path), None, "{path}");
        }
    }
}
