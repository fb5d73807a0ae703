//! The naive oracle: a policy as the documentation words it, decided by a loop over its rules.
//!
//! It shares no code with portguard: own types, own YAML writer, own first-match loop. What it and
//! the compiled tables agree on, two independent readings of the contract agree on.

use std::fmt::Write as _;

/// A verdict, which is also a rule's action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// May bind, with or without the capability.
    Allow,
    /// May not bind.
    Deny,
    /// The kernel's own rule decides.
    Kernel,
}

impl Action {
    /// The word in policies and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Kernel => "kernel",
        }
    }
}

/// A protocol that rules can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// DCCP.
    Dccp,
}

impl Proto {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp];

    /// The word in policies and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
        }
    }
}

/// Which decisions are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// Every decision.
    All,
    /// Denials only.
    Deny,
    /// None.
    None,
}

/// First and last of a range, both in it.
pub type Span<T> = (T, T);

/// Components of a cgroup path below the root.
pub type Path = Vec<String>;

/// One rule; an absent field matches everything.
#[derive(Clone, Debug)]
pub struct ModelRule {
    /// `name:`
    pub name: String,
    /// `action:`
    pub action: Action,
    /// `ports:`
    pub ports: Option<Vec<Span<u16>>>,
    /// `protocols:`
    pub protocols: Option<Vec<Proto>>,
    /// `users:`
    pub users: Option<Vec<Span<u32>>>,
    /// `cgroups:`
    pub cgroups: Option<Vec<Path>>,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Model {
    /// `mode:` is `enforce` (else `audit`).
    pub enforce: bool,
    /// `default:`, kernel or deny.
    pub default: Action,
    /// `protect:`
    pub protect: Vec<Span<u16>>,
    /// `log:`
    pub log: Logged,
    /// `rules:`
    pub rules: Vec<ModelRule>,
}

/// A bind, as much of it as rules can match.
#[derive(Clone, Debug)]
pub struct OracleBind {
    /// Port.
    pub port: u16,
    /// Protocol of the socket.
    pub protocol: Proto,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// The caller's cgroup.
    pub cgroup: Path,
}

/// What the oracle says of a bind of a protected port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The verdict.
    pub verdict: Action,
    /// The deciding rule, `None` for the default.
    pub rule: Option<&'a str>,
    /// Whether it is reported.
    pub report: bool,
}

/// Whether any of the ranges holds `value`.
fn within<T: PartialOrd + Copy>(spans: &[Span<T>], value: T) -> bool {
    spans
        .iter()
        .any(|&(first, last)| first <= value && value <= last)
}

impl ModelRule {
    /// Whether every named field matches.
    #[must_use]
    pub fn matches(&self, bind: &OracleBind) -> bool {
        self.matches_port(bind)
            && self
                .protocols
                .as_ref()
                .is_none_or(|all| all.contains(&bind.protocol))
            && self.matches_user(bind)
            && self.matches_cgroup(bind)
    }

    fn matches_port(&self, bind: &OracleBind) -> bool {
        self.ports
            .as_ref()
            .is_none_or(|spans| within(spans, bind.port))
    }

    /// "an `allow` or `kernel` rule matches when both are in the set, a `deny` rule when either is"
    fn matches_user(&self, bind: &OracleBind) -> bool {
        let Some(users) = &self.users else {
            return true;
        };
        let (real, effective) = (within(users, bind.uid), within(users, bind.euid));
        match self.action {
            Action::Deny => real || effective,
            Action::Allow | Action::Kernel => real && effective,
        }
    }

    /// "that cgroup and all below it"
    fn matches_cgroup(&self, bind: &OracleBind) -> bool {
        self.cgroups
            .as_ref()
            .is_none_or(|paths| paths.iter().any(|path| bind.cgroup.starts_with(path)))
    }
}

impl Model {
    /// First match wins, in order; `None` where the port is not protected.
    #[must_use]
    pub fn decide(&self, bind: &OracleBind) -> Option<Answer<'_>> {
        if !within(&self.protect, bind.port) {
            return None;
        }
        let rule = self.rules.iter().find(|rule| rule.matches(bind));
        let verdict = rule.map_or(self.default, |rule| rule.action);
        Some(Answer {
            verdict,
            rule: rule.map(|rule| rule.name.as_str()),
            report: match self.log {
                Logged::All => true,
                Logged::Deny => verdict == Action::Deny,
                Logged::None => false,
            },
        })
    }

    /// The policy file that says the same.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut text = self.settings_yaml();
        text.push_str(&rules_yaml(&self.rules));
        text
    }

    /// The settings alone, with the version: the head of a file.
    #[must_use]
    pub fn settings_yaml(&self) -> String {
        let mode = if self.enforce { "enforce" } else { "audit" };
        let log = match self.log {
            Logged::All => "all",
            Logged::Deny => "deny",
            Logged::None => "none",
        };
        format!(
            "version: 1\nmode: {mode}\ndefault: {}\nprotect: {}\nlog: {log}\n",
            self.default.word(),
            spans_yaml(&self.protect),
        )
    }
}

