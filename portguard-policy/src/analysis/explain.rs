//! Why a bind is decided as it is: the deciding rule, and the first mismatch of each rule before it.

use crate::compile::{Bind, CompileError, compile};
use crate::policy::{Field, Mode, Policy, Rule};
use portguard_common::{Errno, NO_RULE, Verdict};

/// A rule that did not decide.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The first of its fields that did not match; `None` where the caller's cgroup cannot be resolved.
    pub field: Option<Field>,
}

/// A decision with its reasons.
#[derive(Clone, Debug)]
pub struct Explained<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The errno of a denial.
    pub errno: Errno,
    /// Whether it is enforced: neither the policy nor the rule is in audit mode.
    pub enforced: bool,
    /// The deciding rule; `None` for the default.
    pub rule: Option<&'a Rule>,
    /// The rules before it, in order.
    pub passed: Vec<Passed<'a>>,
}

/// Explains what a policy decides of a bind; `None` where its port is not protected.
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
    let before = match decision.rule {
        NO_RULE => policy.rules.len(),
        rule => usize::from(rule),
    };
    let passed = policy.rules.iter().take(before).map(|rule| {
        let field = first_mismatch(policy, rule, bind)?;
        Ok(Passed { rule, field })
    });
    Ok(Some(Explained {
        verdict: decision.verdict,
        errno: decision.errno,
        enforced: policy.mode == Mode::Enforce && !decision.audit,
        rule: policy.rule(decision.rule),
        passed: passed.collect::<Result<_, CompileError>>()?,
    }))
}

/// The first field of a rule that does not match. Each field is compiled and decided as the only field of a rule,
/// so nothing here matches by itself.
pub(crate) fn first_mismatch(
    policy: &Policy,
    rule: &Rule,
    bind: &Bind<'_>,
) -> Result<Option<Field>, CompileError> {
    for field in Field::ALL {
        let Some(only) = rule.only(field) else {
            continue;
        };
        let probe = Policy {
            rules: vec![only],
            protect: policy.protect.clone(),
            ..Policy::default()
        };
        let decision = compile(&probe)?.decide(bind);
        if decision.is_none_or(|decision| decision.rule == NO_RULE) {
            return Ok(Some(field));
        }
    }
    Ok(None)
}
