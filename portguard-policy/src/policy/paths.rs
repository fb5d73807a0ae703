//! Cgroup paths, their patterns, and systemd units.

use super::document::Node;
use super::model::{CgroupPattern, Component, UnitPattern};
use super::reader::Reader;
use portguard_common::{MAX_CGROUP_DEPTH, MAX_CGROUP_NAME};

/// The suffixes of units that have a cgroup.
const UNIT_TYPES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

impl Reader<'_> {
    /// A pattern of cgroups that a rule names.
    pub(super) fn cgroup(&mut self, node: &Node) -> Option<CgroupPattern> {
        let names = self.cgroup_names(node)?;
        if let Some(name) = names
            .iter()
            .find(|name| name.contains("**") && *name != "**")
        {
            let message = format!("`**` must be a whole path component, found `{name}`");
            let help = format!("use `{}` to match part of a name", name.replace("**", "*"));
            self.error(node.span, message, Some(help));
            return None;
        }
        if names.len() > MAX_CGROUP_DEPTH {
            self.error(
                node.span,
                format!(
                    "cgroup path has {} levels, the limit is {MAX_CGROUP_DEPTH}",
                    names.len()
                ),
                Some("name an ancestor: a rule matches all cgroups below it".into()),
            );
            return None;
        }
        if let [sys, fs, cgroup, path @ ..] = names.as_slice()
            && [sys, fs, cgroup] == ["sys", "fs", "cgroup"]
        {
            let path = path.strip_prefix(&["unified".to_owned()]).unwrap_or(path);
            let message = format!(
                "a cgroup path begins below the mount point: did you mean \"/{}\"?",
                path.join("/")
            );
            self.warn(node.span, message);
        }
        let component = |name: String| match name.as_str() {
            "**" => Component::AnyDepth,
            _ => Component::Name(name),
        };
        Some(CgroupPattern(names.into_iter().map(component).collect()))
    }

    /// A systemd system unit that a rule names.
    pub(super) fn unit(&mut self, node: &Node) -> Option<UnitPattern> {
        let name = self.text(node, "a unit name")?;
        let typed = UNIT_TYPES.iter().any(|end| name.ends_with(end));
        let (problem, help) = if name.is_empty() {
            ("is empty".to_owned(), None)
        } else if name.contains('/') {
            let help = "name only the unit, or give the whole path in `cgroups`".to_owned();
            ("contains `/`".to_owned(), Some(help))
        } else if name.len() > MAX_CGROUP_NAME {
            let long = format!("has {} bytes, the limit is {MAX_CGROUP_NAME}", name.len());
            (long, None)
        } else if name.contains(['\0', '\n']) {
            ("contains a NUL or a newline".to_owned(), None)
        } else if name.contains("**") {
            let help = format!("did you mean `{}`?", name.replace("**", "*"));
            ("contains `**`".to_owned(), Some(help))
        } else if !typed && !name.ends_with('*') {
            let help = unit_type_help(name);
            ("has no unit type suffix".to_owned(), Some(help))
        } else {
            return Some(UnitPattern(name.to_owned()));
        };
        self.error(node.span, format!("unit name `{name}` {problem}"), help);
        None
    }

    /// The names of an absolute cgroup path.
    pub(super) fn cgroup_names(&mut self, node: &Node) -> Option<Vec<String>> {
        let text = self.text(node, "a cgroup path")?;
        let Some(below) = text.strip_prefix('/') else {
            // A line of /proc/PID/cgroup: of cgroup v2, or of v1, whose paths are others.
            let help = match text.split_once(":/") {
                Some(("0:", path)) => format!("did you mean \"/{path}\"?"),
                Some(_) => "use the path of the line that begins with `0::`".to_owned(),
                None => format!("did you mean \"/{text}\"?"),
            };
            self.error(
                node.span,
                format!("cgroup path `{text}` is not absolute"),
                Some(help),
            );
            return None;
        };
        if below.is_empty() {
            return Some(Vec::new());
        }
        // A trailing slash does not make it another cgroup.
        let names: Vec<String> = below
            .strip_suffix('/')
            .unwrap_or(below)
            .split('/')
            .map(str::to_owned)
            .collect();
        for name in &names {
            let problem = match name.as_str() {
                "" => "has an empty component".to_owned(),
                "." | ".." => format!("contains the component `{name}`"),
                _ if name.len() > MAX_CGROUP_NAME => format!(
                    "has a component of {} bytes, the limit is {MAX_CGROUP_NAME}",
                    name.len()
                ),
                _ if name.contains('\0') || name.contains('\n') => {
                    "contains a NUL or a newline".to_owned()
                }
                _ => continue,
            };
            self.error(node.span, format!("cgroup path {problem}"), None);
            return None;
        }
        Some(names)
    }
}

/// Units that have no cgroup, since they run no process.
const WITHOUT_CGROUP: [&str; 5] = [".timer", ".target", ".path", ".automount", ".device"];

/// What a name without the type of a unit may mean.
fn unit_type_help(name: &str) -> String {
    if let Some(end) = WITHOUT_CGROUP.iter().find(|end| name.ends_with(**end)) {
        return format!(
            "a {} runs no process: name the unit that it starts",
            &end[1..]
        );
    }
    let near = name
        .rfind('.')
        .map(|at| name.split_at(at))
        .and_then(|(stem, end)| {
            let near = |known: &&&str| strsim::damerau_levenshtein(end, known) <= 2;
            UNIT_TYPES
                .iter()
                .find(near)
                .map(|known| format!("{stem}{known}"))
        });
    format!(
        "did you mean `{}`?",
        near.unwrap_or_else(|| format!("{name}.service"))
    )
}
