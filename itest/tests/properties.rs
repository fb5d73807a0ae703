//! Compiled decisions equal those of the oracle, over random policies and binds.
//!
//! Each policy goes from a model by its YAML through the parser and the compiler to the code that the kernel
//! runs. `PORTGUARD_SEED` repeats a run, `PORTGUARD_CASES` sets the number of policies.

use portguard_itest::convert::{decided, oracle_outcome, parsed, tables_of, tables_outcome};
use portguard_itest::generate::{GeneratorConfig, case, model, sparse_case};
use portguard_itest::oracle::{Action, Model, OracleBind, Proto, rules_yaml};
use portguard_itest::seed::{cases, runner};
use portguard_policy::analysis::lint::{Host, findings};
use portguard_policy::compile::compile;
use portguard_policy::policy::StaticNames;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::time::Instant;

/// Binds tried under each policy.
const BINDS: usize = 128;

fn agree(model: &Model, binds: &[OracleBind]) -> Result<(), TestCaseError> {
    let tables = tables_of(model);
    for bind in binds {
        let (actual, expected) = (tables_outcome(&tables, bind), oracle_outcome(model, bind));
        prop_assert_eq!(actual, expected, "{:?} under\n{}", bind, model.to_yaml());
    }
    Ok(())
}

/// Checks a property on this many cases from the printed seed.
fn check<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let start = Instant::now();
    let (seed, mut runner) = runner(cases);
    println!("{name}: {cases} policies, PORTGUARD_SEED={seed}");
    if let Err(failure) = runner.run(&strategy, property) {
        panic!("{name}: repeat with PORTGUARD_SEED={seed}\n{failure}");
    }
    println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
}

#[test]
fn compiled_decisions_equal_the_oracle() {
    let tried = std::cell::Cell::new(0usize);
    let decided = std::cell::Cell::new(0usize);
    let by_rule = std::cell::Cell::new(0usize);
    check(
        "small policies",
        cases(1000),
        case(&GeneratorConfig::wide(), 0..=24, BINDS),
        |(model, binds)| {
            let decisions = || binds.iter().filter_map(|bind| model.decide(bind));
            tried.set(tried.get() + binds.len());
            decided.set(decided.get() + decisions().count());
            by_rule.set(by_rule.get() + decisions().filter(|a| a.rule.is_some()).count());
            agree(&model, &binds)
        },
    );
    let (tried, decided, by_rule) = (tried.get(), decided.get(), by_rule.get());
    println!("{tried} binds, {decided} of protected ports, {by_rule} decided by a rule");
    // A generator whose binds miss all rules proves nothing.
    assert!(decided * 3 > tried, "most binds miss the protected ports");
    assert!(by_rule * 3 > decided, "most binds miss every rule");
}

/// A rule that lint finds unreachable must be. (It need not find every such rule.)
#[test]
fn unreachable_rule_never_decides() {
    let found = std::cell::Cell::new(0usize);
    check(
        "unreachable rules",
        cases(1000).div_ceil(5),
        case(&GeneratorConfig::wide(), 4..=40, BINDS),
        |(model, binds)| {
            let policy = parsed(&model.to_yaml()).policy;
            for finding in findings(&policy, &Host::ANY) {
                let Some(unreachable) = finding.unreachable_rule() else {
                    continue;
                };
                found.set(found.get() + 1);
                for bind in binds.iter().filter(|bind| bind.is_analysed()) {
                    let deciding = model.decide(bind).and_then(|decision| decision.rule);
                    prop_assert_ne!(deciding, Some(unreachable), "{:?}: {}", bind, finding);
                }
            }
            Ok(())
        },
    );
    println!("{} rules found unreachable", found.get());
    assert!(found.get() > 50, "hardly any rule is found unreachable");
}

