//! `diff` is exact: a bind that the oracle decides differently under the new policy is in one region of the
//! difference, with both effects, and every other bind is in none.

use portguard_itest::convert::{errno, parsed, protocol, with_bind};
use portguard_itest::generate::{GeneratorConfig, case};
use portguard_itest::oracle::{Action, Model, OracleBind};
use portguard_itest::seed::{cases, runner};
use portguard_policy::analysis::diff::{Netns, changes};
use portguard_policy::analysis::space::{BindSpace, Effect};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::cell::Cell;

fn effect(model: &Model, bind: &OracleBind) -> Effect {
    match model.decide(bind) {
        Some(decision) => match (decision.verdict, decision.enforced) {
            (Action::Kernel, _) => Effect::Kernel,
            (Action::Allow, true) => Effect::Allow,
            (Action::Deny, true) => Effect::Deny(errno(decision.errno)),
            (Action::Allow, false) => Effect::AuditAllow,
            (Action::Deny, false) => Effect::AuditDeny,
        },
        None => Effect::Kernel,
    }
}

fn exact(
    old: &Model,
    new: &Model,
    binds: &[OracleBind],
    changed: &Cell<usize>,
) -> Result<(), TestCaseError> {
    let (old_policy, new_policy) = (parsed(&old.to_yaml()).policy, parsed(&new.to_yaml()).policy);
    let space = BindSpace::new(&[&old_policy, &new_policy])
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let found = changes(&space).map_err(|error| TestCaseError::fail(error.to_string()))?;
    for bind in binds.iter().filter(|bind| bind.is_analysed()) {
        // The oracle's binds are in the host's network namespace.
        let here: Vec<_> = found
            .iter()
            .filter(|changed| changed.change.netns != Netns::Others)
            .filter(|changed| changed.group.has(bind.port, protocol(bind.protocol)))
            .filter(|changed| with_bind(bind, |bind| space.contains(&changed.region, bind)))
            .map(|changed| (changed.change.old.effect, changed.change.new.effect))
            .collect();
        let (before, after) = (effect(old, bind), effect(new, bind));
        let expected: Vec<_> = (before != after)
            .then_some((before, after))
            .into_iter()
            .collect();
        changed.set(changed.get() + expected.len());
        prop_assert_eq!(
            here,
            expected,
            "{:?}\n{}\n----\n{}",
            bind,
            old.to_yaml(),
            new.to_yaml()
        );
    }
    Ok(())
}

/// The model with one change.
fn mutated(model: &Model, how: usize, at: usize) -> Model {
    let mut new = model.clone();
    let at = at % new.rules.len().max(1);
    if new.rules.is_empty() {
        return new;
    }
    match how {
        0 => {
            new.rules.remove(at);
        }
        1 => new.rules.rotate_left(at),
        2 => new.rules[at].action = Action::Deny,
        3 => new.rules[at].users = None,
        4 => new.rules[at].cgroups = None,
        5 => new.rules[at].groups = None,
        6 if new.rules[at].action == Action::Deny => {
            new.rules[at].errno = Some("EADDRINUSE");
        }
        6 => new.enforce = !new.enforce,
        _ => {
            new.default = if new.default == Action::Deny {
                Action::Kernel
            } else {
                Action::Deny
            }
        }
    }
    new
}

#[test]
fn diff_has_every_change_in_one_region() {
    let changed = Cell::new(0);
    let count = cases(1000).div_ceil(4);
    let (seed, mut runner) = runner(count);
    println!("{count} pairs of policies, PORTGUARD_SEED={seed}");
    let strategy = (
        case(&GeneratorConfig::wide(), 0..=12, 64),
        case(&GeneratorConfig::wide(), 0..=12, 64),
        0..9usize,
        0..12usize,
    );
    let result = runner.run(&strategy, |((old, binds), (other, more), how, at)| {
        let new = if how == 8 {
            other
        } else {
            mutated(&old, how, at)
        };
        exact(&old, &new, &[binds, more].concat(), &changed)
    });
    if let Err(failure) = result {
        panic!("repeat with PORTGUARD_SEED={seed}\n{failure}");
    }
    println!("{} binds changed", changed.get());
    assert!(
        changed.get() > 500,
        "hardly any bind changed: {}",
        changed.get()
    );
}
