//! First match: whether a rule matches a bind, and what a policy decides.

use super::fields::{Net, glob, path_matches};
use super::model::{
    Action, EACCES, Logged, Model, ModelRule, OracleBind, OracleDecision, Span, Unreadable,
};
use std::net::IpAddr;

/// Whether a range contains `value`.
fn within<T: PartialOrd + Copy>(spans: &[Span<T>], value: T) -> bool {
    spans
        .iter()
        .any(|&(first, last)| first <= value && value <= last)
}

impl ModelRule {
    #[must_use]
    pub fn matches(&self, bind: &OracleBind) -> bool {
        let unreadable = Unreadable {
            cgroup: false,
            groups: false,
        };
        self.could_match(bind, unreadable)
    }

    /// Whether every named field matches, apart from those that cannot be read of the caller.
    fn could_match(&self, bind: &OracleBind, unreadable: Unreadable) -> bool {
        self.matches_port(bind)
            && self
                .protocols
                .as_ref()
                .is_none_or(|all| all.contains(&bind.protocol))
            && (self.matches_user(bind) || unreadable.groups && self.could_be_owned(bind))
            && (unreadable.groups || self.matches_group(bind))
            && (unreadable.cgroup || self.matches_cgroup(bind) && self.matches_unit(bind))
            && self.matches_address(bind)
    }

    fn matches_port(&self, bind: &OracleBind) -> bool {
        self.ports
            .as_ref()
            .is_none_or(|spans| within(spans, bind.port))
    }

    /// "an `allow` or `kernel` rule matches when both are in the set, a `deny` rule when either is", "or the owner of the
    /// caller's user namespace or of one around it"
    fn matches_user(&self, bind: &OracleBind) -> bool {
        let owned = |users| bind.owners.iter().any(|(uid, _)| within(users, *uid));
        self.users.as_ref().is_none_or(|users| {
            self.matches_user_alone(bind) || self.action == Action::Deny && owned(users)
        })
    }

    /// The same without the owners.
    fn matches_user_alone(&self, bind: &OracleBind) -> bool {
        let Some(users) = &self.users else {
            return true;
        };
        let (real, effective) = (within(users, bind.uid), within(users, bind.euid));
        match self.action {
            Action::Deny => real || effective,
            Action::Allow | Action::Kernel => real && effective,
        }
    }

    /// Whether an owner that cannot be read could be one of the users.
    fn could_be_owned(&self, bind: &OracleBind) -> bool {
        self.action == Action::Deny && self.users.is_some() && !bind.owners.is_empty()
    }

    /// "any supplementary gid, or the effective and the real gid", "a `deny` rule when either is", "and that of an owner"
    fn matches_group(&self, bind: &OracleBind) -> bool {
        let Some(groups) = &self.groups else {
            return true;
        };
        let mut owners = bind.owners.iter();
        let (real, effective) = (within(groups, bind.gid), within(groups, bind.egid));
        let own = match self.action {
            Action::Deny => real || effective,
            Action::Allow | Action::Kernel => real && effective,
        };
        own || bind.groups.iter().any(|gid| within(groups, *gid))
            || self.action == Action::Deny && owners.any(|(_, gid)| within(groups, *gid))
    }

    /// "that cgroup and all below it; * a part of one name, ** any depth"
    fn matches_cgroup(&self, bind: &OracleBind) -> bool {
        self.cgroups.as_ref().is_none_or(|paths| {
            let mut paths = paths.iter();
            paths.any(|path| path_matches(path, &bind.cgroup))
        })
    }

    /// "a systemd system unit: below any chain made of slices only"
    fn matches_unit(&self, bind: &OracleBind) -> bool {
        let Some(units) = &self.units else {
            return true;
        };
        for (i, name) in bind.cgroup.iter().enumerate() {
            let slices = bind.cgroup[..i].iter();
            if slices.into_iter().all(|slice| slice.ends_with(".slice"))
                && units
                    .iter()
                    .any(|unit| glob(unit.as_bytes(), name.as_bytes()))
            {
                return true;
            }
        }
        false
    }

    /// "a bind stands for every address it will answer on: a `deny` rule takes it where any of them is named, an
    /// `allow` or `kernel` rule where all are"; "`0.0.0.0` and `::` alone name the wildcard itself"
    fn matches_address(&self, bind: &OracleBind) -> bool {
        let Some(addresses) = &self.addresses else {
            return true;
        };
        let own = Net::one(bind.address);
        let mut answers = match own.0 {
            IpAddr::V4(any) if any.is_unspecified() => vec![(own, Net::ALL_V4)],
            IpAddr::V6(any) if any.is_unspecified() => vec![(own, Net::ALL_V6)],
            _ => vec![(own, own)],
        };
        if own == Net::one(IpAddr::from([0u16; 8])) && !bind.v6only {
            answers.push((Net::one(IpAddr::from([0u8; 4])), Net::ALL_V4));
        }
        let mut answers = answers.into_iter();
        match self.action {
            Action::Deny => answers.any(|(_, all)| addresses.iter().any(|net| net.overlaps(all))),
            Action::Allow | Action::Kernel => {
                answers.all(|(own, all)| addresses.contains(&own) || all.is_covered_by(addresses))
            }
        }
    }
}

