//! What the text of a file imports, declares and defines.

/// A source file.
pub(crate) struct Source {
    /// Its code without comments and tests, and without `use` statements.
    code: String,
    /// Its `use` statements.
    uses: Vec<Use>,
}

/// One path of a `use` statement.
pub(crate) struct Use {
    pub(crate) path: Vec<String>,
    /// The name that it has here; `*` for all names.
    pub(crate) name: String,
    /// Whether others see it here too.
    pub(crate) exported: bool,
}

/// What can be defined.
const KINDS: [&str; 10] = [
    "struct",
    "enum",
    "fn",
    "const",
    "static",
    "trait",
    "type",
    "union",
    "mod",
    "macro_rules!",
];

impl Source {
    pub(crate) fn parse(text: &str) -> Self {
        let mut code = String::new();
        let mut uses = Vec::new();
        let product = without_tests(text);
        let mut lines = product.into_iter().map(without_comment);
        while let Some(line) = lines.next() {
            let Some((exported, start)) = use_statement(line.trim_start()) else {
                code.push_str(line);
                code.push('\n');
                continue;
            };
            let mut statement = start.to_owned();
            while !statement.contains(';') {
                let Some(more) = lines.next() else { break };
                statement.push_str(more);
            }
            let tree: String = statement.split(';').next().unwrap_or_default().to_owned();
            expand(&mut uses, exported, &[], tree.trim());
        }
        Self { code, uses }
    }

    pub(crate) fn uses(&self) -> &[Use] {
        &self.uses
    }

    /// The modules with a file of their own that it declares.
    pub(crate) fn modules(&self) -> Vec<String> {
        let declared = |line: &str| {
            let rest = line.trim().strip_suffix(';')?;
            let mut words = rest.rsplit(' ');
            let name = words.next()?;
            (words.next()? == "mod").then(|| name.to_owned())
        };
        self.code.lines().filter_map(declared).collect()
    }

    /// Whether it defines an item of this name.
    pub(crate) fn defines(&self, name: &str) -> bool {
        KINDS.iter().any(|kind| {
            let definition = format!("{kind} {name}");
            self.code.match_indices(&definition).any(|(at, _)| {
                let after = self.code[at + definition.len()..].chars().next();
                !after.is_some_and(is_name)
            })
        })
    }

    /// The paths in its code that begin with one of these words.
    pub(crate) fn paths(&self, starts: &[&str]) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for start in starts {
            let begin = format!("{start}::");
            for (at, _) in self.code.match_indices(&begin) {
                let before = self.code[..at].chars().next_back();
                if before.is_some_and(|c| is_name(c) || c == ':' || c == '$') {
                    continue;
                }
                let rest = &self.code[at..];
                let end = rest.find(|c: char| !is_name(c) && c != ':');
                let path = &rest[..end.unwrap_or(rest.len())];
                let parts = path.split("::").filter(|part| !part.is_empty());
                paths.push(parts.map(str::to_owned).collect());
            }
        }
        paths
    }
}

/// The lines without what stands below `#[cfg(test)]`: a module to the end of the file, or a declaration.
fn without_tests(text: &str) -> Vec<&str> {
    let mut product = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            product.push(line);
            continue;
        }
        let item = lines.find(|line| !line.starts_with("#["));
        if item.is_none_or(|item| item.contains("mod ") && item.ends_with('{')) {
            break;
        }
    }
    product
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn without_comment(line: &str) -> &str {
    match line.find("//") {
        // Not that of a URL in a string.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    }
}

/// What follows the word `use`, and whether the statement exports.
fn use_statement(line: &str) -> Option<(bool, &str)> {
    if let Some(rest) = line.strip_prefix("use ") {
        return Some((false, rest));
    }
    let rest = line.strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => rest,
    };
    Some((true, rest.trim_start().strip_prefix("use ")?))
}

/// Adds the paths of a tree `a::{b, c::d as e}`.
fn expand(uses: &mut Vec<Use>, exported: bool, before: &[String], tree: &str) {
    let mut path = before.to_vec();
    let (start, group) = match tree.split_once('{') {
        Some((start, rest)) => (start, rest.rsplit_once('}').map(|(group, _)| group)),
        None => (tree, None),
    };
    let (start, alias) = match start.split_once(" as ") {
        Some((start, alias)) => (start, Some(alias.trim().to_owned())),
        None => (start, None),
    };
    let parts = start.trim().split("::").map(str::trim);
    path.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
    if let Some(group) = group {
        for branch in branches(group) {
            expand(uses, exported, &path, branch.trim());
        }
        return;
    }
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    let Some(last) = path.last().cloned() else {
        return;
    };
    let name = alias.unwrap_or(last);
    uses.push(Use {
        path,
        name,
        exported,
    });
}

/// The parts of a group, split at the commas that are in no inner group.
fn branches(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}
