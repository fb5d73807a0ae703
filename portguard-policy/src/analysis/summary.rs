//! What one policy changes against another, in a line. `diff` says for whom; this says what to look at.

use crate::policy::{Log, Mode, Number, Policy, Rule, Scope, merged, outside, ranges_text};
use portguard_common::Verdict;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::RangeInclusive;

/// The most names of rules that are listed.
const LISTED: usize = 5;

/// The changes from `old` to `new` in a line, which says where the new policy is weaker: where it protects fewer ports,
/// denies less or reports less.
#[must_use]
pub fn summary(old: &Policy, new: &Policy) -> String {
    let rules = RuleChanges::of(old, new);
    let mut parts = Vec::new();
    parts.extend(rules.counts());
    let mut weaker = Vec::new();
    let protected = |policy: &Policy| merged(&policy.protect);
    let lost = outside(&protected(old), &protected(new));
    if !lost.is_empty() {
        weaker.push(format!("ports no longer protected: {}", ranges_text(&lost)));
    }
    let gained: Vec<RangeInclusive<u16>> = outside(&protected(new), &protected(old));
    if !gained.is_empty() {
        parts.push(format!("ports now protected: {}", ranges_text(&gained)));
    }
    let mut setting = |name: &str, old: &str, new: &str, is_weaker: bool| {
        let list = if is_weaker { &mut weaker } else { &mut parts };
        if old != new {
            list.push(format!("{name} {new} (was {old})"));
        }
    };
    let (mode, default, scope) = (old.mode, old.default, old.scope);
    setting(
        "mode",
        mode.as_str(),
        new.mode.as_str(),
        mode == Mode::Enforce,
    );
    setting(
        "default",
        default.as_str(),
        new.default.as_str(),
        default == Verdict::Deny,
    );
    setting(
        "scope",
        scope.as_str(),
        new.scope.as_str(),
        scope == Scope::All,
    );
    let rank = |log: Log| Log::ALL.iter().position(|known| *known == log);
    setting(
        "log",
        old.log.as_str(),
        new.log.as_str(),
        rank(old.log) < rank(new.log),
    );
    if !rules.denials_lost.is_empty() {
        weaker.push(format!("denials lost: {}", listed(&rules.denials_lost)));
    }
    if !rules.denials_narrowed.is_empty() {
        let names = listed(&rules.denials_narrowed);
        weaker.push(format!("denials narrowed: {names}"));
    }
    let is_weaker = !weaker.is_empty();
    // The numbers of rules first, then what matters most.
    let at = rules.any();
    parts.splice(usize::from(at)..usize::from(at), weaker);
    match (parts.is_empty(), is_weaker) {
        (true, _) => "nothing changed".to_owned(),
        (false, true) => format!("{}; weaker than before", parts.join(", ")),
        (false, false) => parts.join(", "),
    }
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| crate::escape::escape(name.as_bytes()))
        .collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

/// How the rules differ, by their names.
struct RuleChanges<'a> {
    added: usize,
    removed: usize,
    changed: usize,
    /// Rules that denied, and are gone, decide otherwise or only report.
    denials_lost: Vec<&'a str>,
    /// Rules that deny, and do not name all any more that they named.
    denials_narrowed: Vec<&'a str>,
}

impl<'a> RuleChanges<'a> {
    fn of(old: &'a Policy, new: &Policy) -> Self {
        let new_rules: HashMap<&str, &Rule> =
            new.rules.iter().map(|rule| (&*rule.name, rule)).collect();
        let mut found = Self {
            added: 0,
            removed: 0,
            changed: 0,
            denials_lost: Vec::new(),
            denials_narrowed: Vec::new(),
        };
        let mut kept = 0;
        for rule in &old.rules {
            let now = new_rules.get(&*rule.name);
            match now {
                None => found.removed += 1,
                Some(now) => {
                    kept += 1;
                    found.changed += usize::from(!is_equal(rule, now));
                }
            }
            let denies = |rule: &Rule| rule.action == Verdict::Deny && !rule.audit;
            match now {
                _ if !denies(rule) => {}
                Some(now) if denies(now) => {
                    if is_narrower(rule, now) {
                        found.denials_narrowed.push(&rule.name);
                    }
                }
                Some(_) | None => found.denials_lost.push(&rule.name),
            }
        }
        found.added = new.rules.len() - kept;
        found
    }

    const fn any(&self) -> bool {
        self.added + self.removed + self.changed > 0
    }

    fn counts(&self) -> Option<String> {
        let counts = [('+', self.added), ('-', self.removed), ('~', self.changed)];
        let counts = counts.iter().filter(|(_, count)| *count > 0);
        let counts: Vec<String> = counts
            .map(|(sign, count)| format!("{sign}{count}"))
            .collect();
        (!counts.is_empty()).then(|| format!("rules {}", counts.join(" ")))
    }
}

