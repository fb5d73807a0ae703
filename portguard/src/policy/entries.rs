//! Entries of lists: ports, users, cgroups.

use super::model::CgroupPath;
use super::reader::{Reader, nearest};
use portguard_common::{MAX_CGROUP_DEPTH, MAX_CGROUP_NAME};
use serde_yaml::Value;
use std::ops::RangeInclusive;

/// `(uid_t)-1`: to the kernel it means "no id".
const NO_UID: u64 = u32::MAX as u64;

impl Reader<'_> {
    /// A port: 80 or "80".
    pub(super) fn port(&mut self, value: &Value, path: &str) -> Option<u16> {
        let range = self.ports(value, path)?;
        if range.start() != range.end() {
            self.error(path, "expected one port, found a range", None);
            return None;
        }
        Some(*range.start())
    }

    /// A port or a range of ports: 80, "80" or "8000-8010".
    pub(super) fn ports(&mut self, value: &Value, path: &str) -> Option<RangeInclusive<u16>> {
        let (start, end) = match value {
            Value::Number(number) => {
                let port = self.port_number(path, &number.to_string())?;
                (port, port)
            }
            Value::String(text) => match text.split_once('-') {
                // A part that is missing is not the problem: the whole is no port.
                Some((start, end)) if start.trim().is_empty() || end.trim().is_empty() => {
                    let port = self.port_number(path, text)?;
                    (port, port)
                }
                Some((start, end)) => (
                    self.port_number(path, start.trim())?,
                    self.port_number(path, end.trim())?,
                ),
                None => {
                    let port = self.port_number(path, text)?;
                    (port, port)
                }
            },
            _ => {
                self.expected(path, "a port or a range like \"8000-8010\"", value);
                return None;
            }
        };
        if start > end {
            self.error(
                path,
                format!("port range {start}-{end} is empty: the start is above the end"),
                Some(format!("write \"{end}-{start}\"")),
            );
            return None;
        }
        Some(start..=end)
    }

    fn port_number(&mut self, path: &str, text: &str) -> Option<u16> {
        match digits(text) {
            Some(port @ 1..=65_535) => u16::try_from(port).ok(),
            Some(_) => {
                self.error(
                    path,
                    format!("port {text} is out of range: ports are 1 to 65535"),
                    None,
                );
                None
            }
            None => {
                self.error(
                    path,
                    format!("`{text}` is not a port"),
                    Some("ports are 80 or \"8000-8010\"".into()),
                );
                None
            }
        }
    }

    /// A user: a name, an id or a range of ids.
    pub(super) fn users(&mut self, value: &Value, path: &str) -> Option<RangeInclusive<u32>> {
        match value {
            Value::Number(number) => {
                let uid = self.uid(path, &number.to_string())?;
                Some(uid..=uid)
            }
            Value::String(text) => match text.split_once('-') {
                Some((start, end)) if digits(start).is_some() && digits(end).is_some() => {
                    let (start, end) = (self.uid(path, start)?, self.uid(path, end)?);
                    if start > end {
                        self.error(
                            path,
                            format!(
                                "user range {start}-{end} is empty: the start is above the end"
                            ),
                            Some(format!("write \"{end}-{start}\"")),
                        );
                        return None;
                    }
                    Some(start..=end)
                }
                _ if digits(text).is_some() => {
                    let uid = self.uid(path, text)?;
                    Some(uid..=uid)
                }
                _ => {
                    let uid = self.user_name(path, text)?;
                    Some(uid..=uid)
                }
            },
            _ => {
                self.expected(
                    path,
                    "a user name, an id or a range like \"1000-1999\"",
                    value,
                );
                None
            }
        }
    }

    fn uid(&mut self, path: &str, text: &str) -> Option<u32> {
        match digits(text) {
            Some(uid) if uid < NO_UID => u32::try_from(uid).ok(),
            _ => {
                self.error(
                    path,
                    format!("user id {text} is out of range: ids are 0 to 4294967294"),
                    None,
                );
                None
            }
        }
    }

    fn user_name(&mut self, path: &str, name: &str) -> Option<u32> {
        if let Some(uid) = self.names.uid(name) {
            return Some(uid);
        }
        // Neither read nor compared for each of thousands of unknown users.
        let help = if self.problems.is_full() {
            None
        } else {
            let names = self.names;
            let known = self.known_users.get_or_insert_with(|| names.user_names());
            nearest(name, known.iter().map(String::as_str))
        };
        self.error(path, format!("unknown user `{name}`"), help);
        None
    }

    /// A cgroup that a rule names.
    pub(super) fn cgroup(&mut self, value: &Value, path: &str) -> Option<CgroupPath> {
        let names = self.cgroup_names(value, path)?;
        if names.iter().any(|name| name.contains('*')) {
            self.error(
                path,
                "patterns in cgroup paths are not supported by this version of portguard",
                None,
            );
            return None;
        }
        if names.len() > MAX_CGROUP_DEPTH {
            self.error(
                path,
                format!(
                    "the cgroup path has {} levels, the limit is {MAX_CGROUP_DEPTH}",
                    names.len()
                ),
                Some("name a cgroup further up: a rule holds for all below".into()),
            );
            return None;
        }
        Some(CgroupPath(names))
    }

    /// The names of an absolute cgroup path.
    pub(super) fn cgroup_names(&mut self, value: &Value, path: &str) -> Option<Vec<String>> {
        let text = self.text(value, path, "a cgroup path")?;
        let Some(below) = text.strip_prefix('/') else {
            let help = format!("write \"/{text}\"");
            self.error(
                path,
                format!("cgroup path `{text}` does not begin with `/`"),
                Some(help),
            );
            return None;
        };
        if below.is_empty() {
            return Some(Vec::new());
        }
        // A path copied with its closing slash is the same cgroup.
        let names: Vec<String> = below
            .strip_suffix('/')
            .unwrap_or(below)
            .split('/')
            .map(str::to_owned)
            .collect();
        for name in &names {
            let problem = match name.as_str() {
                "" => "has an empty name".to_owned(),
                "." | ".." => format!("has the name `{name}`, which no cgroup has"),
                _ if name.len() > MAX_CGROUP_NAME => format!(
                    "has a name of {} bytes, the limit is {MAX_CGROUP_NAME}",
                    name.len()
                ),
                _ if name.contains('\0') || name.contains('\n') => {
                    "has a name with a NUL or a newline, which no cgroup has".to_owned()
                }
                _ => continue,
            };
            self.error(path, format!("the cgroup path {problem}"), None);
            return None;
        }
        Some(names)
    }
}

/// A number written in digits alone.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Longer than u64 is as wrong as the greatest u64.
    Some(text.parse().unwrap_or(u64::MAX))
}