/// The `rules:` of a file.
#[must_use]
pub fn rules_yaml(rules: &[ModelRule]) -> String {
    if rules.is_empty() {
        return "rules: []\n".to_owned();
    }
    let mut text = String::from("rules:\n");
    for rule in rules {
        rule_yaml(&mut text, rule);
    }
    text
}

fn rule_yaml(text: &mut String, rule: &ModelRule) {
    let mut line = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key}: {value}");
    };
    line("  - name", quoted(&rule.name));
    line("    action", rule.action.word().to_owned());
    if let Some(ports) = &rule.ports {
        line("    ports", spans_yaml(ports));
    }
    if let Some(protocols) = &rule.protocols {
        line(
            "    protocols",
            list(protocols.iter().map(|p| p.word().to_owned())),
        );
    }
    if let Some(users) = &rule.users {
        line("    users", spans_yaml(users));
    }
    if let Some(cgroups) = &rule.cgroups {
        line(
            "    cgroups",
            list(cgroups.iter().map(|p| quoted(&slashed(p)))),
        );
    }
}

/// A path as it is written: `/` for the root.
#[must_use]
pub fn slashed(path: &[String]) -> String {
    format!("/{}", path.join("/"))
}

/// One number alone, a range in quotes.
fn spans_yaml<T: PartialEq + std::fmt::Display>(spans: &[Span<T>]) -> String {
    list(spans.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("\"{first}-{last}\"")
        }
    }))
}

fn list(entries: impl Iterator<Item = String>) -> String {
    format!("[{}]", entries.collect::<Vec<_>>().join(", "))
}

/// A YAML scalar in single quotes, in which only the quote itself is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, action: Action) -> ModelRule {
        ModelRule {
            name: name.to_owned(),
            action,
            ports: None,
            protocols: None,
            users: None,
            cgroups: None,
        }
    }

    fn model(rules: Vec<ModelRule>) -> Model {
        Model {
            enforce: true,
            default: Action::Kernel,
            protect: vec![(1, 1023)],
            log: Logged::Deny,
            rules,
        }
    }

    fn bind(port: u16, uid: u32, euid: u32, cgroup: &[&str]) -> OracleBind {
        OracleBind {
            port,
            protocol: Proto::Tcp,
            uid,
            euid,
            cgroup: cgroup.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn the_first_match_wins_and_unprotected_ports_are_not_decided() {
        let mut first = rule("first", Action::Allow);
        first.ports = Some(vec![(80, 80)]);
        let model = model(vec![first, rule("second", Action::Deny)]);
        let said = |port| model.decide(&bind(port, 0, 0, &[])).map(|a| a.rule);
        assert_eq!(said(80), Some(Some("first")));
        assert_eq!(said(81), Some(Some("second")));
        assert_eq!(said(1024), None);
        assert_eq!(said(0), None);
    }

    #[test]
    fn a_setuid_binary_neither_inherits_a_grant_nor_slips_past_a_denial() {
        for (action, matched) in [
            (Action::Allow, false),
            (Action::Kernel, false),
            (Action::Deny, true),
        ] {
            let mut only = rule("only", action);
            only.users = Some(vec![(1000, 1000)]);
            let model = model(vec![only]);
            for (uid, euid) in [(1000, 0), (0, 1000)] {
                let said = model.decide(&bind(80, uid, euid, &[])).and_then(|a| a.rule);
                assert_eq!(said.is_some(), matched, "{action:?} {uid} {euid}");
            }
        }
    }

    #[test]
    fn a_cgroup_holds_for_all_below_it_and_not_for_its_namesakes() {
        let mut only = rule("only", Action::Deny);
        only.cgroups = Some(vec![vec!["a".to_owned(), "b".to_owned()]]);
        let model = model(vec![only]);
        let hit = |path: &[&str]| {
            model
                .decide(&bind(80, 0, 0, path))
                .is_some_and(|a| a.rule.is_some())
        };
        assert!(hit(&["a", "b"]) && hit(&["a", "b", "c"]));
        assert!(!hit(&["a"]) && !hit(&["a", "bc"]) && !hit(&["b", "a"]) && !hit(&[]));
    }

    #[test]
    fn the_text_is_what_a_person_would_write() {
        let mut only = rule("it's", Action::Allow);
        only.ports = Some(vec![(80, 80), (8000, 8010)]);
        only.users = Some(vec![(33, 33)]);
        only.cgroups = Some(vec![vec!["a b".to_owned()], vec![]]);
        let text = model(vec![only]).to_yaml();
        assert!(
            text.contains("  - name: 'it''s'\n    action: allow\n    ports: [80, \"8000-8010\"]\n")
        );
        assert!(text.contains("    users: [33]\n    cgroups: ['/a b', '/']\n"));
    }
}