/// Whether a field of a rule named something that it does not name any more.
fn is_narrower(old: &Rule, new: &Rule) -> bool {
    lacks(old.ports.as_deref(), new.ports.as_deref(), has_all_ids)
        || lacks(old.users.as_deref(), new.users.as_deref(), has_all_ids)
        || lacks(old.groups.as_deref(), new.groups.as_deref(), has_all_ids)
        || lacks(old.protocols.as_deref(), new.protocols.as_deref(), has_all)
        || lacks(old.cgroups.as_deref(), new.cgroups.as_deref(), has_all)
        || lacks(old.units.as_deref(), new.units.as_deref(), has_all)
        || lacks(old.addresses.as_deref(), new.addresses.as_deref(), has_all)
}

/// Whether a field, which matches all where it is absent, lacks something of the old one.
fn lacks<T>(old: Option<&[T]>, new: Option<&[T]>, has_all: fn(&[T], &[T]) -> bool) -> bool {
    match (old, new) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => !has_all(old, new),
    }
}

fn has_all<T: Eq + Hash>(old: &[T], new: &[T]) -> bool {
    let new: HashSet<&T> = new.iter().collect();
    old.iter().all(|entry| new.contains(entry))
}

fn has_all_ids<T: Number>(old: &[RangeInclusive<T>], new: &[RangeInclusive<T>]) -> bool {
    outside(&merged(old), &merged(new)).is_empty()
}

/// Whether two rules of one name say the same.
fn is_equal(old: &Rule, new: &Rule) -> bool {
    // Names every field, so that a new one is not forgotten here.
    let Rule {
        name: _,
        action,
        ports,
        protocols,
        users,
        groups,
        cgroups,
        units,
        addresses,
        audit,
        log,
        errno,
        location: _,
    } = old;
    (action, audit, log, errno) == (&new.action, &new.audit, &new.log, &new.errno)
        && (ports, protocols) == (&new.ports, &new.protocols)
        && (users, groups) == (&new.users, &new.groups)
        && (cgroups, units, addresses) == (&new.cgroups, &new.units, &new.addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{StaticNames, parse};

    fn policy(text: &str) -> Policy {
        let text = format!("version: 1\n{text}");
        let loaded = parse("p.yaml".as_ref(), &text, &StaticNames::default());
        loaded.unwrap_or_else(|error| panic!("{error}")).policy
    }

    #[test]
    fn summary_says_what_changed_and_what_is_weaker() {
        let rule = |name: &str, rest: &str| format!("- {{ name: {name}, {rest} }}\n");
        let old = format!(
            "protect: [\"80-90\"]\nrules:\n{}{}{}",
            rule("a", "action: deny, ports: [80]"),
            rule("b", "action: allow, ports: [81]"),
            rule("c", "action: deny, ports: [82]"),
        );
        for (new, expected) in [
            (old.clone(), "nothing changed"),
            (
                old.replace("80-90", "81-90")
                    + &rule("d", "action: allow")
                    + &rule("e", "action: deny"),
                "rules +2, ports no longer protected: 80; weaker than before",
            ),
            (
                old.replace(&rule("a", "action: deny, ports: [80]"), ""),
                "rules -1, denials lost: a; weaker than before",
            ),
            (
                old.replace("ports: [81]", "ports: [83]") + "mode: audit\n",
                "rules ~1, mode audit (was enforce); weaker than before",
            ),
            (
                old.replace("deny, ports: [82]", "deny, ports: [82], mode: audit")
                    + "default: deny\n",
                "rules ~1, denials lost: c, default deny (was kernel); weaker than before",
            ),
            (
                old.replace("80-90", "80-91") + "log: deny\nscope: all\n",
                "log deny (was all), ports now protected: 91, scope all (was host); weaker than before",
            ),
            (
                old.replace("rules:", "# the same\nrules:"),
                "nothing changed",
            ),
            (old.replace("name: b", "name: f"), "rules +1 -1"),
            (
                old.replace("deny, ports: [80]", "deny, ports: [80, 81]"),
                "rules ~1",
            ),
            (
                old.replace("deny, ports: [80]", "deny, ports: [81]"),
                "rules ~1, denials narrowed: a; weaker than before",
            ),
            (
                old.replace("deny, ports: [82]", "deny, ports: [82], units: [b.service]"),
                "rules ~1, denials narrowed: c; weaker than before",
            ),
            (old.replace("[82]", "[82], errno: EADDRINUSE"), "rules ~1"),
        ] {
            assert_eq!(summary(&policy(&old), &policy(&new)), expected, "{new}");
        }
        let back = policy("default: kernel\nscope: host\n");
        let strict = policy("default: deny\nscope: all\n");
        assert_eq!(
            summary(&strict, &back),
            "default kernel (was deny), scope host (was all); weaker than before"
        );
    }
}
