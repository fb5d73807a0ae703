//! Rules and tests: the entries of `rules:` and `tests:`.

use super::document::{Mapping, Node};
use super::forgery;
use super::model::{Log, Mode, PolicyTest, Rule};
use super::reader::Reader;
use crate::units;
use portguard_common::{Errno, Protocol, Verdict};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Deny, Verdict::Kernel];

/// The keys of a rule.
pub const RULE_KEYS: [&str; 12] = [
    "name",
    "action",
    "ports",
    "protocols",
    "users",
    "groups",
    "cgroups",
    "units",
    "addresses",
    "mode",
    "log",
    "errno",
];
/// The keys of a test.
pub const TEST_KEYS: [&str; 10] = [
    "user", "group", "groups", "cgroup", "unit", "port", "protocol", "address", "expect", "rule",
];

impl Reader<'_> {
    pub(super) fn rule(&mut self, node: &Node) -> Option<Rule> {
        let map = self.mapping(node, &RULE_KEYS)?;
        let name = self.required(node, map, "name");
        let name = name.and_then(|node| self.rule_name(node));
        let action = self.required(node, map, "action");
        let action = action.and_then(|node| self.word(node, &VERDICTS));
        let unknown_before = self.unknown.len();
        let rule = Rule {
            name: name.clone().unwrap_or_default(),
            action: action.unwrap_or(Verdict::Kernel),
            ports: self.each(map, "ports", "ports", Self::ports),
            protocols: self.each(map, "protocols", "protocols", Self::protocol),
            users: self.each(map, "users", "users", Self::users),
            groups: self.each(map, "groups", "groups", Self::groups),
            cgroups: self.each(map, "cgroups", "cgroups", Self::cgroup),
            units: self.each(map, "units", "units", Self::unit),
            addresses: self.each(map, "addresses", "addresses", Self::network),
            audit: self.audit(map),
            log: map.get("log").and_then(|node| self.word(node, &Log::ALL)),
            errno: self.errno(map, action),
            location: self.location(node.span),
        };
        for unknown in &mut self.unknown[unknown_before..] {
            unknown.rule.clone_from(&rule.name);
        }
        self.warn_of_same_ids(map, "users", rule.users.as_deref());
        self.warn_of_same_ids(map, "groups", rule.groups.as_deref());
        self.warn_of_sctp(map, &rule);
        self.warn_of_forgery(map, &rule);
        // Without a name or an action there is an error already.
        name.and(action).map(|_| rule)
    }

    fn protocol(&mut self, node: &Node) -> Option<Protocol> {
        self.word(node, &Protocol::ALL)
    }

    /// `mode:` of a rule.
    fn audit(&mut self, map: &Mapping) -> bool {
        let Some(node) = map.get("mode") else {
            return false;
        };
        if node.as_str() == Some(Mode::Enforce.as_str()) {
            self.error(
                node.span,
                "the `mode` of a rule can only be `audit`",
                Some("omit `mode`: rules enforce where the policy does".into()),
            );
            return false;
        }
        self.word(node, &[Mode::Audit]).is_some()
    }

    /// `errno:` of a `deny` rule.
    fn errno(&mut self, map: &Mapping, action: Option<Verdict>) -> Errno {
        let Some(node) = map.get("errno") else {
            return Errno::default();
        };
        if let Some(action @ (Verdict::Allow | Verdict::Kernel)) = action {
            self.error(
                node.span,
                format!(
                    "`errno` of a rule with `action: {}`, which refuses no bind",
                    action.as_str()
                ),
                Some("omit `errno`, or write `action: deny`".into()),
            );
            return Errno::default();
        }
        self.word(node, &Errno::ALL).unwrap_or_default()
    }

    /// Warns about different words for one id; equal words have a warning already.
    fn warn_of_same_ids(&mut self, map: &Mapping, key: &str, ids: Option<&[RangeInclusive<u32>]>) {
        let entries = map.get(key).and_then(Node::as_list);
        let (Some(entries), Some(ids)) = (entries, ids) else {
            return;
        };
        // Where an entry is wrong, ids are missing.
        if entries.len() != ids.len() {
            return;
        }
        let mut seen: HashMap<&RangeInclusive<u32>, &str> = HashMap::new();
        for (entry, id) in entries.iter().zip(ids) {
            let Some(word) = entry.scalar_text() else {
                continue;
            };
            let first = *seen.entry(id).or_insert(word);
            if first != word {
                let message = format!("duplicate list entry: `{word}` is the same id as `{first}`");
                self.warn(entry.span, message);
            }
        }
    }

    /// Only where sctp is named: most rules without `protocols` are meant for tcp, and a warning about each of
    /// them would be noise.
    fn warn_of_sctp(&mut self, map: &Mapping, rule: &Rule) {
        let mut named = rule.protocols.iter().flatten();
        if rule.action == Verdict::Allow
            && named.any(|protocol| *protocol == Protocol::Sctp)
            && let Some(node) = map.get("protocols")
        {
            self.warn(
                node.span,
                "`allow` does not replace the capability check for sctp: the kernel makes it before any cgroup hook",
            );
        }
    }

    /// Warns about patterns that the owner of a delegated cgroup can satisfy.
    fn warn_of_forgery(&mut self, map: &Mapping, rule: &Rule) {
        let entries = map.get("cgroups").and_then(Node::as_list);
        let (Some(entries), Some(patterns)) = (entries, &rule.cgroups) else {
            return;
        };
        // Where an entry is wrong, patterns are missing, and the rule is refused.
        if rule.action == Verdict::Deny || entries.len() != patterns.len() {
            return;
        }
        for (entry, pattern) in entries.iter().zip(patterns) {
            if let Some((uid, example)) = forgery::find(pattern, rule.users.as_deref()) {
                self.warn(
                    entry.span,
                    format!(
                        "user {uid} can create a cgroup that matches: systemd delegates {example} to them; \
                         name the path from the root, or use `units`, which users cannot forge"
                    ),
                );
            }
        }
    }

    fn required<'v>(&mut self, node: &Node, map: &'v Mapping, key: &str) -> Option<&'v Node> {
        let value = map.get(key);
        if value.is_none() {
            self.error(node.span, format!("missing key `{key}`"), None);
        }
        value
    }

    fn rule_name(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node, "a rule name")?;
        let problem = if name.is_empty() {
            "empty rule name"
        } else if name.chars().count() > 64 {
            "rule name is longer than 64 characters"
        } else if name.chars().any(char::is_control) {
            "rule name contains a control character"
        } else {
            return Some(name.to_owned());
        };
        self.error(node.span, problem, None);
        None
    }

    /// A test; `None` also where it names a user or group that the host does not have.
    pub(super) fn test(&mut self, node: &Node) -> Option<PolicyTest> {
        let before = self.unknown.len();
        self.in_test = true;
        let test = self.any_test(node);
        self.in_test = false;
        // Only names in rules stay a problem.
        let is_known = self.unknown.len() == before;
        self.unknown.truncate(before);
        test.filter(|_| is_known)
    }

    fn any_test(&mut self, node: &Node) -> Option<PolicyTest> {
        let map = self.mapping(node, &TEST_KEYS)?;
        let user = self.required(node, map, "user");
        let port = self.required(node, map, "port");
        let expect = self.required(node, map, "expect");
        let uid = user.and_then(|node| self.one_user(node));
        let port = port.and_then(|node| self.port(node));
        let expect = expect.and_then(|node| self.word(node, &VERDICTS));
        let protocol = match map.get("protocol") {
            Some(node) => self.protocol(node),
            None => Some(Protocol::Tcp),
        };
        let cgroup = self.cgroup_of_test(map);
        let address = match map.get("address") {
            Some(node) => self.address(node),
            None => Some(Ipv4Addr::UNSPECIFIED.into()),
        };
        let groups = self.groups_of_test(map, user);
        let rule = match map.get("rule") {
            Some(node) => Some(self.text(node, "a rule name")?.to_owned()),
            None => None,
        };
        Some(PolicyTest {
            user: uid?,
            user_text: user.and_then(Node::scalar_text)?.to_owned(),
            groups,
            cgroup: cgroup?,
            address: address?,
            port: port?,
            protocol: protocol?,
            expect: expect?,
            rule,
            location: self.location(node.span),
        })
    }

    /// The cgroup of a test's caller: its path, or that of its unit.
    fn cgroup_of_test(&mut self, map: &Mapping) -> Option<Vec<String>> {
        match (map.get("cgroup"), map.get("unit")) {
            (Some(_), Some(unit)) => {
                let help = "omit one of them: a unit stands for its cgroup";
                self.error(unit.span, "both `cgroup` and `unit`", Some(help.into()));
                None
            }
            (Some(node), None) => self.cgroup_names(node),
            (None, Some(node)) => {
                let unit = self.unit(node)?.0;
                if unit.contains('*') {
                    let message = format!("`{unit}` is a pattern: a test is about one unit");
                    self.error(node.span, message, None);
                    return None;
                }
                Some(units::cgroup(&unit))
            }
            (None, None) => Some(Vec::new()),
        }
    }

    /// The groups of a test's caller: those given, else those of the user in the system's database.
    fn groups_of_test(&mut self, map: &Mapping, user: Option<&Node>) -> Vec<u32> {
        let one = map.get("group").and_then(|node| self.one_group(node));
        let many = self.each(map, "groups", "groups", Self::one_group);
        if one.is_none() && many.is_none() {
            let name = user.and_then(Node::as_str);
            return name.map_or_else(Vec::new, |name| self.names.gids_of(name));
        }
        many.into_iter().flatten().chain(one).collect()
    }
}
