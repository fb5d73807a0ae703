//! The cgroup of a systemd unit.

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

#[cfg(test)]
mod tests {
    use super::unit_cgroup;

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
