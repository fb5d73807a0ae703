//! Why a bind is decided as it is: the deciding rule, and what keeps each rule before it from deciding.

use crate::compile::{Bind, CompileError, compile};
use crate::policy::{Mode, Policy, Rule};
use portguard_common::{Decision, NO_RULE, Verdict};

/// A field of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `ports:`
    Ports,
    /// `protocols:`
    Protocols,
    /// `users:`
    Users,
    /// `groups:`
    Groups,
    /// `addresses:`
    Addresses,
    /// `cgroups:`
    Cgroups,
    /// `units:`
    Units,
}

impl Field {
    const ALL: [Self; 7] = [
        Self::Ports,
        Self::Protocols,
        Self::Users,
        Self::Groups,
        Self::Addresses,
        Self::Cgroups,
        Self::Units,
    ];

    /// The word used in policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Protocols => "protocols",
            Self::Users => "users",
            Self::Groups => "groups",
            Self::Addresses => "addresses",
            Self::Cgroups => "cgroups",
            Self::Units => "units",
        }
    }
}

/// A rule that did not decide.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The first of its fields that did not match; `None` where the caller's cgroup cannot be read.
    pub field: Option<Field>,
}

/// A decision with its reasons.
#[derive(Clone, Debug)]
pub struct Explained<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it is carried out: neither the policy nor the rule is in audit mode.
    pub enforced: bool,
    /// The deciding rule; `None` for the default.
    pub rule: Option<&'a Rule>,
    /// The rules before it, in order.
    pub passed: Vec<Passed<'a>>,
}

/// Explains what a policy makes of a bind; `None` where its port is not protected.
///
/// # Errors
/// Where the policy is too large to compile.
pub fn explain<'a>(
    policy: &'a Policy,
    bind: &Bind<'_>,
) -> Result<Option<Explained<'a>>, CompileError> {
    let Some(decision) = compile(policy)?.decide(bind) else {
        return Ok(None);
    };
    let Decision { rule, .. } = decision;
    let before = if rule == NO_RULE {
        policy.rules.len()
    } else {
        usize::from(rule)
    };
    let passed = policy.rules.iter().take(before).map(|rule| {
        let field = first_mismatch(policy, rule, bind)?;
        Ok(Passed { rule, field })
    });
    Ok(Some(Explained {
        verdict: decision.verdict,
        enforced: policy.mode == Mode::Enforce && !decision.audit,
        rule: policy.rule(rule),
        passed: passed.collect::<Result<_, CompileError>>()?,
    }))
}

/// The first field by which a rule does not hold, by the compiler and decision of all policies: each field
/// is asked about as a rule of its own.
pub(crate) fn first_mismatch(
    policy: &Policy,
    rule: &Rule,
    bind: &Bind<'_>,
) -> Result<Option<Field>, CompileError> {
    for field in Field::ALL {
        let Some(alone) = alone(rule, field) else {
            continue;
        };
        let asked = Policy {
            rules: vec![alone],
            protect: policy.protect.clone(),
            ..Policy::default()
        };
        let decision = compile(&asked)?.decide(bind);
        if decision.is_none_or(|decision| decision.rule == NO_RULE) {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

/// A rule with one of its fields; `None` where it has no such field.
fn alone(rule: &Rule, field: Field) -> Option<Rule> {
    let mut alone = Rule {
        ports: None,
        protocols: None,
        users: None,
        groups: None,
        addresses: None,
        cgroups: None,
        units: None,
        ..rule.clone()
    };
    match field {
        Field::Ports => alone.ports = Some(rule.ports.clone()?),
        Field::Protocols => alone.protocols = Some(rule.protocols.clone()?),
        Field::Users => alone.users = Some(rule.users.clone()?),
        Field::Groups => alone.groups = Some(rule.groups.clone()?),
        Field::Addresses => alone.addresses = Some(rule.addresses.clone()?),
        Field::Cgroups => alone.cgroups = Some(rule.cgroups.clone()?),
        Field::Units => alone.units = Some(rule.units.clone()?),
    }
    Some(alone)
}
