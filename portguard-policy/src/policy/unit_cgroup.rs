//! The cgroup of a systemd unit, and the unit of a cgroup.

/// The path of the cgroup that systemd makes for a system unit without `Slice=`, as names below the root.
///
/// Services, sockets and scopes are in `system.slice`, instances of a template in a slice of the template, and slices
/// below those that their names begin with.
#[must_use]
pub fn unit_cgroup(unit: &str) -> Vec<String> {
    if let Some(name) = unit.strip_suffix(".slice") {
        let ends = name.match_indices('-').map(|(at, _)| at);
        let parents = ends.filter_map(|at| name.get(..at));
        let slices = parents.chain([name]);
        return slices.map(|slice| format!("{slice}.slice")).collect();
    }
    let mut path = vec!["system.slice".to_owned()];
    if let Some((template, instance)) = unit.split_once('@')
        && !instance.starts_with('.')
    {
        // Escaped once more: a dash in the name of a slice separates it from its parent.
        let escaped = template.replace('\\', "\\x5c").replace('-', "\\x2d");
        path.push(format!("system-{escaped}.slice"));
    }
    path.push(unit.to_owned());
    path
}

/// The system unit of a cgroup, as `units` of a rule takes it: the first name below a chain of slices, which no user can
/// forge. `None` where another manager than systemd made the cgroup.
#[must_use]
pub fn unit_of(path: &str) -> Option<&str> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let unit = names.find(|name| !name.ends_with(".slice"))?;
    let typed = [".service", ".scope", ".socket", ".mount", ".swap"];
    typed.iter().any(|end| unit.ends_with(end)).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::{unit_cgroup, unit_of};

    #[test]
    fn unit_of_a_cgroup_is_below_slices_only() {
        for (path, unit) in [
            ("/system.slice/nginx.service/worker", Some("nginx.service")),
            (
                "/user.slice/user-1000.slice/user@1000.service/nginx.service",
                Some("user@1000.service"),
            ),
            ("/init.scope", Some("init.scope")),
            ("/docker/x.service", None),
            ("/a.slice", None),
            ("/", None),
        ] {
            assert_eq!(unit_of(path), unit, "{path}");
        }
    }

    #[test]
    fn unit_cgroup_is_where_systemd_makes_it() {
        for (unit, path) in [
            ("nginx.service", "system.slice/nginx.service"),
            ("cups.socket", "system.slice/cups.socket"),
            (
                "postfix@-.service",
                "system.slice/system-postfix.slice/postfix@-.service",
            ),
            (
                "serial-getty@ttyS0.service",
                "system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service",
            ),
            ("a-b.slice", "a.slice/a-b.slice"),
            ("a.slice", "a.slice"),
        ] {
            assert_eq!(unit_cgroup(unit).join("/"), path);
        }
    }
}