impl ModelRule {
    /// Whether the rule names what cannot be read.
    const fn depends_on(&self, unreadable: Unreadable) -> bool {
        unreadable.cgroup && (self.cgroups.is_some() || self.units.is_some())
            || unreadable.groups && self.groups.is_some()
    }

    /// Whether the rule matches by what cannot be read, if it does.
    fn depends_for(&self, bind: &OracleBind, unreadable: Unreadable) -> bool {
        self.depends_on(unreadable)
            || unreadable.groups && self.could_be_owned(bind) && !self.matches_user_alone(bind)
    }
}

impl Model {
    /// "whatever cannot be read: deny rules that could hold do, else the default". Also returns whether the default
    /// decided for that reason.
    #[must_use]
    pub fn decide_unreadable(
        &self,
        bind: &OracleBind,
        unreadable: Unreadable,
    ) -> Option<(OracleDecision<'_>, bool)> {
        let depends = |rule: &ModelRule| {
            rule.depends_on(unreadable) || unreadable.groups && rule.could_be_owned(bind)
        };
        if !self.rules.iter().any(depends) {
            return self.decide(bind).map(|decision| (decision, false));
        }
        if !within(&self.protect, bind.port) {
            return None;
        }
        let denies = |rule: &ModelRule| rule.action == Action::Deny && !rule.audit;
        let first = self.rules.iter().find(|rule| {
            rule.could_match(bind, unreadable)
                && (denies(rule) || !rule.depends_for(bind, unreadable))
        });
        let denial = first.filter(|rule| denies(rule));
        Some((self.decision(denial), denial.is_none()))
    }

