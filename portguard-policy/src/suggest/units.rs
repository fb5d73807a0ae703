//! The owner of a cgroup, as a policy names it.

use super::demand::Who;

/// The systemd unit of a path, where its cgroup cannot be forged; the path itself where another manager created
/// it; the user alone in user sessions and at the root.
///
/// What is another at the next start is left out of names: `of_one_run` says so.
#[must_use]
pub fn owner_of(path: Option<&str>) -> Who {
    let Some(path) = path else {
        return Who::User;
    };
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let Some(first) = names.first() else {
        return Who::User;
    };
    // systemd delegates what is below to users, and the name of a session ends with it.
    if *first == "user.slice" {
        return Who::User;
    }
    // All containers of a node have the same kind of unit: the pod tells them apart.
    if let Some(pod) = names.iter().position(|name| is_pod(name)) {
        let names: Vec<&str> = names.into_iter().take(pod + 1).collect();
        return Who::Cgroup(format!("/{}", names.join("/")));
    }
    match names.iter().find(|name| !name.ends_with(".slice")) {
        Some(unit) if is_unit(unit) => Who::Unit(lasting(unit)),
        Some(_) if is_plain(path) => Who::Cgroup(without_container(path)),
        Some(_) => Who::UserOfUnnamed,
        // Slices alone.
        None => Who::User,
    }
}

/// Why a rule of this owner is wider than what was seen, or will not hold later; `None` where neither is so.
pub(super) fn of_one_run(who: &Who) -> Option<&'static str> {
    match who {
        Who::Unit(unit) if unit == "init.scope" => {
            Some("Bound by systemd itself, for a socket unit.")
        }
        Who::Unit(unit) if unit.starts_with("run-") && unit.contains('*') => Some(
            "The name was of one run of systemd-run: any such unit matches. Name it with --unit= for a narrower rule.",
        ),
        Who::Unit(unit) if unit.contains("@*") => {
            Some("The instance was of one connection: any instance matches.")
        }
        Who::Unit(unit) if unit.contains('*') => {
            Some("The hash was of one container: any container of this engine matches.")
        }
        Who::Cgroup(path) if path.contains('*') => {
            Some("A rule reads the `*` of this name as any characters: names alike match too.")
        }
        Who::UserOfUnnamed => {
            Some("No rule can have the name of the cgroup: any cgroup of the user matches.")
        }
        Who::Cgroup(path) if path.split('/').any(is_pod) => {
            Some("The UID is of one pod: the pod that replaces it has another.")
        }
        Who::Cgroup(path) if ENGINES.contains(&path.trim_start_matches('/')) => {
            Some("The hash was of one container: any container of this engine matches.")
        }
        Who::Unit(_) | Who::Cgroup(_) | Who::User => None,
    }
}

/// Cgroups below which engines without systemd make one for each container.
const ENGINES: [&str; 3] = ["docker", "libpod_parent", "lxc"];

fn is_unit(name: &str) -> bool {
    let typed = [".service", ".scope", ".socket", ".mount", ".swap"];
    typed.iter().any(|end| name.ends_with(end)) && !name.contains('*')
}

/// Whether a rule can name the path. One with `*` matches itself, and more.
fn is_plain(path: &str) -> bool {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    names.len() <= portguard_common::MAX_CGROUP_DEPTH
        && !path.contains(['\n', '\0'])
        && !path.contains("**")
}

/// `pod` with a UID, as the kubelet names the cgroups of pods: `kubepods-burstable-pod0f3c_….slice`, `pod0f3c-…`.
fn is_pod(name: &str) -> bool {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name.rsplit_once("pod").map(|(_, uid)| uid);
    uid.is_some_and(|uid| {
        uid.len() >= 32
            && uid
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || b"-_".contains(&byte))
    })
}

fn is_hash(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The cgroup above that of one container.
fn without_container(path: &str) -> String {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some((engine, hash)) if is_hash(hash) && !engine.is_empty() => engine.to_owned(),
        _ => path.to_owned(),
    }
}