/// The files of a directory are read in byte order: rules are appended, `protect` is united, the last value of
/// another setting wins.
#[test]
fn directory_of_files_is_one_policy() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (first, last) = (
        directory.path().join("10-first.yaml"),
        directory.path().join("9-last.yaml"),
    );
    check(
        "policies of two files",
        cases(1000).div_ceil(10),
        (
            case(&GeneratorConfig::wide(), 2..=24, BINDS),
            model(&GeneratorConfig::wide(), 0..=0),
        ),
        |((model, binds), overridden)| {
            let (head, tail) = model.rules.split_at(model.rules.len() / 2);
            let text = |settings: &Model, rules| settings.settings_yaml() + &rules_yaml(rules);
            std::fs::write(&first, text(&overridden, head)).expect("to write");
            std::fs::write(&last, text(&model, tail)).expect("to write");
            let loaded = portguard_policy::policy::load(
                &[directory.path().to_owned()],
                &StaticNames::default(),
            )
            .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
            let tables = compile(&loaded.policy).expect("within the limits");
            let protect = [overridden.protect, model.protect.clone()].concat();
            let model = Model { protect, ..model };
            for bind in &binds {
                prop_assert_eq!(tables_outcome(&tables, bind), oracle_outcome(&model, bind));
            }
            Ok(())
        },
    );
}

#[test]
fn compiled_decisions_equal_the_oracle_with_rules_in_many_words() {
    check(
        "policies of hundreds of rules",
        cases(1000).div_ceil(25),
        case(
            &GeneratorConfig {
                patterns: false,
                ..GeneratorConfig::wide()
            },
            65..=700,
            4 * BINDS,
        ),
        |(model, binds)| agree(&model, &binds),
    );
}

#[test]
fn compiled_decisions_equal_the_oracle_where_late_rules_decide() {
    let late = std::cell::Cell::new(0usize);
    check(
        "policies of thousands of rules",
        cases(1000).div_ceil(50),
        sparse_case(600..=4096, 4 * BINDS),
        |(model, binds)| {
            let deciding = binds.iter().filter_map(|bind| model.decide(bind)?.rule);
            let numbers =
                deciding.filter_map(|name| name.strip_prefix("rule-")?.parse::<usize>().ok());
            late.set(late.get() + numbers.filter(|number| *number >= 512).count());
            agree(&model, &binds)
        },
    );
    println!("{} binds decided by rule 512 or a later one", late.get());
    assert!(late.get() > 500, "late rules hardly ever decide");
}

#[test]
fn protected_ports_are_those_of_the_policy() {
    check(
        "protected ports",
        cases(1000).div_ceil(20),
        model(&GeneratorConfig::wide(), 0..=8),
        |model| {
            let tables = tables_of(&model);
            for port in 0..=u16::MAX {
                for proto in Proto::ALL {
                    let bind = OracleBind {
                        port,
                        protocol: proto,
                        uid: 0,
                        euid: 0,
                        cgroup: Vec::new(),
                        gid: 0,
                        egid: 0,
                        groups: Vec::new(),
                        owners: Vec::new(),
                        address: [127, 0, 0, 1].into(),
                        v6only: false,
                    };
                    let decided = decided(&tables, &bind).is_some();
                    prop_assert_eq!(decided, model.decide(&bind).is_some(), "{:?}", bind);
                }
            }
            Ok(())
        },
    );
}

#[test]
fn digest_depends_on_content_only() {
    check(
        "digests",
        cases(1000).div_ceil(5),
        model(&GeneratorConfig::wide(), 1..=12),
        |model| {
            let policy = parsed(&model.to_yaml()).policy;
            let digest = compile(&policy).unwrap().digest;
            prop_assert_eq!(
                digest,
                compile(&policy).unwrap().digest,
                "the same policy twice"
            );
            let mut other = model.clone();
            other.enforce = !other.enforce;
            prop_assert_ne!(digest, tables_of(&other).digest, "another mode");
            let mut other = model.clone();
            let last = other.rules.last_mut().unwrap();
            last.action = match last.action {
                Action::Deny => Action::Kernel,
                Action::Allow | Action::Kernel => Action::Deny,
            };
            last.errno = None;
            prop_assert_ne!(digest, tables_of(&other).digest, "another action");
            let mut other = model;
            other.rules[0].name.push_str("-renamed");
            prop_assert_ne!(digest, tables_of(&other).digest, "another name");
            Ok(())
        },
    );
}
