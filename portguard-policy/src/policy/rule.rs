//! Rules and tests: the entries of `rules:` and `tests:`.

use super::file::LOGS;
use super::forgery;
use super::model::{PolicyTest, Rule};
use super::reader::{Reader, scalar_text};
use portguard_common::{Protocol, Verdict};
use serde_yaml::{Mapping, Value};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

const VERDICTS: [(&str, Verdict); 3] = [
    ("allow", Verdict::Allow),
    ("deny", Verdict::Deny),
    ("kernel", Verdict::Kernel),
];
const PROTOCOLS: [(&str, Protocol); 4] = [
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
    ("dccp", Protocol::Dccp),
];

/// The keys of a rule.
pub const RULE_KEYS: [&str; 11] = [
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
];
/// The keys of a test.
pub const TEST_KEYS: [&str; 9] = [
    "user", "group", "groups", "cgroup", "port", "protocol", "address", "expect", "rule",
];

impl Reader<'_> {
    pub(super) fn rule(&mut self, value: &Value, path: &str) -> Option<Rule> {
        let map = self.mapping(value, path, &RULE_KEYS)?;
        let name = self
            .required(map, path, "name")
            .and_then(|value| self.rule_name(value, path));
        let action = self.required(map, path, "action");
        let action =
            action.and_then(|value| self.word(value, &format!("{path}/action"), &VERDICTS));
        let rule = Rule {
            name: name.clone().unwrap_or_default(),
            action: action.unwrap_or(Verdict::Kernel),
            ports: self.each(map, path, "ports", "ports", Self::ports),
            protocols: self.each(map, path, "protocols", "protocols", Self::protocol),
            users: self.each(map, path, "users", "users", Self::users),
            groups: self.each(map, path, "groups", "groups", Self::groups),
            cgroups: self.each(map, path, "cgroups", "cgroups", Self::cgroup),
            units: self.each(map, path, "units", "units", Self::unit),
            addresses: self.each(map, path, "addresses", "addresses", Self::network),
            audit: self.audit(map, path),
            log: map
                .get("log")
                .and_then(|value| self.word(value, &format!("{path}/log"), &LOGS)),
            place: self.place(path),
        };
        self.warn_of_same_ids(map, path, "users", rule.users.as_deref());
        self.warn_of_same_ids(map, path, "groups", rule.groups.as_deref());
        self.warn_of_sctp(&rule, path);
        self.warn_of_forgery(&rule, path);
        // Without a name or an action there is an error already.
        name.and(action).map(|_| rule)
    }

    fn protocol(&mut self, value: &Value, path: &str) -> Option<Protocol> {
        self.word(value, path, &PROTOCOLS)
    }

    /// `mode:` of a rule.
    fn audit(&mut self, map: &Mapping, path: &str) -> bool {
        let Some(value) = map.get("mode") else {
            return false;
        };
        let path = format!("{path}/mode");
        if value.as_str() == Some("enforce") {
            self.error(
                &path,
                "a rule enforces where the policy does, so its `mode` can only be `audit`",
                Some("leave `mode` out".into()),
            );
            return false;
        }
        self.word(value, &path, &[("audit", true)]).unwrap_or(false)
    }

    /// Different words for one id; equal words are told already.
    fn warn_of_same_ids(
        &mut self,
        map: &Mapping,
        path: &str,
        key: &str,
        ids: Option<&[RangeInclusive<u32>]>,
    ) {
        let words = map.get(key).and_then(Value::as_sequence);
        let (Some(words), Some(ids)) = (words, ids) else {
            return;
        };
        // Where a word is wrong, ids are missing.
        if words.len() != ids.len() {
            return;
        }
        let mut seen: HashMap<&RangeInclusive<u32>, &Value> = HashMap::new();
        for (i, (word, id)) in words.iter().zip(ids).enumerate() {
            let first = *seen.entry(id).or_insert(word);
            if first != word
                && let (Some(first), Some(word)) = (scalar_text(first), scalar_text(word))
            {
                let message = format!("`{word}` is `{first}`, which is in the list already");
                self.warn(&format!("{path}/{key}/{i}"), message);
            }
        }
    }

    /// Only where sctp is named: a rule without `protocols` says "whatever the protocol", as most do that
    /// only ever meet tcp, and a warning for each of them would be read by nobody.
    fn warn_of_sctp(&mut self, rule: &Rule, path: &str) {
        let mut named = rule.protocols.iter().flatten();
        if rule.action == Verdict::Allow && named.any(|protocol| *protocol == Protocol::Sctp) {
            self.warn(
                &format!("{path}/protocols"),
                "an `allow` for sctp cannot skip the kernel's capability check, which comes before any cgroup hook",
            );
        }
    }

    /// Whoever owns a delegated cgroup makes what cgroups below it he likes.
    fn warn_of_forgery(&mut self, rule: &Rule, path: &str) {
        if rule.action == Verdict::Deny {
            return;
        }
        for (i, pattern) in rule.cgroups.iter().flatten().enumerate() {
            if let Some((uid, example)) = forgery::of(pattern, rule.users.as_deref()) {
                self.warn(
                    &format!("{path}/cgroups/{i}"),
                    format!(
                        "user {uid} can make a cgroup that this names: systemd hands him all below {example}; \
                         name the path from the top, or the unit under `units`, which cannot be forged"
                    ),
                );
            }
        }
    }

    fn required<'v>(&mut self, map: &'v Mapping, path: &str, key: &str) -> Option<&'v Value> {
        let value = map.get(key);
        if value.is_none() {
            self.error(path, format!("`{key}` is missing"), None);
        }
        value
    }

    fn rule_name(&mut self, value: &Value, path: &str) -> Option<String> {
        let path = format!("{path}/name");
        let name = self.text(value, &path, "a name")?;
        let problem = if name.is_empty() {
            "the name is empty"
        } else if name.chars().count() > 64 {
            "the name is longer than 64 characters"
        } else if name.chars().any(char::is_control) {
            "the name has a control character"
        } else {
            return Some(name.to_owned());
        };
        self.error(&path, problem, None);
        None
    }

    pub(super) fn expectation(&mut self, value: &Value, path: &str) -> Option<PolicyTest> {
        let map = self.mapping(value, path, &TEST_KEYS)?;
        let user = self.required(map, path, "user");
        let port = self.required(map, path, "port");
        let expect = self.required(map, path, "expect");
        let uid = user.and_then(|value| self.one_user(value, &format!("{path}/user")));
        let port = port.and_then(|value| self.port(value, &format!("{path}/port")));
        let expect =
            expect.and_then(|value| self.word(value, &format!("{path}/expect"), &VERDICTS));
        let protocol = match map.get("protocol") {
            Some(value) => self.word(value, &format!("{path}/protocol"), &PROTOCOLS),
            None => Some(Protocol::Tcp),
        };
        let cgroup = match map.get("cgroup") {
            Some(value) => self.cgroup_names(value, &format!("{path}/cgroup")),
            None => Some(Vec::new()),
        };
        let address = match map.get("address") {
            Some(value) => self.address(value, &format!("{path}/address")),
            None => Some(Ipv4Addr::UNSPECIFIED.into()),
        };
        let groups = self.groups_of_test(map, path, user);
        let rule = match map.get("rule") {
            Some(value) => Some(
                self.text(value, &format!("{path}/rule"), "a rule's name")?
                    .to_owned(),
            ),
            None => None,
        };
        Some(PolicyTest {
            user: uid?,
            user_text: user.and_then(scalar_text)?,
            groups,
            cgroup: cgroup?,
            address: address?,
            port: port?,
            protocol: protocol?,
            expect: expect?,
            rule,
            place: self.place(path),
        })
    }

    /// The groups of a test's caller: those given, else those of the user by the system's database.
    fn groups_of_test(&mut self, map: &Mapping, path: &str, user: Option<&Value>) -> Vec<u32> {
        let one = map.get("group");
        let one = one.and_then(|value| self.one_group(value, &format!("{path}/group")));
        let many = self.each(map, path, "groups", "groups", Self::one_group);
        if one.is_none() && many.is_none() {
            let name = user.and_then(Value::as_str);
            return name.map_or_else(Vec::new, |name| self.names.gids_of(name));
        }
        many.into_iter().flatten().chain(one).collect()
    }
}