/// The name of a unit without what is new at each start: `docker-*.scope`, `run-*.service`, `sshd@*.service`.
fn lasting(unit: &str) -> String {
    let Some((name, end)) = unit.rsplit_once('.') else {
        return unit.to_owned();
    };
    let is_run = |id: &str| {
        let digits = id.strip_prefix(['r', 'u', 'p']).unwrap_or(id);
        !digits.is_empty()
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    if name.strip_prefix("run-").is_some_and(is_run) {
        return format!("run-*.{end}");
    }
    // systemd.socket(5), Accept=yes: the number of the connection, and its ends.
    if let Some((template, instance)) = name.split_once('@')
        && let Some((number, ends)) = instance.split_once('-')
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && ends.contains('-')
    {
        return format!("{template}@*.{end}");
    }
    match name.rsplit_once('-') {
        Some((before, hash)) if is_hash(hash) => format!("{before}-*.{end}"),
        _ => unit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_the_unit_else_the_path_else_the_user() {
        let unit = |name: &str| Who::Unit(name.into());
        for (path, who) in [
            ("/", Who::User),
            ("/system.slice/nginx.service", unit("nginx.service")),
            ("/system.slice/nginx.service/worker", unit("nginx.service")),
            ("/a.slice/a-b.slice/x.scope", unit("x.scope")),
            (
                "/system.slice/docker-0123456789abcdef.scope",
                unit("docker-*.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
                Who::User,
            ),
            ("/init.scope", unit("init.scope")),
            (
                "/system.slice/run-r0a1b2c3d4e5f60718293a4b5c6d7e8f9.service",
                unit("run-*.service"),
            ),
            ("/system.slice/run-u12.scope", unit("run-*.scope")),
            ("/system.slice/run-parts.service", unit("run-parts.service")),
            (
                "/system.slice/system-sshd.slice/sshd@4-10.0.0.1:22-10.0.0.9:50022.service",
                unit("sshd@*.service"),
            ),
            (
                "/system.slice/system-a.slice/a@4.service",
                unit("a@4.service"),
            ),
            (
                "/docker/0123456789abcdef0123456789abcdef",
                Who::Cgroup("/docker".into()),
            ),
            (
                "/kubepods.slice/kubepods-pod0f3c1111_2222_3333_4444_555566667777.slice/cri-containerd-0123456789abcdef.scope",
                Who::Cgroup(
                    "/kubepods.slice/kubepods-pod0f3c1111_2222_3333_4444_555566667777.slice".into(),
                ),
            ),
            ("/a.slice", Who::User),
            ("/kubepods/pod1/c", Who::Cgroup("/kubepods/pod1/c".into())),
            ("/odd*name", Who::Cgroup("/odd*name".into())),
            ("/odd**name", Who::UserOfUnnamed),
            ("/a\nb", Who::UserOfUnnamed),
        ] {
            assert_eq!(owner_of(Some(path)), who, "{path}");
        }
        assert_eq!(owner_of(None), Who::User);
    }

    #[test]
    fn what_is_of_one_run_is_said() {
        for (path, expected) in [
            ("/init.scope", Some("systemd itself")),
            ("/odd*name", Some("names alike match")),
            ("/a\nb", Some("any cgroup of the user matches")),
            (
                "/system.slice/run-u12.scope",
                Some("one run of systemd-run"),
            ),
            ("/system.slice/a@4-1-2.service", Some("one connection")),
            (
                "/system.slice/docker-0123456789abcdef.scope",
                Some("one container"),
            ),
            ("/docker/0123456789abcdef", Some("one container")),
            (
                "/kubepods/pod0f3c1111-2222-3333-4444-555566667777/x",
                Some("one pod"),
            ),
            ("/system.slice/nginx.service", None),
            ("/", None),
        ] {
            let said = of_one_run(&owner_of(Some(path)));
            assert_eq!(said.is_some(), expected.is_some(), "{path}");
            assert!(
                said.unwrap_or_default()
                    .contains(expected.unwrap_or_default()),
                "{path}"
            );
        }
    }
}
