//! Systemd units and cgroups: the meaning of `units` in a rule, for everything that shows or filters
//! by a unit.

/// Types of units that have a cgroup with processes.
const TYPES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// The names that a rule's `units` could name for a cgroup: the slices from the root down, and what is below them.
///
/// Further below a path is delegated: its owner chooses the names.
pub fn names(path: &str) -> impl Iterator<Item = &str> {
    let mut below_slices = true;
    path.split('/')
        .filter(|name| !name.is_empty())
        .take_while(move |name| std::mem::replace(&mut below_slices, is_slice(name)))
}

/// The unit of a cgroup that is not a slice; `None` where there is none.
#[must_use]
pub fn unit(path: &str) -> Option<&str> {
    let name = names(path).last()?;
    TYPES
        .iter()
        .any(|ending| name.ends_with(ending))
        .then_some(name)
}

/// The path of the cgroup that systemd makes for a system unit without `Slice=`, as names below the root.
///
/// Services, sockets and scopes are in `system.slice`, instances of a template in a slice of the template, and slices
/// below those that their names begin with. systemd's own units with a `Slice=` are where that says: those of a user in
/// `user-UID.slice`, and containers in `machine.slice`.
#[must_use]
pub fn cgroup(unit: &str) -> Vec<String> {
    if let Some(name) = unit.strip_suffix(".slice") {
        let ends = name.match_indices('-').map(|(at, _)| at);
        let parents = ends.filter_map(|at| name.get(..at));
        let slices = parents.chain([name]);
        return slices.map(|slice| format!("{slice}.slice")).collect();
    }
    if unit == "init.scope" {
        return vec![unit.to_owned()];
    }
    let slices = unit.split_once('@').and_then(|(template, instance)| {
        let uid = instance.strip_suffix(".service")?;
        match template {
            "user" | "user-runtime-dir" => Some(cgroup(&format!("user-{uid}.slice"))),
            "systemd-nspawn" => Some(cgroup("machine.slice")),
            _ => None,
        }
    });
    if let Some(mut path) = slices {
        path.push(unit.to_owned());
        return path;
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

fn is_slice(name: &str) -> bool {
    name.ends_with(".slice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_is_below_slices_only() {
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/nginx.service/worker", Some("nginx.service")),
            ("/system.slice/ssh.socket", Some("ssh.socket")),
            ("/init.scope", Some("init.scope")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
                Some("user@1000.service"),
            ),
            ("/machine.slice/x/nginx.service", None),
            ("/kubepods/nginx.service", None),
            ("/docker/x.service", None),
            ("/system.slice", None),
            ("/", None),
        ] {
            assert_eq!(unit(path), expected, "{path}");
        }
    }

    #[test]
    fn names_are_the_slices_and_what_is_below() {
        let names: Vec<&str> = names("/a.slice/a-b.slice/c.service/d.service").collect();
        assert_eq!(names, ["a.slice", "a-b.slice", "c.service"]);
    }

    #[test]
    fn cgroup_of_a_unit_is_where_systemd_makes_it() {
        for (unit, path) in [
            ("nginx.service", "system.slice/nginx.service"),
            ("cups.socket", "system.slice/cups.socket"),
            ("init.scope", "init.scope"),
            (
                "user@1000.service",
                "user.slice/user-1000.slice/user@1000.service",
            ),
            (
                "systemd-nspawn@web.service",
                "machine.slice/systemd-nspawn@web.service",
            ),
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
            assert_eq!(cgroup(unit).join("/"), path);
        }
    }
}