    /// Whether a rule is in audit mode; the default is not.
    #[must_use]
    pub fn only_reports(&self, rule: Option<&str>) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|known| known.audit && Some(known.name.as_str()) == rule)
    }

    /// The first rule that matches decides; `None` if the port is not protected.
    #[must_use]
    pub fn decide(&self, bind: &OracleBind) -> Option<OracleDecision<'_>> {
        if !within(&self.protect, bind.port) {
            return None;
        }
        Some(self.decision(self.rules.iter().find(|rule| rule.matches(bind))))
    }

    /// The decision of this rule, or of the default.
    fn decision<'a>(&self, rule: Option<&'a ModelRule>) -> OracleDecision<'a> {
        let verdict = rule.map_or(self.default, |rule| rule.action);
        OracleDecision {
            verdict,
            rule: rule.map(|rule| rule.name.as_str()),
            report: match rule.and_then(|rule| rule.log).unwrap_or(self.log) {
                Logged::All => true,
                Logged::Deny => verdict == Action::Deny,
                Logged::None => false,
            },
            enforced: self.enforce && !rule.is_some_and(|rule| rule.audit),
            errno: rule.and_then(|rule| rule.errno).unwrap_or(EACCES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Proto;

    fn rule(name: &str, action: Action) -> ModelRule {
        ModelRule::new(name.to_owned(), action)
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
            gid: uid,
            egid: uid,
            groups: Vec::new(),
            owners: Vec::new(),
            cgroup: cgroup.iter().map(|&name| name.to_owned()).collect(),
            address: [127, 0, 0, 1].into(),
            v6only: false,
        }
    }

    #[test]
    fn first_match_decides_protected_ports_only() {
        let mut first = rule("first", Action::Allow);
        first.ports = Some(vec![(80, 80)]);
        let model = model(vec![first, rule("second", Action::Deny)]);
        let rule_of = |port| model.decide(&bind(port, 0, 0, &[])).map(|a| a.rule);
        assert_eq!(rule_of(80), Some(Some("first")));
        assert_eq!(rule_of(81), Some(Some("second")));
        assert_eq!(rule_of(1024), None);
        assert_eq!(rule_of(0), None);
    }

    #[test]
    fn setuid_binary_gets_denials_but_no_grants() {
        for (action, matched) in [
            (Action::Allow, false),
            (Action::Kernel, false),
            (Action::Deny, true),
        ] {
            let mut only = rule("only", action);
            only.users = Some(vec![(1000, 1000)]);
            let model = model(vec![only]);
            for (uid, euid) in [(1000, 0), (0, 1000)] {
                let rule_of = model.decide(&bind(80, uid, euid, &[])).and_then(|a| a.rule);
                assert_eq!(rule_of.is_some(), matched, "{action:?} {uid} {euid}");
            }
        }
    }

    #[test]
    fn denial_takes_owners_of_user_namespaces_and_no_other_rule_does() {
        let owned = OracleBind {
            owners: vec![(100_000, 100_000), (1000, 50)],
            ..bind(80, 100_001, 100_001, &[])
        };
        for (action, matched) in [
            (Action::Allow, false),
            (Action::Kernel, false),
            (Action::Deny, true),
        ] {
            let (mut by_user, mut by_group) = (rule("user", action), rule("group", action));
            by_user.users = Some(vec![(1000, 1000)]);
            by_group.groups = Some(vec![(50, 50)]);
            assert_eq!(by_user.matches(&owned), matched, "{action:?}");
            assert_eq!(by_group.matches(&owned), matched, "{action:?}");
            assert!(!by_user.matches(&bind(80, 100_001, 100_001, &[])));
        }
    }

    #[test]
    fn cgroup_matches_descendants_only() {
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
    fn unit_matches_below_slices_only() {
        let mut only = rule("only", Action::Allow);
        only.units = Some(vec!["nginx.service".to_owned()]);
        let model = model(vec![only]);
        let hit = |path: &[&str]| {
            model
                .decide(&bind(80, 0, 0, path))
                .is_some_and(|a| a.rule.is_some())
        };
        assert!(hit(&["nginx.service"]) && hit(&["a.slice", "b.slice", "nginx.service", "w"]));
        assert!(!hit(&["a.slice", "user@1000.service", "nginx.service"]) && !hit(&["a.slice"]));
    }

    #[test]
    fn unreadable_caller_gets_possible_denials_or_the_default() {
        let of_group = |name: &str, action| {
            let mut rule = rule(name, action);
            rule.groups = Some(vec![(7, 7)]);
            rule
        };
        let groups = Unreadable {
            cgroup: false,
            groups: true,
        };
        let decide = |rules| {
            let model = model(rules);
            let (decision, unsure) = model
                .decide_unreadable(&bind(80, 0, 0, &[]), groups)
                .unwrap();
            let rule = decision.rule.map(str::to_owned);
            (decision.verdict, rule, unsure)
        };
        let denied = (Action::Deny, Some("deny".to_owned()), false);
        let grant = of_group("allow", Action::Allow);
        assert_eq!(
            decide(vec![grant.clone(), of_group("deny", Action::Deny)]),
            denied
        );
        let by_default = (Action::Kernel, None, true);
        assert_eq!(decide(vec![grant.clone()]), by_default);
        assert_eq!(decide(vec![rule("all", Action::Allow), grant]), by_default);
        let sure = (Action::Allow, Some("all".to_owned()), false);
        assert_eq!(decide(vec![rule("all", Action::Allow)]), sure);
    }

    /// Whether a rule of these addresses matches a bind.
    fn matches(action: Action, nets: &[Net], address: IpAddr, v6only: bool) -> bool {
        let mut only = rule("only", action);
        only.addresses = Some(nets.to_vec());
        only.matches(&OracleBind {
            address,
            v6only,
            ..bind(80, 0, 0, &[])
        })
    }

    #[test]
    fn denial_takes_wildcards_that_answer_on_its_addresses() {
        let (v4, v6) = (IpAddr::from([0u8; 4]), IpAddr::from([0u16; 8]));
        let loopback = Net([127, 0, 0, 0].into(), 8);
        let denied = |nets: &[Net], address, v6only| matches(Action::Deny, nets, address, v6only);
        assert!(denied(&[loopback], v4, false) && denied(&[loopback], v6, false));
        assert!(
            !denied(&[loopback], v6, true) && !denied(&[loopback], [10, 0, 0, 1].into(), false)
        );
        let one = Net([0, 0, 0, 0, 0, 0, 0, 1].into(), 128);
        assert!(
            denied(&[one], v6, true) && denied(&[one], v6, false) && !denied(&[one], v4, false)
        );
        assert!(denied(&[Net(v4, 0)], v4, false) && denied(&[Net(v4, 32)], v6, false));
        assert!(!denied(&[Net(v4, 32)], [127, 0, 0, 1].into(), false));
    }

    #[test]
    fn grant_takes_wildcards_whose_addresses_it_names_all() {
        let (v4, v6) = (IpAddr::from([0u8; 4]), IpAddr::from([0u16; 8]));
        for action in [Action::Allow, Action::Kernel] {
            let granted = |nets: &[Net], address, v6only| matches(action, nets, address, v6only);
            assert!(!granted(&[Net([127, 0, 0, 0].into(), 8)], v4, false));
            let halves = [Net(v4, 1), Net([128, 0, 0, 0].into(), 1)];
            for all in [&[Net(v4, 0)][..], &halves, &[Net(v4, 32)]] {
                assert!(granted(all, v4, false) && !granted(all, v6, false));
                let both = [all, &[Net(v6, 0)]].concat();
                assert!(granted(&both, v6, false) && granted(&both, v6, true));
            }
            assert!(granted(&[Net(v6, 128)], v6, true) && !granted(&[Net(v6, 128)], v6, false));
        }
    }

    #[test]
    fn yaml_is_readable() {
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
