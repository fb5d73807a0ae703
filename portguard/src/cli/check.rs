//! `portguard check`: are these policy files good, and do their tests hold?

use super::{Exit, counted};
use crate::compile::{Bind, Tables, compile};
use crate::policy::Expectation;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_long_help = "Example:\n  portguard check /etc/portguard/policies")]
pub(super) struct Args {
    /// Policy files, or directories of them; together they are one policy
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// # Errors
/// Where the policy is too large to compile.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Some(policy) = super::load(&args.paths) else {
        return Ok(Exit::NotSo);
    };
    let tables = compile(&policy, 1)?;
    let failures: Vec<String> = policy
        .tests
        .iter()
        .filter_map(|test| failure(&tables, test))
        .collect();
    for failure in &failures {
        eprintln!("{failure}");
    }
    println!(
        "policy {}: {}, {}, {} of {} tests hold",
        tables.short_digest(),
        counted(tables.rule_count(), "rule"),
        counted(tables.user_count(), "user"),
        policy.tests.len() - failures.len(),
        policy.tests.len(),
    );
    Ok(if failures.is_empty() {
        Exit::Success
    } else {
        Exit::NotSo
    })
}

/// What a test of the policy got instead, or `None` where it holds.
fn failure(tables: &Tables, test: &Expectation) -> Option<String> {
    let cgroup: Vec<&str> = test.cgroup.iter().map(String::as_str).collect();
    let decision = tables.decide(&Bind::of_test(test, &cgroup));
    let place = &test.place;
    let at = format!("{}:{}:{}", place.file.display(), place.line, place.column);
    let bind = format!(
        "{} binding {}/{} in /{}",
        test.user_text,
        test.protocol.as_str(),
        test.port,
        test.cgroup.join("/")
    );
    let Some(decision) = decision else {
        return Some(format!(
            "{at}: {bind}: port {} is not in `protect`, so nothing is decided",
            test.port
        ));
    };
    let rule = tables.rule_name(decision.rule);
    let by = rule.map_or("the default".into(), |rule| format!("rule {rule}"));
    let wrong_rule = test
        .rule
        .as_deref()
        .is_some_and(|wanted| Some(wanted) != rule);
    if decision.verdict != test.expect || wrong_rule {
        let wanted = match &test.rule {
            Some(rule) => format!("{} by rule {rule}", test.expect.as_str()),
            None => test.expect.as_str().to_owned(),
        };
        return Some(format!(
            "{at}: {bind}: expected {wanted}, got {} by {by}",
            decision.verdict.as_str()
        ));
    }
    None
}
