//! The owner of a cgroup, as a policy names it.

use super::demand::Who;

/// The systemd unit of a path, where its cgroup cannot be forged; the path itself where another manager created
/// it; the user alone in user sessions and at the root.
#[must_use]
pub fn owner_of(path: Option<&str>) -> Who {
    let Some(path) = path else {
        return Who::User;
    };
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let Some(first) = names.clone().next() else {
        return Who::User;
    };
    // systemd delegates what is below to users, and the name of a session ends with it.
    if first == "user.slice" || first == "init.scope" {
        return Who::User;
    }
    match names.find(|name| !name.ends_with(".slice")) {
        Some(unit) if is_unit(unit) => Who::Unit(without_hash(unit)),
        Some(_) if is_plain(path) => Who::Cgroup(path.to_owned()),
        // Slices alone, and names that a policy would read as patterns.
        _ => Who::User,
    }
}

fn is_unit(name: &str) -> bool {
    let typed = [".service", ".scope", ".socket", ".mount", ".swap"];
    typed.iter().any(|end| name.ends_with(end)) && !name.contains('*')
}

/// Whether a rule can name the path.
fn is_plain(path: &str) -> bool {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    names.len() <= portguard_common::MAX_CGROUP_DEPTH && !path.contains(['*', '\n', '\0'])
}

/// `docker-*.scope` for the scope of one container, whose hash changes at each start.
fn without_hash(unit: &str) -> String {
    let Some((name, end)) = unit.rsplit_once('.') else {
        return unit.to_owned();
    };
    match name.rsplit_once('-') {
        Some((before, hash))
            if hash.len() >= 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            format!("{before}-*.{end}")
        }
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
            ("/init.scope", Who::User),
            ("/a.slice", Who::User),
            ("/kubepods/pod1/c", Who::Cgroup("/kubepods/pod1/c".into())),
            ("/odd*name", Who::User),
        ] {
            assert_eq!(owner_of(Some(path)), who, "{path}");
        }
        assert_eq!(owner_of(None), Who::User);
    }
}
